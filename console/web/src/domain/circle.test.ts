import { expect, test } from "vitest";
import { inUnits, read, write } from "./address";
import { at, breadth, frame, hit, middle } from "./circle";
import type { Flow, Status } from "./flow";
import { conditionsOf, flowKey, readFlowKey } from "./flow";
import { storedBuckets } from "./format";
import { placeLabels } from "./labels";
import { NO_POLICY, pathOf } from "./path";
import { belongs, index, layOut, NOTHING, pointedAt } from "./rings";

const flow = (source: string, dest: string, status: Status = "allowed", connections = 10): Flow => {
  const end = (text: string): Flow["source"] => ({ namespace: text.split("/")[0] ?? "", name: text.split("/")[1] ?? "", type: "wep" });
  return { source: end(source), dest: end(dest), proto: "tcp", dest_port: 80, service: null, status, connections, packets: 1, bytes: 1 };
};
const FLOWS = [flow("a/one", "b/two"), flow("a/one", "b/three", "denied"), flow("c/four", "a/one")];
const shape = frame(900, 700, true);

test("the circle fits its place, with room for labels", () => {
  for (const [width, height] of [[900, 700], [400, 900], [1500, 500]] as const) {
    const found = frame(width, height, true);
    expect(found.outer * 2).toBeLessThanOrEqual(height);
    expect(found.outer * 2).toBeLessThanOrEqual(width - 2 * Math.min(140, width / 5) + 1);
    expect(found.outer).toBeGreaterThan(found.name);
    expect(found.flow).toBeGreaterThan(found.chord);
  }
});

test("a point in the middle of a segment's arc hits that segment", () => {
  const rings = layOut(FLOWS, "connections");
  for (const each of rings.namespaces) expect(hit(rings, rings.chords, shape, at(middle(each), (shape.outer + shape.name) / 2))).toEqual({ level: "namespace", key: each.key });
  for (const each of rings.names) expect(hit(rings, rings.chords, shape, at(middle(each), (shape.name + shape.flow) / 2))).toEqual({ level: "name", key: each.key });
  for (const each of rings.chords) {
    for (const side of [each.source, each.dest]) expect(hit(rings, rings.chords, shape, at(middle(side), (shape.flow + shape.chord) / 2))).toEqual({ level: "flow", chord: each });
  }
  expect(hit(rings, rings.chords, shape, { x: shape.outer + 5, y: 0 })).toBeNull();
});

test("a point inside a ribbon hits its flow, broad or thin, and the topmost where they cross", () => {
  const thin = Array.from({ length: 400 }, (_, index) => flow(`n${index % 20}/x${index % 50}`, `m${index % 7}/y${index}`));
  for (const flows of [FLOWS, thin]) {
    const rings = layOut(flows, "connections");
    for (const each of rings.chords) {
      const inside = at(middle(each.source), shape.chord - 1.5);
      expect(hit(rings, [each], shape, inside)).toEqual({ level: "flow", chord: each });
    }
  }
  const rings = layOut(FLOWS, "connections");
  const [below, above] = [rings.chords[0], rings.chords[1]];
  if (below === undefined || above === undefined) throw new Error("no chords");
  expect(breadth(below, shape.chord)).toBeGreaterThan(8);
  const crossing = at(middle(above.dest), shape.chord - 2);
  expect(hit(rings, [below, above], shape, crossing)).toEqual({ level: "flow", chord: above });
});

test("the index finds the same chords as looking through all of them", () => {
  const { chords, names, namespaces } = layOut([...FLOWS, flow("a/one", "a/one", "leak")], "connections");
  const known = index(chords);
  for (const selection of [
    ...names.map((each) => ({ ...NOTHING, namespace: each.namespace, name: each.key })),
    ...namespaces.map((each) => ({ ...NOTHING, namespace: each.key })),
    ...chords.map((each) => ({ ...NOTHING, flow: each.key })),
  ]) expect(pointedAt(known, selection)).toEqual(chords.filter((chord) => belongs(selection, chord)));
  expect(pointedAt(known, { ...NOTHING, flow: "gone" })).toEqual([]);
});

test("labels keep a line's distance, stay within the drawing and beside the circle", () => {
  const many = Array.from({ length: 90 }, (_, index) => flow(`n/deployment-${index}-6d996fbd97-*`, `n/deployment-${(index * 7) % 90}-6d996fbd97-*`));
  const labels = placeLabels(layOut(many, "connections").names, shape);
  expect(labels.length).toBeGreaterThan(8);
  for (const side of ["left", "right"] as const) {
    const heights = labels.filter((each) => each.side === side).map((each) => each.y);
    heights.slice(1).forEach((y, index) => expect(y - (heights[index] ?? 0)).toBeGreaterThanOrEqual(14.9));
  }
  for (const each of labels) {
    expect(Math.abs(each.y)).toBeLessThanOrEqual(shape.height / 2);
    expect(Math.hypot(each.x, each.y)).toBeGreaterThanOrEqual(shape.outer);
  }
});

