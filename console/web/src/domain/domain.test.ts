import { describe, expect, test } from "vitest";
import { filterQuery, NO_FILTER, rangeProblem, read, summary, write } from "./address";
import type { Flow, Status } from "./flow";
import { flowKey, nameKey } from "./flow";
import { counted, rate } from "./format";
import { between, layOut, NOTHING, selects } from "./rings";
import { tabulate } from "./table";

export function flow(source: string, dest: string, status: Status = "allowed", connections = 10): Flow {
  const end = (text: string) => ({ namespace: text.split(":")[0] ?? "-", name: text.split(":")[1] ?? "-", type: "wep" as const });
  return { source: end(source), dest: end(dest), proto: "tcp", dest_port: 8080, service: null, status, connections, packets: connections * 5, bytes: connections * 300 };
}

const FLOWS = [flow("shop:a", "shop:b"), flow("shop:b", "db:c", "denied", 1), flow("shop:a", "shop:a", "allowed", 3), flow("-:pub", "shop:a", "unanswered", 900)];

describe("rings", () => {
  test("every flow end has an arc, and the arcs of a name fill it without overlap", () => {
    const rings = layOut(FLOWS, "connections");
    for (const name of rings.names) {
      const arcs = rings.chords.flatMap((chord) => [
        ...(nameKey(chord.flow.source) === name.key ? [chord.source] : []),
        ...(nameKey(chord.flow.dest) === name.key ? [chord.dest] : []),
      ]).sort((a, b) => a.start - b.start);
      expect(arcs[0]?.start).toBeCloseTo(name.start);
      expect(arcs.at(-1)?.end).toBeCloseTo(name.end);
      arcs.slice(1).forEach((arc, index) => expect(arc.start).toBeCloseTo(arcs[index]?.end ?? -1));
    }
  });

  test("the namespaces go once round the circle", () => {
    const rings = layOut(FLOWS, "bytes");
    const total = rings.namespaces.reduce((sum, each) => sum + each.end - each.start, 0);
    expect(total).toBeLessThanOrEqual(2 * Math.PI + 1e-9);
    expect(total).toBeGreaterThan(2 * Math.PI - 0.1);
  });

  test("thickness is the chosen volume, and no flow is too thin to see", () => {
    const rings = layOut(FLOWS, "connections");
    const width = (key: string) => { const chord = rings.chords.find((each) => each.key === key); return (chord?.source.end ?? 0) - (chord?.source.start ?? 0); };
    const [ten, denied, three] = FLOWS.map((each) => width(flowKey(each)));
    expect((ten ?? 0) / (three ?? 1)).toBeCloseTo(10 / 3);
    expect(denied).toBeGreaterThan(0.001);
  });

  test("a zoomed selection fills most of the circle and all else stays in it", () => {
    const zoom = { ...NOTHING, namespace: "db" };
    const rings = layOut(FLOWS, "connections", zoom);
    const share = rings.chords.filter((chord) => selects(zoom, chord.flow)).reduce((sum, chord) => sum + chord.source.end - chord.source.start + chord.dest.end - chord.dest.start, 0) / (2 * Math.PI);
    expect(share).toBeGreaterThan(0.8);
    expect(rings.chords).toHaveLength(FLOWS.length);
  });

  test("a movement begins at the old layout and ends at the new, by identity", () => {
    const [from, to] = [layOut(FLOWS, "connections"), layOut(FLOWS, "bytes", { ...NOTHING, namespace: "db" })];
    between(from, to, 1).names.forEach((each, index) => expect(each.end).toBeCloseTo(to.names[index]?.end ?? -1));
    expect(between(from, to, 0).names.map((each) => each.start)).toEqual(from.names.map((each) => each.start));
  });

  test("no flows lay out to empty rings", () => {
    expect(layOut([], "bytes")).toEqual({ namespaces: [], names: [], chords: [] });
  });
});

test("denied takes in what a destination denied", () => {
  expect(selects({ ...NOTHING, status: "denied" }, flow("a:b", "c:d", "denied_by_destination"))).toBe(true);
  expect(selects({ ...NOTHING, status: "denied_by_destination" }, flow("a:b", "c:d", "denied"))).toBe(false);
});

test("a source's row is the sum of its destinations', denied and allowed apart", () => {
  const [denied, allowed] = tabulate(FLOWS, 10, "name");
  expect(denied?.title).toBe("Denied Traffic");
  for (const source of [...(denied?.sources ?? []), ...(allowed?.sources ?? [])]) {
    expect(source.dests.reduce((sum, dest) => sum + dest.cps, 0)).toBeCloseTo(source.cps);
  }
  expect(denied?.sources.map((source) => source.key)).toEqual(["shop:b"]);
});

test("rates have three significant digits", () => {
  expect([0, 0.001, 0.0123, 1.5, 12.345, 999.96, 19_876, 4_610_000, 0.00001].map(rate)).toEqual(["0", "0.001", "0.012", "1.50", "12.3", "1.00k", "19.9k", "4.61M", "<0.001"]);
});

test("the address bar holds all of a place", () => {
  const place = read("/logs", "?from=-3600&source_type=ns&source_label=a+%3D%3D+%22b%22&filter=-action%3Aallow&filter=dest_name_aggr%3Ax%3Ay&columns=action&sort=-bytes_in");
  expect(place.filter.conditions).toEqual([{ field: "action", value: "allow", exclude: true }, { field: "dest_name_aggr", value: "x:y", exclude: false }]);
  const again = write(place);
  expect(read(again.split("?")[0] ?? "", `?${again.split("?")[1] ?? ""}`)).toEqual(place);
  expect(filterQuery(NO_FILTER).toString()).toBe("");
  expect(summary(NO_FILTER)).toBe("Filter: Time range: [ From: 15 minutes ago ], Source type: [ net,ns,wep,hep ], Source label selector: None, Destination type: [ net,ns,wep,hep ], Destination label selector: None");
});

test("a range that can't be asked for says why", () => {
  const now = 1_000_000_000;
  for (const fine of [[-900, 0], [-31 * 86400, 0], [now - 10, now - 5], [now - 60, 0], [-7200, now - 60]] as const) expect(rangeProblem(fine[0], fine[1], now)).toBeNull();
  for (const turned of [[0, -900], [-900, -900], [now - 5, now - 10], [now + 60, 0]] as const) expect(rangeProblem(turned[0], turned[1], now)).toContain("From must come before To");
  expect(rangeProblem(now + 60, now + 90, now)).toContain("future");
  expect(rangeProblem(-32 * 86400, 0, now)).toContain("31 days");
});

test("what the reader has set stands first in the folded filter's line", () => {
  expect(summary({ ...NO_FILTER, from: -3600, conditions: [{ field: "action", value: "deny", exclude: false }] })).toMatch(/^Filter: Time range: \[ From: 1 hour ago \], action: deny, Source type/);
});

test("one thing is not told in the plural", () => {
  expect([0, 1, 1200].map((value) => counted(value, "flow"))).toEqual(["0 flows", "1 flow", "1,200 flows"]);
});

test("an address of nonsense is the first view without a filter", () => {
  expect(read("/nowhere", "?from=x&filter=&filter=novalue")).toEqual({ view: "flows", filter: NO_FILTER, choice: {} });
});
