// The lab, step by step in a real browser: node lab/run.mjs ADDRESS-WITH-TOKEN FOLDER [--rogue-by-input].
// Prints one JSON line per step; a step that doesn't hold ends it with exit code 1.
import { mkdir } from "node:fs/promises";
import { axe as axeOn, inside as insideOn, launch, must, reachable, says as saysOn, watch } from "./browser.mjs";

const [address, folder, ...flags] = process.argv.slice(2);
const byInput = flags.includes("--rogue-by-input");
const browser = await launch();
const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, reducedMotion: "reduce", acceptDownloads: true });
context.setDefaultTimeout(15000);
const page = await context.newPage();
const origin = new URL(address).origin;
const { outside, faults } = watch(page, origin);
await mkdir(folder, { recursive: true });

let number = 0;
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
const axe = (view) => axeOn(page, view);
const inside = (selector) => insideOn(page, selector);
const chooser = (label) => page.getByRole("combobox", { name: label, exact: true });
const button = (name, exact = true) => page.getByRole("button", { name, exact });
const input = () => new Promise((resolve) => process.stdin.once("data", resolve));
const says = (name, holds, otherwise) => saysOn(page, name, holds, otherwise);
const STOREFRONT = ["backend", "frontend", "logging", "microservice1", "microservice2"];