test("labels that crowd give way to both sides and none is far from its arc", () => {
  // A broad name takes one half of the circle, forty the other.
  const many = [flow("z/broad", "z/broad", "allowed", 10), ...Array.from({ length: 40 }, (_, index) => flow(`a/name-${String(index).padStart(2, "0")}`, "z/broad", "allowed", 20))];
  const { names } = layOut(many, "connections");
  const labels = placeLabels(names, shape);
  expect(labels.map((each) => each.text)).toContain("broad");
  const moved = labels.map((each) => {
    const arc = names.find((name) => name.key === each.key);
    return each.y - (arc === undefined ? Number.NaN : at(middle(arc), shape.outer + 12).y);
  });
  expect(Math.max(...moved.map(Math.abs))).toBeLessThanOrEqual(30);
  expect(Math.min(...moved)).toBeLessThan(-4);
  expect(Math.max(...moved)).toBeGreaterThan(4);
});

test("a label ends within the drawing and leaves the tools their corner", () => {
  const long = "a-deployment-with-a-very-long-name-indeed-and-then-some";
  const many = Array.from({ length: 24 }, (_, index) => flow(`n${String(index).padStart(2, "0")}/${long}`, `n${(index + 5) % 24}/${long}`));
  for (const each of placeLabels(layOut(many, "connections").names, shape)) {
    const end = Math.abs(each.x) + each.text.length * 6.5;
    expect(end).toBeLessThanOrEqual(shape.width / 2);
    if (each.side === "right" && each.y < 40 - shape.height / 2) expect(end).toBeLessThan(shape.width / 2 - 180);
  }
});

test("a name loses its hash unless two names would read the same", () => {
  const text = (flows: readonly Flow[]): readonly string[] => placeLabels(layOut(flows, "connections").names, shape).map((each) => each.text);
  expect(text([flow("a/web-6d996fbd97-*", "a/db-7599d8d8f-*")])).toEqual(expect.arrayContaining(["web-*", "db-*"]));
  expect(text([flow("a/web-6d996fbd97-*", "a/web-7599d8d8f-*")]).every((each) => each.startsWith("web-") && each !== "web-*")).toBe(true);
});

test("a flow's key says what it was made of", () => {
  const each = flow("a/one", "-/pub", "leak");
  expect(readFlowKey(flowKey(each))).toMatchObject({ source: { namespace: "a", name: "one" }, dest: { namespace: "-", name: "pub" }, proto: "tcp", dest_port: 80, status: "leak" });
  expect(readFlowKey(flowKey({ ...each, dest_port: null }))?.dest_port).toBeNull();
  expect(readFlowKey("nonsense")).toBeNull();
  expect(conditionsOf(each)).toEqual(conditionsOf(readFlowKey(flowKey(each)) ?? each));
});

test("the way of a flow goes out of its source first, and takes the side that denied", () => {
  const hit = (id: string | null, action: string, tier = "t"): { id: string | null; tier: string; action: string; words: string } => ({ id, tier, action, words: "" });
  const steps = pathOf([
    { direction: "ingress", hits: [hit("open", "allow")] },
    { direction: "ingress", hits: [hit("first", "pass"), hit("closed", "deny")] },
    { direction: "egress", hits: [hit("out", "pass"), hit(null, "allow", "__PROFILE__"), hit(null, "pass", "gone")] },
  ]);
  expect(steps.map((step) => [step.turn, step.id, step.direction])).toEqual([[1, "out", "egress"], [2, NO_POLICY, "egress"], [3, "first", "ingress"], [4, "closed", "ingress"]]);
});

test("ranges are told in their largest whole unit, and any-matching travels in the address", () => {
  expect(inUnits(900)).toEqual({ amount: 15, unit: 60 });
  expect(inUnits(172800)).toEqual({ amount: 2, unit: 86400 });
  expect(inUnits(0)).toEqual({ amount: 0, unit: 60 });
  const address = "/flows?source_label=a+%3D%3D+%22b%22&source_label_match=any";
  expect(write(read("/flows", address.slice(6)))).toBe(address);
});

test("only buckets that are stored whole are drawn", () => {
  const of = (newestS: number | null, coveredS: number): readonly [number, number] => storedBuckets({ from_s: 0, to_s: 900 }, newestS, coveredS, 30);
  expect(of(890, 890)).toEqual([0, 29]);
  expect(of(900, 900)).toEqual([0, 30]);
  expect(of(1200, 900)).toEqual([0, 30]);
  expect(of(null, 900)).toEqual([0, 30]);
  // Stored since second 310: the bucket from 300 to 330 holds a part only.
  expect(of(890, 580)).toEqual([11, 29]);
  expect(of(890, 10)).toEqual([27, 29]);
});
