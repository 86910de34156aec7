// What a reader sees of every view at several widths, and what mustn't move or mislead: node lab/layout.mjs ADDRESS-WITH-TOKEN.
import { launch, must, watch } from "./browser.mjs";

const [address] = process.argv.slice(2);
const browser = await launch();
const page = await browser.newPage({ reducedMotion: "reduce" });
page.setDefaultTimeout(15000);
const origin = new URL(address).origin;
const { faults } = watch(page, origin);
const chooser = (label) => page.getByRole("combobox", { name: label, exact: true });
const button = (name, exact = true) => page.getByRole("button", { name, exact });
const VIEWS = [
  ["flows", "/flows", ".circle .chord"],
  ["a name", "/flows?mode=status&namespace=storefront", ".traffic .sub"],
  ["board", "/board?show=Namespace,Endpoints,Connections,Allowed,Denied,Passed", ".tile .metrics"],
  ["board as a list", "/board?layout=list", ".boardlist tbody tr"],
  ["policy", "/policy?id=storefront%2Fdefault.trusted", '[data-rule="ingress-2"] .denied tbody tr'],
  ["logs", "/logs", ".logtable tbody tr"],
];
async function visit(path, ready) {
  await page.goto(origin + path);
  await page.waitForSelector(ready);
  // Another font's widths would break lines elsewhere.
  await page.evaluate(() => document.fonts.ready.then(() => true));
}

await page.goto(address);
for (const [width, height] of [[390, 844], [1024, 700], [1440, 900]]) {
  await page.setViewportSize({ width, height });
  for (const [view, path, ready] of VIEWS) {
    await visit(path, ready);
    if (view === "logs") await button("Every field of this flow log").first().click();
    const wide = await page.evaluate(() => [document.documentElement, document.querySelector("main")].map((each) => each.scrollWidth - each.clientWidth));
    must(wide.every((each) => each <= 0), `${view} at ${width}: wider than the window by ${wide}`);
    const cut = await page.evaluate(() => [...document.querySelectorAll("header a, header button, .filterline button, .boardbar :is(button, input, select), .logbar :is(a, button), .toolbar button, .tabs button, .fields td")].filter((each) => {
      const box = each.getBoundingClientRect();
      return box.width > 0 && !each.matches(".skip") && (box.left < 0 || box.right > innerWidth + 0.5 || box.width < 12);
    }).map((each) => each.outerHTML.slice(0, 90)));
    must(cut.length === 0, `${view} at ${width}: cut off: ${cut.slice(0, 3)}`);
  }
  await visit("/flows", ".circle .chord");
  await button(/^Filter:/, false).click();
  const form = await page.locator(".filterform").evaluate((each) => each.scrollWidth - each.clientWidth);
  must(form <= 0, `the filter's form at ${width}: wider than itself by ${form}`);
}

// Choosing what the board shows moves none of it.
for (const width of [390, 1024, 1150, 1240, 1340, 1440]) {
  await page.setViewportSize({ width, height: 900 });
  await visit("/board", ".tile");
  const top = () => page.locator(".tiers").evaluate((each) => each.getBoundingClientRect().top);
  const before = await top();
  await button("Denying traffic").click();
  await page.waitForFunction(() => document.querySelector(".boardbar [role=status]").textContent.includes("match"));
  must((await top()) === before, `at ${width} the tiers move from ${before} to ${await top()}`);
}

// A name chosen from the list is told as one that was clicked: with its namespace, and by names in the table.
await visit("/flows", ".circle .chord");
const key = await page.locator('.rings [data-level="name"][data-key^="storefront:backend-"]').first().getAttribute("data-key");
await chooser("Name").selectOption(key);
await page.waitForFunction((wanted) => [...document.querySelectorAll(".traffic .rowname")].some((each) => each.textContent === wanted), key);
must((await chooser("Namespace").inputValue()) === "storefront", "a chosen name doesn't say its namespace");
must((await page.locator(".labels .label").filter({ hasText: "backend" }).count()) === 1, "the drawing doesn't name what is chosen");

// A range that can't be is refused in the form, where it can be mended.
await visit("/flows", ".circle .chord");
await button(/^Filter:/, false).click();
await button("Absolute").click();
await page.getByLabel("To", { exact: true }).fill("2020-01-01T00:00:00");
await page.waitForFunction(() => document.querySelector(".problem").textContent.includes("From must come before To"));
must(await button("Filter").isDisabled(), "a range that can't be can be asked for");

// What a refused question leaves behind is no answer to it.
await visit("/flows", ".circle .chord");
await button(/^Filter:/, false).click();
await page.getByLabel("Source labels: selector").fill("app ==");
await button("Filter").click();
await page.waitForSelector(".fault");
must((await page.locator(".circle").count()) === 0, "flows of another filter stand under a refused one");
must((await page.locator(".fault").innerText()).includes("position"), "the refusal doesn't say where");
faults.splice(0, faults.length, ...faults.filter((each) => !each.includes("400")));

must(faults.length === 0, faults.join("; "));
console.log(JSON.stringify({ ok: true }));
await browser.close();
