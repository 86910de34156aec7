// The lab, step by step in a real browser: node lab/run.mjs ADDRESS-WITH-TOKEN FOLDER [--rogue-by-input].
// Prints one JSON line per step; a step that doesn't hold ends it with exit code 1.
import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [address, folder, ...flags] = process.argv.slice(2);
const byInput = flags.includes("--rogue-by-input");
const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, reducedMotion: "reduce", acceptDownloads: true });
context.setDefaultTimeout(10000);
const page = await context.newPage();
const origin = new URL(address).origin;
const outside = [];
const faults = [];
page.on("request", (request) => { if (!request.url().startsWith(origin)) outside.push(request.url()); });
page.on("pageerror", (error) => faults.push(String(error)));
page.on("console", (message) => { if (message.type() === "error") faults.push(message.text()); });
await mkdir(folder, { recursive: true });

let number = 0;
function must(holds, what) {
  if (!holds) throw new Error(what);
}
async function step(name, act) {
  number += 1;
  try {
    const seen = await act();
    await page.screenshot({ path: `${folder}/${String(number).padStart(2, "0")}-${name}.png` });
    console.log(JSON.stringify({ step: name, ok: true, seen }));
  } catch (error) {
    await page.screenshot({ path: `${folder}/failed-${name}.png` });
    console.log(JSON.stringify({ step: name, ok: false, error: String(error).slice(0, 1500), faults }));
    await browser.close();
    process.exit(1);
  }
}
const axe = async (view) => {
  // The policy on content forbids injected script tags, so axe is evaluated through the debugger's own world.
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter((each) => ["serious", "critical"].includes(each.impact));
  must(serious.length === 0, `${view}: ${JSON.stringify(serious.map((each) => [each.id, each.nodes.slice(0, 3).map((node) => node.html.slice(0, 160) + node.failureSummary?.slice(0, 200))]))}`);
  return violations.map((each) => each.id);
};
const chooser = (label) => page.getByRole("combobox", { name: label, exact: true });
// A point inside an arc: its bounding box's middle lies outside of it.
const inside = (selector) => page.locator(selector).first().evaluate((path) => {
  const box = path.getBBox();
  for (let x = 0.5; x < 40; x += 1) for (let y = 0.5; y < 40; y += 1) {
    const point = new DOMPoint(box.x + (box.width * x) / 40, box.y + (box.height * y) / 40);
    if (path.isPointInFill(point)) { const at = point.matrixTransform(path.getScreenCTM()); return { x: at.x, y: at.y }; }
  }
  return null;
});
const input = () => new Promise((resolve) => process.stdin.once("data", resolve));

