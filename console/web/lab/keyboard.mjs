// Every view by keyboard alone: node lab/keyboard.mjs ADDRESS-WITH-TOKEN.
// Nothing but keys is given to the page; each control is walked to by Tab and must show the focus, in sight.
import { launch, must, reachable, says as saysOn } from "./browser.mjs";

const [address] = process.argv.slice(2);
const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1440, height: 900 }, acceptDownloads: true });
page.setDefaultTimeout(15000);
const MOST_TABS = 400;
const seen = {};
const press = (...keys) => keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve());
const says = (name, holds, otherwise) => saysOn(page, name, holds, otherwise);
const focused = () => page.evaluate(() => ({ name: globalThis.nameOf(document.activeElement), tag: document.activeElement?.tagName ?? "" }));

/** Walk on until the focus stands on a control of this name, as a screen reader would say it. */
async function tabTo(name, back = false) {
  for (let at = 0; at < MOST_TABS; at += 1) {
    await press(back ? "Shift+Tab" : "Tab");
    const now = await focused();
    if (name instanceof RegExp ? name.test(now.name) : now.name === name) {
      const hidden = await page.evaluate(() => globalThis.hides(document.activeElement));
      must(hidden === null, `the focus on ${now.name} isn't in sight: ${hidden}`);
      return now.name;
    }
  }
  throw new Error(`Tab never comes to ${name}`);
}

/** Act, and wait until the table holds what the server then answers. */
async function asked(act) {
  await Promise.all([page.waitForResponse((response) => /\/flow-logs(\?|$)/.test(response.url())), act()]);
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
}

/** The focus comes to stand there, at once or with the next frames. */
async function stands(name, after) {
  const found = () => page.waitForFunction((wanted) => globalThis.nameOf(document.activeElement).startsWith(wanted), name);
  await found().catch(async () => must(false, `after ${after} the focus is on ${(await focused()).name}`));
}

/** Walk on by arrows from where the focus is, row by row. */
async function arrowTo(name) {
  for (let at = 0; at < MOST_TABS; at += 1) {
    const before = (await focused()).name;
    if (name.test(before)) {
      const hidden = await page.evaluate(() => globalThis.hides(document.activeElement));
      must(hidden === null, `the focus on ${before} isn't in sight: ${hidden}`);
      return before;
    }
    await press("ArrowRight");
    if ((await focused()).name === before) await press("Home", "ArrowDown");
  }
  throw new Error(`arrows never come to ${name}`);
}

async function visit(link, ready) {
  await page.evaluate(() => document.activeElement?.blur());
  await tabTo(link);
  await press("Enter");
  await page.waitForSelector(ready);
}

await page.addInitScript(() => {
  globalThis.nameOf = (at) => {
    if (at === null || at === document.body) return "";
    const label = at.getAttribute("aria-label") ?? (at.labels?.[0] ?? at).textContent;
    return label.trim().replace(/\s+/g, " ");
  };
  // Why a reader couldn't see where the focus is; null when they can.
  globalThis.hides = (at) => {
    if (getComputedStyle(at).outlineStyle === "none") return "no outline";
    const box = at.getBoundingClientRect();
    if (box.width === 0 || box.height === 0) return "no size";
    const [x, y] = [box.x + Math.min(box.width / 2, 40), box.y + Math.min(box.height / 2, 12)];
    const top = document.elementFromPoint(x, y);
    return top !== null && (at.contains(top) || top.contains(at)) ? null : `at ${Math.round(x)}, ${Math.round(y)} stands ${top?.outerHTML.slice(0, 80) ?? "nothing"}`;
  };
});
await page.goto(address);
await page.waitForSelector(".circle .chord");

// The first stop leads past the heading.
await press("Tab");
await stands("Skip to content", "the first stop");
await press("Enter", "Tab");
await stands("Filter:", "the skip");

// Flow Visualizer: the rings by arrows, zoom in and out, the drop-downs, the table, the policies of a flow.
await tabTo(/^Flows as three rings/);
await press("ArrowRight", "ArrowDown", "ArrowRight", "Enter");
const name = await says("name", /:/, "Enter selects nothing");
await press("+");
must((await says("z_name", /:/, "plus doesn't zoom")) === name, "plus zooms into something else");
await press("-");
await says("z_name", /^nothing$/, "minus doesn't lead out");
await press("ArrowDown", "ArrowRight", "Enter");
await says("flow", /:/, "a flow can't be chosen in the ring");
await page.waitForSelector(".detail .hits");
await tabTo("Follow it across the board");
await press("Shift+Tab");
await page.locator(".circle").evaluate((each) => each.scrollIntoView());
await tabTo(/^Flows as three rings/, true);
await press("Escape");
await says("flow", /^nothing$/, "Escape doesn't clear");
await says("name", /^nothing$/, "Escape doesn't clear");
await tabTo("Names");
await press("Space");
await says("mode", /^names$/, "Space doesn't press Names");
await tabTo("Namespace");
await page.keyboard.type("storefront");
await says("namespace", /^storefront$/, "typing chooses no namespace");
await tabTo("Clear namespace");
await press("Enter");
await says("namespace", /^nothing$/, "a drop-down can't be cleared");
await tabTo(/^storefront:frontend-.*, /);
await press("Enter");
await says("name", /^storefront:frontend-/, "a row of the table doesn't select");
seen.flows = await reachable(page, "flow visualizer");

