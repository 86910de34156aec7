/** The geometry of the three rings: which arc each namespace, name and flow end takes, as angles only. */

import type { Flow, Measure } from "./flow";
import { flowKey, nameKey, namespaceOf, statusMatches } from "./flow";

/** An arc in radians clockwise from twelve o'clock. */
export interface Arc {
  readonly start: number;
  readonly end: number;
}

export interface Segment extends Arc {
  readonly key: string;
  readonly namespace: string;
  readonly label: string;
}

export interface Chord {
  readonly key: string;
  readonly flow: Flow;
  readonly source: Arc;
  readonly dest: Arc;
}

export interface Rings {
  readonly namespaces: readonly Segment[];
  readonly names: readonly Segment[];
  readonly chords: readonly Chord[];
}

/** What is chosen in the drop-downs; an empty text chooses all. */
export interface Selection {
  readonly status: string;
  readonly namespace: string;
  readonly name: string;
  readonly flow: string;
}

export const NOTHING: Selection = { status: "", namespace: "", name: "", flow: "" };

export function isEmpty(selection: Selection): boolean {
  return selection.status === "" && selection.namespace === "" && selection.name === "" && selection.flow === "";
}

/** The selection of a segment: a namespace, or a name with its namespace. */
export function ofSegment(level: "namespace" | "name", key: string): Selection {
  return level === "name" ? { ...NOTHING, namespace: namespaceOf(key), name: key } : { ...NOTHING, namespace: key };
}

/** The selection of a flow, with the name and namespace that it comes from. */
export function ofChord({ key, flow }: Chord): Selection {
  return { ...NOTHING, namespace: flow.source.namespace, name: nameKey(flow.source), flow: key };
}

/** Whether a flow belongs to the selection: one of its ends is chosen, and its status. */
export function selects(selection: Selection, flow: Flow): boolean {
  if (selection.flow !== "" && flowKey(flow) !== selection.flow) return false;
  if (selection.status !== "" && !statusMatches(selection.status, flow.status)) return false;
  if (selection.name !== "" && nameKey(flow.source) !== selection.name && nameKey(flow.dest) !== selection.name) return false;
  return selection.namespace === "" || flow.source.namespace === selection.namespace || flow.dest.namespace === selection.namespace;
}

/** The same of a chord, whose key is known already. */
export function belongs(selection: Selection, chord: Chord): boolean {
  if (selection === NOTHING) return true;
  if (selection.flow !== "") return chord.key === selection.flow;
  return selects(selection, chord.flow);
}

/** Chords by what may be pointed at, so that pointing looks through none of the others. */
export interface Index {
  readonly keys: ReadonlyMap<string, Chord>;
  readonly names: ReadonlyMap<string, readonly Chord[]>;
  readonly namespaces: ReadonlyMap<string, readonly Chord[]>;
}

export function index(chords: readonly Chord[]): Index {
  const names = new Map<string, Chord[]>();
  const namespaces = new Map<string, Chord[]>();
  const add = (into: Map<string, Chord[]>, ends: readonly string[], chord: Chord): void => {
    for (const each of new Set(ends)) {
      const held = into.get(each);
      if (held === undefined) into.set(each, [chord]);
      else held.push(chord);
    }
  };
  for (const chord of chords) {
    const { source, dest } = chord.flow;
    add(names, [nameKey(source), nameKey(dest)], chord);
    add(namespaces, [source.namespace, dest.namespace], chord);
  }
  return { keys: new Map(chords.map((chord) => [chord.key, chord])), names, namespaces };
}

/** The chords of what is pointed at: a flow, a name or a namespace. */
export function pointedAt({ keys, names, namespaces }: Index, { flow, name, namespace }: Selection): readonly Chord[] {
  if (flow !== "") return [keys.get(flow)].filter((chord) => chord !== undefined);
  return (name !== "" ? names.get(name) : namespaces.get(namespace)) ?? [];
}

interface Half {
  readonly flow: Flow;
  readonly key: string;
  readonly side: "source" | "dest";
  readonly mine: string;
  readonly peer: string;
  weight: number;
}

/** Least share of the circle for one end: a thin flow stays visible, and is drawn wider than its volume. */
export const LEAST_SHARE = 0.0012;
/** Shares of the circle that a zoomed selection fills, and the far ends of its flows. */
const ZOOM_SHARE = 0.78;
const FAR_SHARE = 0.16;
const GAP = 0.012;

/**
 * Lay the flows out.
 *
 * @param measure what a chord's thickness stands for.
 * @param zoom the selection that fills the circle; all others keep a sliver, so that nothing leaves the picture.
 */