await step("flow-visualizer", async () => {
  await page.goto(address);
  await page.waitForSelector(".circle .chord");
  must(!page.url().includes("token"), "the token stays in the address");
  const storefront = await page.locator('.rings [data-level="namespace"][data-key="storefront"]').count();
  must(storefront === 1, "no storefront namespace in the outer ring");
  return { chords: await page.locator(".chords .chord").count(), axe: await axe("flows") };
});
await step("hover-fills-dropdowns", async () => {
  const at = await inside('.rings [data-level="namespace"][data-key="storefront"]');
  await page.mouse.move(at.x, at.y);
  await page.waitForSelector(".lit .chord");
  must((await chooser("Namespace").inputValue()) === "storefront", "hover doesn't fill the drop-down");
});
await step("storefront-zoomed", async () => {
  const at = await inside('.rings [data-level="namespace"][data-key="storefront"]');
  await page.mouse.click(at.x, at.y);
  await page.getByRole("button", { name: "Zoom in on the selection" }).click();
  must(new URL(page.url()).searchParams.get("z_namespace") === "storefront", "zoom isn't in the address");
  const names = await page.locator('.rings [data-level="name"][data-key^="storefront:"]').count();
  must(names >= 5, `only ${names} names of storefront`);
  return { names };
});
await step("one-name-and-its-flows", async () => {
  const key = await page.locator('.rings [data-level="name"][data-key^="storefront:backend-"]').first().getAttribute("data-key");
  await chooser("Name").selectOption(key);
  const sources = await page.locator(".traffic tr.sum").count();
  must(sources >= 3, "backend lacks its sources");
  return { key, sources };
});
await step("names-view", async () => {
  await page.getByRole("button", { name: "Reset zoom and selection" }).click();
  await page.getByRole("button", { name: "Names", exact: true }).click();
  must(new URL(page.url()).searchParams.get("mode") === "names", "mode isn't in the address");
});
await step("status-view", async () => {
  await page.getByRole("button", { name: "Status", exact: true }).click();
  await page.waitForFunction(() => [...document.querySelectorAll(".chord")].every((each) => each.getAttribute("fill").startsWith("url(#status-")));
});
await step("rogue-deployed", async () => {
  if (byInput) {
    console.log(JSON.stringify({ want: "rogue" }));
    await input();
  }
  await page.waitForFunction(() => document.querySelector('.rings [data-level="name"][data-key*=":rogue-"]') !== null, null, { timeout: 90000 });
});
await step("status-denied-five-flows", async () => {
  await chooser("Status").selectOption("denied");
  const wanted = ["backend", "frontend", "logging", "microservice1", "microservice2"];
  await page.waitForFunction((names) => {
    const text = [...document.querySelectorAll(".traffic tr.sub")].map((row) => row.textContent).join(" ");
    return names.every((name) => text.includes(`storefront:${name}-`));
  }, wanted, { timeout: 60000 });
  const keys = await page.locator(".chords .chord").evaluateAll((all) => all.map((each) => each.getAttribute("data-key")));
  const rogue = new Set(keys.filter((key) => key.includes(":rogue-")).map((key) => key.split("|")[1]));
  must(rogue.size >= 5, `rogue is denied to ${rogue.size} names`);
  return { keys };
});
await step("why-denied", async () => {
  const key = await page.locator('.chords .chord[data-key*=":rogue-"][data-key*=":microservice1-"]').first().getAttribute("data-key");
  await chooser("Flow").selectOption(key);
  await page.waitForSelector(".hits");
  const words = await page.locator(".detail").innerText();
  must(/default\.trusted/.test(words) && /ingress rule 2/.test(words), `explanation: ${words}`);
  await page.locator(".detail").scrollIntoViewIfNeeded();
  return { words: words.slice(0, 300), axe: await axe("flow detail") };
});
await step("path-on-the-board", async () => {
  await page.getByRole("button", { name: "Follow it across the board" }).click();
  await page.waitForSelector(".tile.on-path");
  return { onPath: await page.locator(".tile.on-path").count() };
});
await step("back-works", async () => {
  await page.goBack();
  await page.waitForSelector(".circle");
});
await step("filter-bar", async () => {
  await page.getByRole("button", { name: /^Filter:/ }).click();
  await page.getByLabel("Destination labels: selector").fill("fw-zone=trusted");
  await page.getByLabel("Network", { exact: true }).first().uncheck();
  await page.getByRole("button", { name: "1h", exact: true }).click();
  await page.screenshot({ path: `${folder}/filter-bar-open.png` });
  await axe("filter form");
  await page.getByRole("button", { name: "Filter", exact: true }).click();
  await page.waitForFunction(() => document.querySelectorAll(".chord").length > 0);
  const line = await page.getByRole("button", { name: /^Filter:/ }).innerText();
  must(line.includes("trusted") && line.includes("1 hour ago"), line);
  return { line };
});
await step("policy-board", async () => {
  await page.getByRole("link", { name: "Policy Board" }).click();
  await page.waitForSelector(".tile");
  const tiers = await page.locator(".tier h2").allInnerTexts();
  must(tiers.at(-1) === "default", tiers.join());
  return { tiers, axe: await axe("board") };
});
await step("policy-board-show-all", async () => {
  await page.getByRole("button", { name: "What tiles show" }).click();
  await page.getByRole("button", { name: "Show All" }).click();
  await page.keyboard.press("Escape");
  await page.waitForSelector(".tile .metric .in");
  return { axe: await axe("board, all") };
});
await step("policy-trusted", async () => {
  await page.locator(".tile:not(.staged)").getByRole("button", { name: "trusted", exact: true }).click();
  await page.waitForSelector('[data-rule="ingress-2"]');
  const denied = await page.locator('[data-rule="ingress-2"] .stat-denied .line').first().innerText();
  must(!/^packets\/sec\s+0 ↓/.test(denied) && /\d/.test(denied), `denied on rule 2: ${denied}`);
  return { denied, axe: await axe("policy") };
});
await step("who-is-denied-to-logs", async () => {
  await page.getByRole("button", { name: /^Flow logs from storefront:rogue/ }).first().click();
  await page.waitForSelector(".logs .list tbody tr");
});
await step("flow-logs-both-namespaces", async () => {
  await page.getByRole("link", { name: "Flow Logs" }).click();
  await page.waitForSelector(".logs .list tbody tr");
  await page.getByRole("button", { name: "Filter for source_namespace storefront" }).first().focus();
  await page.getByRole("button", { name: "Filter for source_namespace storefront" }).first().press("Enter");
  await page.getByRole("button", { name: "Filter for dest_namespace storefront" }).first().focus();
  await page.getByRole("button", { name: "Filter for dest_namespace storefront" }).first().press("Enter");
  await page.waitForFunction(() => [...document.querySelectorAll(".logs > .scroll > .list > tbody > tr:not(.expanded)")].every((row) => row.querySelectorAll("td")[5].textContent.startsWith("storefront") && row.querySelectorAll("td")[7].textContent.startsWith("storefront")));
  return { axe: await axe("logs") };
});
await step("flow-log-entry", async () => {
  await page.getByRole("button", { name: "Pause live tail" }).click();
  await page.getByRole("button", { name: "Every field of this flow log" }).first().click();
  const fields = await page.locator(".fields tr").count();
  must(fields > 30, `${fields} fields`);
  return { fields, axe: await axe("log entry") };
});
await step("exports", async () => {
  const rows = await page.evaluate(async () => (await (await fetch(`/api/v1/flow-logs/export?format=csv&${location.search.slice(1).replace(/tail=off&?/, "")}`)).text()).trim().split("\n").length);
  must(rows > 10, `${rows} rows`);
  return { rows };
});
await step("keyboard-only", async () => {
  await page.goto(`${origin}/flows`);
  await page.waitForSelector(".circle .chord");
  await page.locator(".circle").focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  must(new URL(page.url()).searchParams.get("name") !== null, "Enter selects nothing");
  await page.keyboard.press("+");
  must(new URL(page.url()).searchParams.get("z_name") !== null, "plus doesn't zoom");
});
await step("dark", async () => {
  await page.goto(`${origin}/flows?mode=status`);
  await page.getByRole("button", { name: /^Theme/ }).click();
  await page.waitForSelector(".circle .chord");
  return { axe: await axe("dark") };
});
must(outside.length === 0, `requests left the origin: ${outside}`);
console.log(JSON.stringify({ done: true, outside: outside.length, faults }));
await browser.close();
process.exit(faults.length === 0 ? 0 : 1);