await step("flow-visualizer", async () => {
  await page.goto(address);
  await page.waitForSelector(".circle .chord");
  must(!page.url().includes("token"), "the token stays in the address");
  // The storefront's own flows come within two windows.
  await page.waitForFunction(() => document.querySelector('.rings [data-level="namespace"][data-key="storefront"]') !== null, null, { timeout: 60000 });
  return { chords: await page.locator(".chords").getAttribute("data-chords"), axe: await axe("flows") };
});
await step("hover-fills-dropdowns", async () => {
  const at = await inside('.rings [data-level="namespace"][data-key="storefront"]');
  await page.mouse.move(at.x, at.y);
  await page.waitForSelector(".lit .chord");
  must((await chooser("Namespace").inputValue()) === "storefront", "hover doesn't fill the drop-down");
  must((await page.locator(".tip").innerText()).includes("storefront"), "no words beside the pointer");
});
await step("storefront-zoomed", async () => {
  const at = await inside('.rings [data-level="namespace"][data-key="storefront"]');
  await page.mouse.click(at.x, at.y);
  await button("Zoom in on the selection").click();
  await says("z_namespace", /^storefront$/, "zoom isn't in the address");
  await page.waitForFunction((names) => names.every((name) => document.querySelector(`.rings [data-level="name"][data-key^="storefront:${name}-"]`) !== null), STOREFRONT, { timeout: 60000 });
});
await step("one-name-and-its-flows", async () => {
  const key = await page.locator('.rings [data-level="name"][data-key^="storefront:backend-"]').first().getAttribute("data-key");
  await chooser("Name").selectOption(key);
  await page.waitForFunction(() => document.querySelectorAll(".traffic tr.sum").length >= 3);
  await page.waitForSelector(".endpoint .applied li");
  return { key, policies: await page.locator(".endpoint h2").innerText(), axe: await axe("one name") };
});
await step("names-view", async () => {
  await button("Reset zoom and selection").click();
  await button("Names").click();
  await says("mode", /^names$/, "mode isn't in the address");
  await page.locator("label", { hasText: "Thickness" }).locator("select").selectOption("bytes");
  await says("volume", /^bytes$/, "the measure isn't in the address");
  await page.screenshot({ path: `${folder}/names-by-bytes.png` });
  await page.locator("label", { hasText: "Thickness" }).locator("select").selectOption("connections");
});
await step("status-view", async () => {
  await button("Status").click();
  await page.waitForFunction(() => [...document.querySelectorAll(".chord")].every((each) => (each.getAttribute("fill") ?? each.getAttribute("stroke")).match(/^(url\(#status-|var\(--)/)));
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
  await page.waitForFunction((names) => {
    const rows = [...document.querySelectorAll(".traffic tbody")].find((each) => each.textContent.startsWith("Denied") || each.querySelector(".sum")?.textContent.includes(":rogue-"));
    return rows !== undefined && names.every((name) => rows.textContent.includes(`storefront:${name}-`));
  }, STOREFRONT, { timeout: 60000 });
  const keys = await page.locator(".chords .chord").evaluateAll((all) => all.map((each) => each.getAttribute("data-key")));
  const targets = new Set(keys.filter((key) => key.includes(":rogue-")).map((key) => key.split("|")[1]));
  must(targets.size >= 5, `rogue is denied to ${targets.size} names`);
  return { keys, axe: await axe("denied") };
});
await step("why-denied", async () => {
  const key = await page.locator('.chords .chord[data-key*=":rogue-"][data-key*=":microservice1-"]').first().getAttribute("data-key");
  await chooser("Flow").selectOption(key);
  await page.waitForSelector(".hits");
  const words = await page.locator(".detail").innerText();
  must(/default\.trusted/.test(words) && /ingress rule 2/.test(words), `explanation: ${words}`);
  return { words: words.slice(0, 400), axe: await axe("flow detail"), controls: await reachable(page, "flow visualizer") };
});
await step("path-on-the-board", async () => {
  await button("Follow it across the board").click();
  await page.waitForSelector(".tile.on-path.action-deny");
  await page.waitForSelector(".path-overlay .way");
  const denying = await page.locator(".tile.on-path.action-deny").getAttribute("data-tile");
  must(denying === "storefront/default.trusted", `the path ends at ${denying}`);
  return { onPath: await page.locator(".tile.on-path").count(), axe: await axe("followed") };
});
await step("back-works", async () => {
  await page.goBack();
  await page.waitForSelector(".circle");
  await says("flow", /:/, "back doesn't restore the selection");
});
await step("filter-bar", async () => {
  await button(/^Filter:/, false).click();
  await page.waitForFunction(() => [...document.querySelectorAll("#suggest-values option")].some((each) => each.value === "storefront"));
  await page.waitForFunction(() => [...document.querySelectorAll('[id="suggest-dest_labels.labels"] option')].some((each) => each.value === "fw-zone=trusted"));
  await page.getByLabel("Destination labels: selector").fill("fw-zone=trusted");
  await page.getByLabel("Destination labels: selector").press("Enter");
  await page.getByLabel("Destination labels: selector").fill("fw-zone=restricted");
  await page.getByLabel("Destination labels: selector").press("Enter");
  await page.locator("fieldset", { hasText: "Destination labels" }).getByLabel("Match all").uncheck();
  await page.getByLabel("Network", { exact: true }).first().uncheck();
  await button("1h").click();
  await page.screenshot({ path: `${folder}/filter-bar-open.png` });
  const found = { axe: await axe("filter form"), controls: await reachable(page, "filter form") };
  await button("Filter").click();
  await page.waitForFunction(() => document.querySelectorAll(".chord").length > 0);
  const line = await button(/^Filter:/, false).innerText();
  must(line.includes('"trusted" or fw-zone') && line.includes("1 hour ago"), line);
  return { line, ...found };
});
await step("policy-board", async () => {
  await page.getByRole("link", { name: "Policy Board" }).click();
  await page.waitForSelector(".tile");
  const tiers = await page.locator(".tier h2").allInnerTexts();
  must(tiers.at(-1) === "default", tiers.join());
  must((await page.locator(".tile.nopolicy").count()) === 1, "no No Policy Traffic");
  return { tiers, axe: await axe("board"), controls: await reachable(page, "board") };
});
await step("policy-board-show-all", async () => {
  await button("What tiles show").click();
  await page.screenshot({ path: `${folder}/eye-menu.png` });
  const menu = await axe("eye menu");
  await button("Show All").click();
  await page.keyboard.press("Escape");
  await page.waitForSelector(".tile .metrics .in");
  must((await page.locator(".popup").count()) === 0, "Escape doesn't close the menu");
  return { menu, axe: await axe("board, all") };
});
await step("policy-board-filtered", async () => {
  await button("Denying traffic").click();
  await page.waitForFunction(() => document.querySelectorAll(".tile[data-tile]:not(.nopolicy)").length > 0 && document.querySelector('.tile[data-tile="security.quarantine"]') === null);
  await button("Denying traffic").click();
  await page.getByLabel("Filter policies by name or namespace").fill("trust");
  await page.waitForFunction(() => document.querySelectorAll("mark").length >= 1);
  await page.getByLabel("Filter policies by name or namespace").fill("");
});
await step("policy-board-list", async () => {
  await button("List").click();
  await page.waitForSelector(".list tbody tr");
  return { rows: await page.locator(".list tbody tr").count(), axe: await axe("board as a list") };
});
await step("policy-trusted", async () => {
  await button("Columns").click();
  await page.locator(".tile:not(.staged)").getByRole("button", { name: "trusted", exact: true }).click();
  await page.waitForSelector('[data-rule="ingress-2"] .denied tbody tr');
  const denied = await page.locator('[data-rule="ingress-2"] .stat-denied .line').first().innerText();
  must(/\d/.test(denied) && !/sec\s+0 ↓/.test(denied), `denied on rule 2: ${denied}`);
  must((await page.locator('[data-rule="ingress-0"] .stat-denied .na').count()) === 4, "an allow rule has no n/a");
  return { denied, axe: await axe("policy"), controls: await reachable(page, "policy") };
});
await step("who-is-denied-to-logs", async () => {
  await button(/^Flow logs from storefront:rogue/, false).first().click();
  await page.waitForSelector(".logs .list tbody tr");
});
await step("flow-logs-both-namespaces", async () => {
  await page.getByRole("link", { name: "Flow Logs" }).click();
  await page.waitForSelector(".logs .list tbody tr");
  await button("Pause live tail").click();
  for (const end of ["source", "dest"]) {
    const wanted = button(`Filter for ${end}_namespace storefront`).first();
    await wanted.focus();
    await wanted.press("Enter");
  }
  await page.waitForFunction(() => {
    const rows = [...document.querySelectorAll(".logtable > .list > tbody > tr:not(.expanded)")];
    return rows.length > 0 && rows.every((row) => [6, 8].every((at) => row.querySelectorAll("td")[at].textContent.startsWith("storefront")));
  });
  return { axe: await axe("logs") };
});
await step("flow-log-entry", async () => {
  await button("Every field of this flow log").first().click();
  const fields = await page.locator(".fields tbody tr").count();
  must(fields > 30, `${fields} fields`);
  const explained = await page.locator(".fields th[scope=row][title]").evaluateAll((all) => all.filter((each) => each.title.length > 8).length);
  must(explained === fields, `${explained} of ${fields} fields are explained`);
  return { fields, axe: await axe("log entry") };
});
await step("flow-log-json", async () => {
  await button("JSON").click();
  const text = await page.getByLabel("The flow log as JSON").innerText();
  must(Object.keys(JSON.parse(text)).length > 30, text.slice(0, 200));
  return { axe: await axe("log entry as JSON") };
});
await step("sort-and-columns", async () => {
  await button(/^num_flows/, false).click();
  await page.waitForFunction(() => document.querySelector('th[aria-sort="descending"]')?.textContent.startsWith("num_flows"));
  await button("Columns").click();
  await page.getByLabel("handshake_rtt_mean_us").check();
  const menu = await axe("column chooser");
  await page.keyboard.press("Escape");
  await says("columns", /handshake_rtt_mean_us$/, "chosen columns aren't in the address");
  await page.getByText("As a table").click();
  return { menu, axe: await axe("histogram as a table") };
});
await step("exports", async () => {
  const [csv, lines] = await page.evaluate(() => Promise.all(["csv", "jsonl"].map(async (form) => {
    const query = new URLSearchParams(location.search);
    for (const name of ["tail", "sort", "columns"]) query.delete(name);
    return (await (await fetch(`/api/v1/flow-logs/export?format=${form}&${query}`)).text()).trim().split("\n").length;
  })));
  must(csv > 10 && Math.abs(csv - 1 - lines) <= 20, `${csv} rows, ${lines} lines`);
  return { csv, lines };
});
await step("keyboard-only", async () => {
  await page.goto(`${origin}/flows`);
  await page.waitForSelector(".circle .chord");
  await page.locator(".circle").focus();
  for (const key of ["ArrowRight", "ArrowDown", "ArrowRight", "Enter"]) await page.keyboard.press(key);
  await says("name", /:/, "Enter selects nothing");
  await page.keyboard.press("+");
  await says("z_name", /:/, "plus doesn't zoom");
});
await step("transitions-keep-identity", async () => {
  // How many shapes one and the same arc takes on the way into a zoom, on a page whose time stands still between frames:
  // how many are drawn doesn't hang on how quick the machine is.
  const shapes = async (reducedMotion) => {
    const apart = await browser.newContext({ storageState: await context.storageState(), reducedMotion }); // the clock is a context's
    const other = await apart.newPage();
    await other.clock.install();
    await other.goto(`${origin}/flows?namespace=storefront`);
    const arc = await other.waitForSelector('.rings [data-key="acme"]');
    await other.clock.pauseAt(Date.now() + 60_000);
    const begin = await arc.getAttribute("d");
    const seen = new Set([begin]);
    await other.evaluate(() => document.querySelector('[aria-label="Zoom in on the selection"]').click());
    const limit = Date.now() + 15_000;
    for (let still = 0, last = begin; seen.size === 1 || still < 20; still += 1) {
      must(Date.now() < limit, "an arc doesn't come to rest");
      await other.clock.runFor(16);
      const now = await arc.getAttribute("d");
      if (now !== last) still = 0;
      seen.add(now);
      last = now;
    }
    const kept = await arc.evaluate((each) => each.isConnected);
    await apart.close();
    return kept ? seen.size : 0;
  };
  const [moving, still] = [await shapes("no-preference"), await shapes("reduce")];
  must(moving > 20, `an arc takes ${moving} shapes on its way`);
  must(still === 2, `with less motion asked for, an arc takes ${still} shapes`);
  return { moving, still };
});
await step("status-with-the-rogue", async () => {
  await page.goto(`${origin}/flows?mode=status`);
  await page.waitForSelector('.chords .chord[data-key*=":rogue-"]');
});
for (const [name, path, ready] of [
  ["dark-flows", "/flows?mode=status", ".circle .chord"],
  ["dark-board", "/board?show=Namespace,Endpoints,Connections,Allowed,Denied,Passed", ".tile .metrics"],
  ["dark-policy", "/policy?id=storefront%2Fdefault.trusted", "[data-rule]"],
  ["dark-logs", "/logs", ".logs .list tbody tr"],
]) {
  await step(name, async () => {
    await page.goto(origin + path);
    if ((await page.evaluate(() => localStorage.getItem("theme"))) !== "dark") {
      await button(/^System theme/, false).click();
      await button(/^Light theme/, false).click();
    }
    await page.waitForSelector(ready);
  });
}
await step("nothing-here", async () => {
  await page.goto(`${origin}/flows?from=1000&to=2000`);
  await page.waitForSelector(".empty");
  return { words: await page.locator(".empty").innerText(), axe: await axe("empty") };
});
await step("server-away", async () => {
  await page.route("**/api/v1/live", (route) => route.abort());
  await page.goto(`${origin}/flows`);
  await page.waitForSelector(".lost");
  await page.waitForSelector(".circle .chord");
  const found = await axe("server away");
  await page.screenshot({ path: `${folder}/not-live.png` });
  const asked = page.waitForRequest("**/api/v1/flows*");
  await page.unroute("**/api/v1/live");
  await asked;
  await page.waitForSelector(".lost", { state: "detached" });
  faults.splice(0, faults.length, ...faults.filter((each) => !each.includes("ERR_FAILED")));
  return { axe: found };
});
await step("session-ended", async () => {
  await page.evaluate(() => fetch("/api/v1/session", { method: "DELETE", headers: { "x-tierflow-csrf": "1" } }));
  await page.getByRole("link", { name: "Policy Board" }).click();
  await page.waitForSelector(".fault");
  const words = await page.locator(".fault").first().innerText();
  must(words.includes("console.url"), words);
  await page.waitForSelector(".lost");
  // The refused questions are what this step asks for.
  faults.splice(0, faults.length, ...faults.filter((each) => !each.includes("401")));
  return { words, axe: await axe("session ended") };
});
must(outside.length === 0, `requests left the origin: ${outside}`);
console.log(JSON.stringify({ done: true, outside: outside.length, faults }));
await browser.close();
process.exit(faults.length === 0 ? 0 : 1);