export function layOut(flows: readonly Flow[], measure: Measure, zoom: Selection = NOTHING): Rings {
  const order = nameOrder(flows);
  const halves = weigh(flows, measure, zoom);
  const byName = new Map<string, Half[]>();
  for (const half of halves) {
    const held = byName.get(half.mine);
    if (held === undefined) byName.set(half.mine, [half]);
    else held.push(half);
  }
  const total = halves.reduce((sum, half) => sum + half.weight, 0) || 1;
  const spaces = new Set([...order.keys()].map((key) => order.get(key)?.namespace));
  const gaps = spaces.size > 1 ? Math.min(GAP, 0.6 / spaces.size) : 0;
  const scale = (2 * Math.PI - gaps * spaces.size) / total;

  const namespaces: Segment[] = [];
  const names: Segment[] = [];
  const ends = new Map<string, Arc>();
  let at = 0;
  let open: { namespace: string; start: number } | null = null;
  for (const [key, place] of order) {
    if (open !== null && open.namespace !== place.namespace) {
      namespaces.push(segment(open.namespace, open.namespace, open.namespace, open.start, at));
      at += gaps;
      open = null;
    }
    open ??= { namespace: place.namespace, start: at };
    const start = at;
    const mine = byName.get(key) ?? [];
    const turn = (half: Half): number => ((order.get(half.peer)?.index ?? 0) - place.index + order.size) % order.size;
    mine.sort((a, b) => turn(b) - turn(a) || (a.key < b.key ? -1 : a.key > b.key ? 1 : a.side < b.side ? 1 : -1));
    for (const half of mine) {
      ends.set(`${half.key}|${half.side}`, { start: at, end: at + half.weight * scale });
      at += half.weight * scale;
    }
    names.push(segment(key, place.namespace, place.name, start, at));
  }
  if (open !== null) namespaces.push(segment(open.namespace, open.namespace, open.namespace, open.start, at));
  const chords = flows.map((flow) => {
    const key = flowKey(flow);
    const nowhere = { start: 0, end: 0 };
    return { key, flow, source: ends.get(`${key}|source`) ?? nowhere, dest: ends.get(`${key}|dest`) ?? nowhere };
  });
  return { namespaces, names, chords };
}

function segment(key: string, namespace: string, label: string, start: number, end: number): Segment {
  return { key, namespace, label, start, end };
}

function nameOrder(flows: readonly Flow[]): Map<string, { namespace: string; name: string; index: number }> {
  const found = new Map<string, { namespace: string; name: string }>();
  for (const flow of flows) for (const end of [flow.source, flow.dest]) found.set(nameKey(end), end);
  const sorted = [...found].sort(([, a], [, b]) => compare(a.namespace, b.namespace) || compare(a.name, b.name));
  return new Map(sorted.map(([key, end], index) => [key, { namespace: end.namespace, name: end.name, index }]));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function weigh(flows: readonly Flow[], measure: Measure, zoom: Selection): Half[] {
  const volume = (flow: Flow): number => Math.max(0, flow[measure]);
  const total = flows.reduce((sum, flow) => sum + volume(flow), 0);
  const least = Math.min(LEAST_SHARE, 0.3 / Math.max(1, flows.length)) * (total || 1);
  const halves: Half[] = [];
  for (const flow of flows) {
    const key = flowKey(flow);
    const weight = Math.max(volume(flow), least, total === 0 ? 1 : 0);
    const [source, dest] = [nameKey(flow.source), nameKey(flow.dest)];
    halves.push({ flow, key, side: "source", mine: source, peer: dest, weight });
    halves.push({ flow, key, side: "dest", mine: dest, peer: source, weight });
  }
  if (!isEmpty(zoom)) magnify(halves, zoom);
  return halves;
}

/** Weights under a zoom: the chosen ends fill the circle, their flows' far ends and all else keep slivers of it. */
function magnify(halves: readonly Half[], zoom: Selection): void {
  const own: Half[] = [];
  const far: Half[] = [];
  const rest: Half[] = [];
  for (const half of halves) {
    if (!selects(zoom, half.flow)) rest.push(half);
    else (isEnd(zoom, half) ? own : far).push(half);
  }
  // Inside a zoom small flows are raised, or a big one would hide what the reader zoomed in for.
  const least = (own.reduce((sum, half) => sum + half.weight, 0) / Math.max(1, own.length)) * 0.15;
  for (const half of own) half.weight = Math.max(half.weight, least);
  const parts = ([[own, ZOOM_SHARE], [far, FAR_SHARE], [rest, 1 - ZOOM_SHARE - FAR_SHARE]] as const).filter(([part]) => part.length > 0);
  for (const [part, share] of parts) {
    const sum = part.reduce((total, half) => total + half.weight, 0) || 1;
    for (const half of part) half.weight *= share / sum;
  }
}

function isEnd(zoom: Selection, half: Half): boolean {
  if (zoom.flow !== "") return true;
  if (zoom.name !== "") return half.mine === zoom.name;
  const end = half.side === "source" ? half.flow.source : half.flow.dest;
  return zoom.namespace === "" || end.namespace === zoom.namespace;
}

/** The rings part-way from one layout to the next; what is new opens where it stands, what is gone is left out. */
export function between(from: Rings, to: Rings, t: number): Rings {
  const mix = (a: Arc | undefined, b: Arc): Arc => {
    const middle = (b.start + b.end) / 2;
    const start = a?.start ?? middle;
    const end = a?.end ?? middle;
    return { start: start + (b.start - start) * t, end: end + (b.end - end) * t };
  };
  const arcs = (before: readonly Segment[], after: readonly Segment[]): Segment[] => {
    const known = new Map(before.map((each) => [each.key, each]));
    return after.map((each) => ({ ...each, ...mix(known.get(each.key), each) }));
  };
  const known = new Map(from.chords.map((chord) => [chord.key, chord]));
  return {
    namespaces: arcs(from.namespaces, to.namespaces),
    names: arcs(from.names, to.names),
    chords: to.chords.map((chord) => {
      const before = known.get(chord.key);
      return { ...chord, source: mix(before?.source, chord.source), dest: mix(before?.dest, chord.dest) };
    }),
  };
}
