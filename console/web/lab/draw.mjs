// How long the drawing takes in a real browser: node lab/draw.mjs ADDRESS-WITH-TOKEN
// The answers of /api/v1/flows are replaced by 2,000 made-up flows; all else is the page as it is served.
import { launch } from "./browser.mjs";

const address = process.argv[2];
const FLOWS = 2000;
const MOVES = 120;
const STATUSES = ["allowed", "allowed", "allowed", "denied", "denied_by_destination", "unanswered", "leak"];
const end = (at) => ({ namespace: `space-${at % 12}`, name: `app-${at % 97}-6d996fbd97-*`, type: "wep" });
const flows = Array.from({ length: FLOWS }, (_, at) => ({ source: end(at * 7), dest: end(at * 13 + 5), proto: "tcp", dest_port: at, service: null, status: STATUSES[at % STATUSES.length], connections: 1 + ((at * 31) % 400), packets: at, bytes: at * 90 }));
const now = Math.floor(Date.now() / 1000);
const browser = await launch();
const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
await page.route("**/api/v1/flows*", (route) => route.fulfill({ json: { range: { from_s: now - 900, to_s: now }, flows, smaller: { flows: 0, connections: 0, packets: 0, bytes: 0 }, newest_s: now } }));
await page.goto(address);
await page.waitForFunction((n) => document.querySelector("svg.chords")?.getAttribute("data-chords") === String(n), FLOWS);
const gathered = await page.evaluate(() => [...document.querySelectorAll(".chords .chord")].reduce((sum, each) => sum + Number(each.getAttribute("data-count") ?? 1), 0));
if (gathered !== FLOWS) throw new Error(`${gathered} of ${FLOWS} flows are drawn`);
// CPU time of the page's main thread, which other processes of the machine don't stretch.
const debug = await page.context().newCDPSession(page);
await debug.send("Performance.setTimeDomain", { timeDomain: "threadTicks" });
await debug.send("Performance.enable");
const cpu = async () => Object.fromEntries((await debug.send("Performance.getMetrics")).metrics.map((each) => [each.name, each.value * 1000])).TaskDuration;
const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
const drawn = [];
const began = await cpu();
for (let turn = 0; turn < 7; turn += 1) {
  const mode = turn % 2 ? "Names" : "Status";
  // From the click through script, style and layout to the first frame after it.
  drawn.push(await page.evaluate(async (name) => {
    const button = [...document.querySelectorAll(".tabs button")].find((each) => each.textContent === name);
    const began = performance.now();
    button.click();
    await new Promise((done) => requestAnimationFrame(() => { const channel = new MessageChannel(); channel.port1.onmessage = done; channel.port2.postMessage(0); }));
    return performance.now() - began;
  }, mode));
}
const afterDrawing = await cpu();
// A spiral through the circle: every step points at something else. One move a frame, as a browser gives them.
const frames = await page.evaluate(async (moves) => {
  const circle = document.querySelector(".circle");
  const box = circle.getBoundingClientRect();
  const times = [];
  let last = performance.now();
  for (let at = 0; at < moves; at += 1) {
    const [angle, radius] = [at * 0.7, (box.height / 2 - 24) * (0.2 + (0.8 * at) / moves)];
    circle.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: box.x + box.width / 2 + Math.sin(angle) * radius, clientY: box.y + box.height / 2 - Math.cos(angle) * radius }));
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  return times;
}, MOVES);
const afterPointing = await cpu();
frames.sort((a, b) => a - b);
console.log(JSON.stringify({ flows: FLOWS, redraw_ms_median: Math.round(median(drawn) * 10) / 10, redraw_cpu_ms_mean: Math.round((afterDrawing - began) / 7), hover_cpu_ms_mean: Math.round(((afterPointing - afterDrawing) / MOVES) * 10) / 10, hover_frame_ms_median: Math.round(median(frames) * 10) / 10, hover_frame_ms_p95: Math.round(frames[Math.floor(frames.length * 0.95)] * 10) / 10 }));
await browser.close();
