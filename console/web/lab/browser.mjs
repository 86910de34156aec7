// What the scripts of this folder share: a browser, the accessibility check, walking by keyboard.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
}

export function must(holds, what) {
  if (!holds) throw new Error(what);
}

/** The address bar comes to say so; null for nothing. */
export async function says(page, name, holds, otherwise) {
  const found = page.waitForFunction(([key, test]) => new RegExp(test).test(new URL(location.href).searchParams.get(key) ?? "nothing"), [name, holds.source]);
  return found.then(() => page.evaluate((key) => new URL(location.href).searchParams.get(key), name)).catch(() => must(false, otherwise));
}

/** Requests to anywhere but the console, and whatever the page complains of. */
export function watch(page, origin) {
  const seen = { outside: [], faults: [] };
  page.on("request", (request) => { if (!request.url().startsWith(origin) && !request.url().startsWith("data:")) seen.outside.push(request.url()); });
  page.on("pageerror", (error) => seen.faults.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") seen.faults.push(message.text()); });
  return seen;
}

/** No serious accessibility fault in either theme; the ids of lesser ones. */
export async function axe(page, view) {
  // The policy on content forbids injected script tags, so axe is evaluated through the debugger's own world.
  await page.evaluate(axeSource);
  const found = await page.evaluate(async () => {
    const { dataset } = document.documentElement;
    const chosen = dataset.theme;
    const runs = [];
    for (const theme of ["light", "dark"]) {
      dataset.theme = theme;
      const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
      runs.push(...violations.map((each) => ({ ...each, theme })));
    }
    dataset.theme = chosen;
    return runs;
  });
  const serious = found.filter((each) => ["serious", "critical"].includes(each.impact));
  must(serious.length === 0, `${view}: ${JSON.stringify(serious.map((each) => [each.theme, each.id, each.nodes.slice(0, 3).map((node) => node.html.slice(0, 160) + node.failureSummary?.slice(0, 200))]))}`);
  return [...new Set(found.map((each) => each.id))];
}

/** Every control that can be used is reached by the tabulator key alone, and shows that it has the focus; those that
 * arrow keys lead to are out of its way (tabindex -1), and lab/keyboard.mjs's to reach. */
export async function reachable(page, view) {
  await page.evaluate(() => {
    document.activeElement?.blur();
    globalThis.wanted = new Set([...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")].filter((each) => !each.disabled && each.tabIndex >= 0 && each.checkVisibility()));
    globalThis.missed = [];
  });
  const wanted = await page.evaluate(() => globalThis.wanted.size);
  for (let press = 0; press < wanted + 20; press += 1) {
    await page.keyboard.press("Tab");
    const left = await page.evaluate(() => {
      const at = document.activeElement;
      if (at !== null && at !== document.body && getComputedStyle(at).outlineStyle === "none") globalThis.missed.push(`no outline: ${at.outerHTML.slice(0, 120)}`);
      globalThis.wanted.delete(at);
      return globalThis.wanted.size;
    });
    if (left === 0) break;
  }
  const left = await page.evaluate(() => [...globalThis.missed, ...[...globalThis.wanted].map((each) => `not reached: ${each.outerHTML.slice(0, 120)}`)]);
  await page.evaluate(() => { document.activeElement?.blur(); document.querySelector("main").scrollTo(0, 0); });
  must(left.length === 0, `${view}, by keyboard: ${left.slice(0, 5).join("; ")}`);
  return wanted;
}

/** A point inside an arc: its bounding box's middle lies outside of it. */
export function inside(page, selector) {
  return page.locator(selector).first().evaluate((path) => {
    const box = path.getBBox();
    for (let x = 0.5; x < 40; x += 1) for (let y = 0.5; y < 40; y += 1) {
      const point = new DOMPoint(box.x + (box.width * x) / 40, box.y + (box.height * y) / 40);
      if (path.isPointInFill(point)) { const at = point.matrixTransform(path.getScreenCTM()); return { x: at.x, y: at.y }; }
    }
    return null;
  });
}
