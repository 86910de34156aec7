import { render } from "preact";
import { expect, test } from "vitest";
import { breadth, frame } from "../domain/circle";
import type { Flow, Status } from "../domain/flow";
import { STATUS_ORDER } from "../domain/flow";
import { placeLabels, placeRingNames } from "../domain/labels";
import { layOut } from "../domain/rings";
import { histogram, sparkline } from "./bars";
import { statusFill, statusPatterns } from "./patterns";
import { pathMark } from "./path";
import { chordMarks, ends, flowRing, labelMarks, MOST_SHAPES, outline, ribbon, ringNameMarks, segmentRings } from "./rings";

const HOSTILE = '<img src=x onerror=alert(1)>"\'&';
const flow = (name: string, status: Status, port = 80): Flow => ({
  source: { namespace: "shop", name, type: "wep" }, dest: { namespace: "db", name: "store", type: "wep" },
  proto: "tcp", dest_port: port, service: null, status, connections: 4, packets: 8, bytes: 100,
});
const looks = { chord: () => "#123456", line: () => "#123456", dash: (): string | undefined => undefined, namespace: () => "#222222", name: () => "#333333", aside: () => false };
const shape = frame(800, 600, true);

function drawn(node: preact.ComponentChildren): HTMLElement {
  const host = document.createElement("div");
  render(<svg>{node}</svg>, host);
  return host;
}

test("the rings are drawn as they were", () => {
  const rings = layOut([flow("a", "allowed"), flow("b", "denied")], "bytes");
  expect(drawn([chordMarks(rings.chords, looks, shape), flowRing(rings, shape), segmentRings(rings, looks, shape), labelMarks(placeLabels(rings.names, shape), "name")]).innerHTML).toMatchSnapshot();
});

test("the outlines of what is chosen are drawn as they were", () => {
  const rings = layOut([flow("a", "leak")], "bytes");
  expect(drawn([rings.names.map((each) => outline(each, "name", shape)), rings.namespaces.map((each) => outline(each, "namespace", shape)), rings.chords.map((each) => ends(each, shape))]).innerHTML).toMatchSnapshot();
});

test("a namespace's name stands along its arc, upright in the lower half, and only where all of it has room", () => {
  const rings = layOut([flow("a", "allowed"), { ...flow("b", "allowed", 81), connections: 9, bytes: 2000 }], "bytes");
  const arcs = [{ ...rings.namespaces[0]!, start: 0.1, end: 1.2 }, { ...rings.namespaces[1]!, start: 2.6, end: 3.9 }, { ...rings.namespaces[1]!, key: "narrow", start: 4, end: 4.02 }];
  expect(placeRingNames([{ ...rings.namespaces[0]!, start: 0, end: 2 * Math.PI }], shape).map((each) => each.end - each.start < Math.PI)).toEqual([true]);
  const placed = placeRingNames(arcs, shape);
  expect(placed.map((each) => [each.text, each.turned])).toEqual([["db", false], ["shop", true]]);
  expect(drawn(ringNameMarks(placed, shape)).innerHTML).toMatchSnapshot();
});

/** Where the middle of a path's first arc lies, by SVG's own rule. */
function middleOf(d: string): number {
  const found = /^M([-\d.]+)[ ,]([-\d.]+)A([-\d.]+)[ ,][-\d.]+[ ,]0[ ,]([01])[ ,]1[ ,]([-\d.]+)[ ,]([-\d.]+)/.exec(d);
  const [x1, y1, radius, large, x2, y2] = (found?.slice(1) ?? []).map(Number) as [number, number, number, number, number, number];
  const [dx, dy] = [(x1 - x2) / 2, (y1 - y2) / 2];
  const q = dx * dx + dy * dy;
  const off = Math.sqrt(Math.max(0, (radius * radius - q) / q)) * (large === 1 ? -1 : 1);
  return Math.hypot(off * dy + (x1 + x2) / 2, -off * dx + (y1 + y2) / 2);
}

test("an arc about half the circle keeps the circle's middle", () => {
  for (let span = 0.5; span < 5.8; span += 0.013) {
    const arc = { key: "a", namespace: "a", label: "a", start: 0.37, end: 0.37 + span };
    const host = drawn([outline(arc, "namespace", shape)]);
    expect(middleOf(host.querySelector("path")?.getAttribute("d") ?? ""), `${span}`).toBeLessThan(1);
    expect(middleOf(ribbon(arc, { start: 6.2, end: 6.21 }, 273.4)), `${span}`).toBeLessThan(1);
  }
});

