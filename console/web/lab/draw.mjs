// How long the drawing takes in a real browser: node lab/draw.mjs ADDRESS-WITH-TOKEN [PATH]
// Without PATH the answer of /api/v1/flows is replaced by 2,000 made-up flows; with it, PATH shows what the server has.
import { launch } from "./browser.mjs";

const [address, path] = process.argv.slice(2);
const FLOWS = 2000;
const MOVES = 120;
const TURNS = 8;
const STATUSES = ["allowed", "allowed", "allowed", "denied", "denied_by_destination", "unanswered", "leak"];
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const round = (value) => Math.round(value * 10) / 10;

function madeUp() {
  const end = (at) => ({ namespace: `space-${at % 12}`, name: `app-${at % 97}-6d996fbd97-*`, type: "wep" });
  const flows = Array.from({ length: FLOWS }, (_, at) => ({ source: end(at * 7), dest: end(at * 13 + 5), proto: "tcp", dest_port: at, service: null, status: STATUSES[at % STATUSES.length], connections: 1 + ((at * 31) % 400), packets: at, bytes: at * 90 }));
  const now = Math.floor(Date.now() / 1000);
  return { range: { from_s: now - 900, to_s: now }, covered_s: 900, flows, smaller: { flows: 0, connections: 0, packets: 0, bytes: 0 }, newest_s: now };
}

const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
page.setDefaultTimeout(60000);
// The moment of the first frame that holds the circle.
await page.addInitScript(() => {
  const waiting = new MutationObserver(() => {
    if (document.querySelector("svg.chords") === null) return;
    waiting.disconnect();
    requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = () => { globalThis.painted = performance.now(); };
      channel.port2.postMessage(0);
    });
  });
  waiting.observe(document, { childList: true, subtree: true });
});
if (path === undefined) await page.route("**/api/v1/flows*", (route) => route.fulfill({ json: madeUp() }));
await page.goto(address);
if (path !== undefined) await page.goto(new URL(address).origin + path);
await page.waitForFunction(() => globalThis.painted !== undefined);
const gathered = await page.evaluate(() => [...document.querySelectorAll(".chords .chord")].reduce((sum, each) => sum + Number(each.getAttribute("data-count") ?? 1), 0));
if (gathered !== FLOWS) throw new Error(`${gathered} of ${FLOWS} flows are drawn`);
const first = await page.evaluate(() => {
  const asked = performance.getEntriesByType("resource").find((each) => /\/api\/v1\/flows(\?|$)/.test(each.name));
  return asked === undefined ? {} : { query_ms: asked.responseEnd - asked.requestStart, first_paint_ms: globalThis.painted - asked.responseEnd };
});

// From the click through script, style and layout to the first frame after it.
const redraw = () => page.evaluate(async (turns) => {
  const times = [];
  for (let turn = 0; turn < turns; turn += 1) {
    const button = [...document.querySelectorAll(".tabs button")].find((each) => each.textContent === (turn % 2 ? "Names" : "Status"));
    const began = performance.now();
    button.click();
    await new Promise((done) => requestAnimationFrame(() => { const channel = new MessageChannel(); channel.port1.onmessage = done; channel.port2.postMessage(0); }));
    times.push(performance.now() - began);
  }
  return times;
}, TURNS);
// A spiral through the circle and over its rings: every step points at something else. One move a frame, as a browser gives them.
const point = () => page.evaluate(async (moves) => {
  const circle = document.querySelector(".circle");
  const box = circle.getBoundingClientRect();
  const times = [];
  globalThis.lit = 0;
  let last = await new Promise(requestAnimationFrame);
  for (let at = 0; at < moves; at += 1) {
    const [angle, radius] = [at * 0.7, (box.height / 2 - 24) * (0.2 + (0.8 * at) / moves)];
    circle.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: box.x + box.width / 2 + Math.sin(angle) * radius, clientY: box.y + box.height / 2 - Math.cos(angle) * radius }));
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last);
    last = now;
    if (document.querySelector(".tip") !== null) globalThis.lit += 1;
  }
  circle.dispatchEvent(new PointerEvent("pointerleave"));
  return times;
}, MOVES);
// Processor time by the trace: other processes of the machine don't stretch it. `main` is the page's main thread; `raster`
// the heaviest frame's painting of tiles, which decides whether a frame is late. Tracing costs, so no wall time is taken here.
async function traced(act, of) {
  await browser.startTracing(page, { categories: ["toplevel", "cc", "devtools.timeline"] });
  await act();
  const events = JSON.parse((await browser.stopTracing()).toString()).traceEvents;
  const mains = new Set(events.filter((each) => each.name === "thread_name" && each.args.name === "CrRendererMain").map((each) => `${each.pid}/${each.tid}`));
  const main = events.filter((each) => each.name === "ThreadControllerImpl::RunTask" && mains.has(`${each.pid}/${each.tid}`)).reduce((sum, each) => sum + (each.tdur ?? 0) / 1000, 0);
  const starts = events.filter((each) => each.name === "FireAnimationFrame" && mains.has(`${each.pid}/${each.tid}`)).map((each) => each.ts).sort((a, b) => a - b);
  const frames = new Map();
  for (const each of events) if (each.name === "RasterTask" && each.tdur) { const frame = starts.findLastIndex((start) => start <= each.ts); frames.set(frame, (frames.get(frame) ?? 0) + each.tdur / 1000); }
  return { main: main / of, raster: Math.max(0, ...frames.values()) };
}

const drawn = await redraw();
const frames = (await point()).sort((a, b) => a - b);
const lit = await page.evaluate(() => globalThis.lit);
if (!(lit > MOVES / 2)) throw new Error(`${lit} of ${MOVES} moves point at something`);
const drawing = await traced(redraw, TURNS);
const pointing = await traced(point, MOVES);
console.log(JSON.stringify({
  flows: FLOWS,
  ...Object.fromEntries(Object.entries(first).map(([name, value]) => [name, round(value)])),
  redraw_ms_median: round(median(drawn)), redraw_ms_worst: round(Math.max(...drawn)), redraw_cpu_ms: round(drawing.main),
  hover_frame_ms_median: round(median(frames)), hover_frame_ms_p95: round(frames[Math.floor(MOVES * 0.95)]),
  hover_cpu_ms: round(pointing.main), hover_raster_cpu_ms_worst: round(pointing.raster),
}));
await browser.close();
