import { render } from "preact";
import { expect, test } from "vitest";
import type { Flow, Status } from "../domain/flow";
import { STATUS_ORDER } from "../domain/flow";
import { layOut } from "../domain/rings";
import { histogram, sparkline } from "./bars";
import { statusFill, statusPatterns } from "./patterns";
import { chordMarks, flowRing, labelMarks, segmentRings } from "./rings";

const HOSTILE = '<img src=x onerror=alert(1)>"\'&';
const flow = (name: string, status: Status): Flow => ({
  source: { namespace: "shop", name, type: "wep" }, dest: { namespace: "db", name: "store", type: "wep" },
  proto: "tcp", dest_port: 80, service: null, status, connections: 4, packets: 8, bytes: 100,
});
const looks = { chord: () => "#123456", namespace: () => "#222222", name: () => "#333333" };

function drawn(node: preact.ComponentChildren): HTMLElement {
  const host = document.createElement("div");
  render(<svg>{node}</svg>, host);
  return host;
}

test("the rings are drawn as they were", () => {
  const rings = layOut([flow("a", "allowed"), flow("b", "denied")], "bytes");
  expect(drawn([chordMarks(rings.chords, looks, 400), flowRing(rings, 400), segmentRings(rings, looks, 400), labelMarks(rings.names, 400)]).innerHTML).toMatchSnapshot();
});

test("histogram and sparkline are drawn as they were", () => {
  expect(drawn([sparkline([0, 1, 5, 2], 100, 20, "rates"), histogram([{ start_s: 0, allow: 5, deny: 2 }, { start_s: 60, allow: 0, deny: 0 }], 300, 80)]).querySelectorAll("rect, polyline").length).toBe(5);
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
  const host = drawn([chordMarks(rings.chords, looks, 400), flowRing(rings, 400), segmentRings(rings, looks, 400), labelMarks(rings.names, 400)]);
  expect(host.querySelector("img")).toBeNull();
  expect(host.querySelector("title")?.textContent).toContain("db:store");
});