test("a chord too narrow for its hatch is a line with dashes, broad enough to see where there are few", () => {
  const dashed = { ...looks, dash: (_: unknown, width: number) => `0 ${width}` };
  const rings = layOut([{ ...flow("a", "denied"), bytes: 1 }, { ...flow("b", "denied"), bytes: 9 }, { ...flow("c", "denied"), bytes: 1000 }], "bytes");
  const chords = [...drawn(chordMarks(rings.chords, dashed, shape)).querySelectorAll("path")];
  expect(chords.map((each) => each.classList.contains("line"))).toEqual([true, true, false]);
  expect(chords.slice(0, 2).map((each) => Number(each.getAttribute("stroke-width")) >= 3)).toEqual([true, true]);
  expect(chords[1]?.getAttribute("stroke-dasharray")).toBe(`0 ${breadth(rings.chords[1]!, shape.chord)}`);
});

test("many chords are gathered into a few paths that hold each of them once", () => {
  const many = Array.from({ length: MOST_SHAPES + 1 }, (_, port) => flow("a", "allowed", port));
  const paths = [...drawn(chordMarks(layOut(many, "bytes").chords, looks, shape)).querySelectorAll("path")];
  expect(paths.length).toBeLessThan(8);
  expect(paths.reduce((sum, each) => sum + Number(each.getAttribute("data-count")), 0)).toBe(many.length);
  expect(paths.reduce((sum, each) => sum + (each.getAttribute("d")?.match(/M/g)?.length ?? 0), 0)).toBe(many.length);
});

test("histogram and sparkline are drawn as they were", () => {
  const bars = histogram([{ start_s: 0, allow: 5000, deny: 1 }, { start_s: 60, allow: 0, deny: 0 }], 60, 300, 80, () => undefined, "table");
  expect(drawn([sparkline([0, 1, 5, 2], 100, 20, "rates"), bars]).innerHTML).toMatchSnapshot();
});

test("times beneath the bars have room for themselves, and none is cut off", () => {
  const buckets = Array.from({ length: 61 }, (_, index) => ({ start_s: index * 15, allow: 1, deny: 0 }));
  for (const width of [330, 700, 1400]) {
    const at = [...drawn(histogram(buckets, 15, width, 80, () => undefined, "table")).querySelectorAll("text.tick:not([text-anchor])")].map((each) => Number(each.getAttribute("x")));
    expect(at.length).toBeGreaterThan(1);
    expect(Math.min(...at.slice(1).map((x, index) => x - (at[index] ?? 0)))).toBeGreaterThan(60);
    expect(at.at(-1)).toBeLessThan(width - 45);
  }
});

test("a single denial among thousands of flow logs is at least two pixels high", () => {
  const host = drawn(histogram([{ start_s: 0, allow: 5000, deny: 1 }], 60, 300, 80, () => undefined, "table"));
  const denied = host.querySelector('rect[fill="url(#status-denied)"]');
  expect(Number(denied?.getAttribute("height"))).toBeGreaterThanOrEqual(2);
});

test("the way across the board has a line and its heads for each direction", () => {
  const box = (x: number): { x: number; y: number; width: number; height: number } => ({ x, y: 40, width: 200, height: 90 });
  const step = (turn: number, direction: "egress" | "ingress", action: string): Parameters<typeof pathMark>[0][number][0] => ({ id: `p${turn}`, action, direction, turn, words: "" });
  const host = drawn(pathMark([[step(1, "egress", "pass"), box(20)], [step(2, "egress", "allow"), box(260)], [step(3, "ingress", "deny"), box(260)]]));
  expect(host.innerHTML).toMatchSnapshot();
});

test("every status has a pattern of its own, so that it is told without colour", () => {
  const host = drawn(statusPatterns());
  const marks = STATUS_ORDER.map((status) => {
    const pattern = host.querySelector(`#status-${status}`);
    expect(statusFill(status)).toBe(`url(#status-${status})`);
    return [...(pattern?.children ?? [])].slice(1).map((each) => each.outerHTML).join("");
  });
  expect(new Set(marks).size).toBe(STATUS_ORDER.length);
});

test("markup in a name stays text", () => {
  const rings = layOut([flow(HOSTILE, "leak")], "bytes");
  const host = drawn([chordMarks(rings.chords, looks, shape), flowRing(rings, shape), segmentRings(rings, looks, shape), labelMarks(placeLabels(rings.names, shape), "name")]);
  expect(host.querySelector("img")).toBeNull();
  expect([...host.querySelectorAll("title")].map((each) => each.textContent)).toContain(`shop:${HOSTILE}`);
});
