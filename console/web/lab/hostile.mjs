// Every view over names full of markup: node lab/hostile.mjs ADDRESS-WITH-TOKEN POLICY-ID MARKER.
// Fails when a name becomes an element, a script runs, or a request leaves the origin; tells how often names were read as text.
import { launch, must, watch } from "./browser.mjs";

const [address, policy, marker] = process.argv.slice(2);
const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
page.setDefaultTimeout(15000);
const origin = new URL(address).origin;
const { outside, faults } = watch(page, origin);
const seen = {};
async function look(view) {
  const found = await page.evaluate((text) => ({
    elements: document.querySelectorAll("img, iframe, script:not([src^='/assets/']), [onerror], [onload]").length,
    ran: globalThis.pwned === true,
    texts: document.body.textContent.split(text).length - 1,
  }), marker);
  must(found.elements === 0 && !found.ran, `${view}: markup came alive: ${JSON.stringify(found)}`);
  must(found.texts > 0, `${view}: no name in sight`);
  seen[view] = found.texts;
}
async function visit(view, path, ready) {
  await page.goto(origin + path);
  await page.waitForSelector(ready);
  await look(view);
}
await page.goto(address);
await page.waitForSelector(".circle .chord");
await look("namespaces");
await visit("names", "/flows?mode=names", ".labels text");
await page.mouse.move(...(await page.locator(".circle").evaluate((each) => { const box = each.getBoundingClientRect(); return [box.x + box.width / 2, box.y + 30]; })));
await page.getByRole("combobox", { name: "Flow", exact: true }).selectOption({ index: 1 });
await page.waitForSelector(".hits");
await look("flow detail");
await page.getByRole("button", { name: "Follow it across the board" }).click();
await page.waitForSelector(".tile.on-path");
await look("followed");
await page.getByRole("button", { name: /^Follow|List/ }).last().click();
await page.waitForSelector(".list");
await look("board as a list");
await visit("filter form", "/flows", ".circle .chord");
await page.getByRole("button", { name: /^Filter:/ }).click();
await page.waitForFunction(() => document.querySelectorAll("#suggest-values option").length > 0);
await look("filter form");
await visit("policy", `/policy?id=${encodeURIComponent(policy)}`, "[data-rule]");
await visit("logs", "/logs", ".logs .list tbody tr");
await page.getByRole("button", { name: "Every field of this flow log" }).first().click();
await look("log entry");
await page.getByRole("button", { name: "JSON", exact: true }).click();
await look("log entry as JSON");
await page.getByRole("button", { name: /^Filter for source_namespace/ }).first().press("Enter");
await page.waitForSelector(".chips li");
await look("chips");
must(outside.length === 0, `requests left the origin: ${outside}`);
must(faults.length === 0, faults.join("; "));
console.log(JSON.stringify(seen));
await browser.close();