// Policy Board: search, quick filters, what tiles show, a policy and back.
await visit("Policy Board", ".tile");
await tabTo("Filter policies by name or namespace");
await page.keyboard.type("trusted");
await page.waitForSelector("mark");
await press("Control+a", "Delete");
await tabTo("Denying traffic");
await press("Space", "Space");
await tabTo("What tiles show");
await press("Enter", "Tab");
await tabTo(/Denied/);
await press("Space", "Escape");
await stands("What tiles show", "Escape");
await says("show", /Denied/, "Space doesn't tick a column");
await tabTo("List");
await press("Enter");
await page.waitForSelector(".boardlist");
await tabTo("Columns", true);
await press("Enter");
seen.board = await reachable(page, "board");
await tabTo("View policy trusted");
await press("Enter");
await page.waitForSelector("[data-rule]");
seen.policy = await reachable(page, "policy");
await page.goBack(); // Alt and the left arrow are the window's own keys, which a headless browser doesn't have
await page.waitForSelector(".tile");

// Flow Logs: tail, columns, sort, the histogram's table, filters from cells, an entry, exports, older pages.
await visit("Flow Logs", ".logs .list tbody tr");
await tabTo("Pause live tail");
await press("Space");
await stands("Resume live tail", "pausing");
await says("tail", /^off$/, "the tail isn't paused");
await tabTo("Columns");
await press("Enter");
await tabTo("handshake_rtt_mean_us");
await press("Space", "Escape");
await stands("Columns", "Escape");
await says("columns", /handshake_rtt_mean_us$/, "Space doesn't tick a column");
for (const [link, file] of [["Export CSV", "flow-logs.csv"], ["Export JSON lines", "flow-logs.jsonl"]]) {
  await tabTo(link);
  const [download] = await Promise.all([page.waitForEvent("download"), press("Enter")]);
  must(download.suggestedFilename() === file, `${link} saves ${download.suggestedFilename()}`);
}
await tabTo(/^Flow logs\. /);
const scrolled = () => page.locator(".logtable").evaluate((each) => each.scrollTop);
await press("PageDown");
await page.waitForFunction(() => document.querySelector(".logtable").scrollTop > 0);
await press("Home");
await page.waitForFunction(() => document.querySelector(".logtable").scrollTop === 0);
await tabTo(/^num_flows/);
await asked(() => press("Enter"));
await page.waitForFunction(() => document.querySelector('th[aria-sort="descending"]')?.textContent.startsWith("num_flows"));
await tabTo(/^end_time/, true);
await asked(() => press("Enter"));
await tabTo("Every field of this flow log");
await press("Enter");
await page.waitForSelector(".fields tbody tr");
await tabTo("JSON");
await press("Enter");
await tabTo("The flow log as JSON");
await tabTo("Every field of this flow log", true);
await press("Space");
await page.waitForSelector(".expanded", { state: "detached" });
const wanted = await arrowTo(/^Filter for source_namespace storefront/);
await asked(() => press("Enter"));
await page.waitForFunction((space) => document.querySelector(".chips")?.textContent.includes(`source_namespace: ${space}`), wanted.split(" ").at(-1));
await stands(wanted, "filtering for a value");
const left = await arrowTo(/^Filter out dest_name_aggr /);
await asked(() => press("Enter"));
await page.waitForFunction((value) => ![...document.querySelectorAll(".logtable > .list > tbody > tr")].some((row) => row.querySelectorAll("td")[7]?.textContent === value), left.split(" ").at(-1));
await stands("Flow logs. ", "filtering out");
must(await scrolled() === 0, "the table isn't at its top");
await tabTo(/^Remove dest_name_aggr /, true);
await asked(() => press("Enter"));
await page.waitForFunction(() => !document.querySelector(".chips").textContent.includes("dest_name_aggr"));
await stands("Conditions", "taking a condition out");
await tabTo("As a table");
await press("Enter");
const [bars, rows] = await page.evaluate(() => [
  [...document.querySelectorAll(".histogram .bar")].filter((bar) => [...bar.querySelectorAll("rect:not(.reach)")].some((rect) => Number(rect.getAttribute("height")) > 0)).length,
  document.querySelectorAll(".barstable tbody tr").length,
]);
must(rows > 1 && rows === bars, `${bars} bars, ${rows} rows`);
await tabTo("Flow logs over time, as a table");
await tabTo(/^\d{4}-\d{2}-\d{2} /);
await press("Enter");
const from = await says("from", /^\d+$/, "a time of the table doesn't narrow the range");
must(Number(await says("to", /^\d+$/, "a time of the table has no end")) > Number(from), "a time of the table ends before it begins");
await page.waitForFunction(() => document.querySelectorAll(".barstable tbody tr").length > 0);
await page.goBack();
await says("to", /^nothing$/, "back doesn't lead to the whole range");
await tabTo(/^Remove source_namespace /, true);
await asked(() => press("Enter"));
await page.waitForSelector(".older");
seen.logs = await reachable(page, "flow logs");
const before = await page.locator(".logtable > .list > tbody > tr").count();
await tabTo("Older flow logs");
await press("Enter");
await page.waitForFunction((count) => document.querySelectorAll(".logtable > .list > tbody > tr").length > count, before);
await stands("Older flow logs", "older ones");
await tabTo(/^Filter:/);
await press("Enter");
await stands("Network", "opening the filter");
await tabTo("Value");
await press("Escape");
await stands("Filter:", "Escape");
console.log(JSON.stringify(seen));
await browser.close();
