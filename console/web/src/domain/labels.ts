/** Where the labels around the circle stand: beside their arcs, moved apart where they would touch. */

import type { Frame } from "./circle";
import { at, middle } from "./circle";
import type { Segment } from "./rings";

export interface Label {
  readonly key: string;
  readonly text: string;
  readonly side: "left" | "right";
  readonly x: number;
  readonly y: number;
  /** From the arc to the text. */
  readonly leader: readonly (readonly [number, number])[];
}

const LINE_HEIGHT = 15;
/** The tools over the drawing's upper right corner. */
const TOOLS = { width: 190, height: 48 };
/** Of the bolder half of letters, so that hardly a text is wider than is thought. */
const CHARACTER = 6.5;
const GAP = 12;
/** Where not all names have room, those of arcs narrower than this stay out: a choice among equals would mislead. */
const LEAST_WIDTH = 4;
/** A ring narrower than this has no room for writing. */
const LEAST_RING = 12;
/** Radians to either side of a name's middle that its path takes at most. */
const LONGEST_REACH = 1.5;
/** A label further than this from its arc would tell less than it confuses. */
const FURTHEST = 30;

/** Labels for the segments that have room beside their arc, the broader before the narrower; the others are told by pointing. */
export function placeLabels(segments: readonly Segment[], frame: Frame): readonly Label[] {
  return (["left", "right"] as const).flatMap((side) => placeSide(segments, frame, side));
}

function placeSide(segments: readonly Segment[], frame: Frame, side: "left" | "right"): Label[] {
  const most = Math.floor((frame.height - 8) / LINE_HEIGHT);
  const mine = segments.filter((each) => Math.sin(middle(each)) < 0 === (side === "left"));
  const width = (each: Segment): number => (each.end - each.start) * frame.outer;
  const broadest = [...mine].sort((a, b) => width(b) - width(a)).slice(0, most).filter((each) => mine.length <= most || width(each) >= LEAST_WIDTH);
  const wanted = (each: Segment): number => at(middle(each), frame.outer + GAP).y;
  const short = names(segments);
  const bottom = frame.height / 2 - LINE_HEIGHT / 2;
  return fitting(broadest.sort((a, b) => wanted(a) - wanted(b)), wanted, width, bottom).map(([each, y]) => label(each, short(each), side, y, frame));
}

/** The segments, from top to bottom, with a height for each near the wanted one: where they crowd, the narrowest stay out. */
function fitting(ordered: readonly Segment[], wanted: (each: Segment) => number, width: (each: Segment) => number, bottom: number): readonly (readonly [Segment, number])[] {
  const kept = [...ordered];
  for (;;) {
    const heights = apart(kept.map(wanted), bottom);
    const moved = kept.map((each, index) => Math.abs((heights[index] ?? 0) - wanted(each)));
    const worst = moved.indexOf(Math.max(0, ...moved));
    if (worst < 0 || (moved[worst] ?? 0) <= FURTHEST) return kept.map((each, index) => [each, heights[index] ?? 0] as const);
    const touching = (index: number): boolean => Math.abs((heights[index] ?? 0) - (heights[index - 1] ?? Number.NEGATIVE_INFINITY)) < LINE_HEIGHT + 0.5;
    let [first, last] = [worst, worst];
    while (touching(first)) first -= 1;
    while (last + 1 < kept.length && touching(last + 1)) last += 1;
    const crowd = kept.slice(first, last + 1).map(width);
    kept.splice(first + crowd.indexOf(Math.min(...crowd)), 1);
  }
}

/** A namespace's name written along its arc of the outer ring. */
export interface RingName {
  readonly key: string;
  readonly text: string;
  readonly start: number;
  readonly end: number;
  /** Whether it runs against the clock, so that it stands upright in the lower half. */
  readonly turned: boolean;
}

/** Names of the segments whose arc has room for the whole of theirs; the others are told by pointing. */
export function placeRingNames(segments: readonly Segment[], frame: Frame): readonly RingName[] {
  const radius = (frame.outer + frame.name) / 2;
  if (frame.outer - frame.name < LEAST_RING) return [];
  return segments.flatMap((each) => {
    const text = each.label === "-" ? "no namespace" : each.label;
    if ((each.end - each.start) * radius < (text.length + 2) * CHARACTER) return [];
    // A path around the whole circle would begin where it ends, and hold no writing.
    const reach = Math.min((each.end - each.start) / 2, LONGEST_REACH);
    return [{ key: each.key, text, start: middle(each) - reach, end: middle(each) + reach, turned: Math.cos(middle(each)) < 0 }];
  });
}

/** Heights nearest to the wanted ones, by least squares, that keep a line between neighbours and all within the drawing:
 * neighbours that would touch stand as one block around their common middle (pool adjacent violators). */
function apart(wanted: readonly number[], bottom: number): number[] {
  const blocks: { sum: number; size: number }[] = [];
  wanted.forEach((y, index) => {
    let block = { sum: y - index * LINE_HEIGHT, size: 1 };
    for (let last = blocks.at(-1); last !== undefined && last.sum / last.size >= block.sum / block.size; last = blocks.at(-1)) {
      block = { sum: block.sum + last.sum, size: block.size + last.size };
      blocks.pop();
    }
    blocks.push(block);
  });
  const highest = bottom - (wanted.length - 1) * LINE_HEIGHT;
  return blocks.flatMap(({ sum, size }) => Array.from({ length: size }, () => Math.max(-bottom, Math.min(highest, sum / size)))).map((y, index) => y + index * LINE_HEIGHT);
}

/** Pixels from where a label begins to the drawing's edge, or to the tools that stand in its upper right corner. */
function room(x: number, y: number, frame: Frame): number {
  const below = x < 0 || y > TOOLS.height - frame.height / 2;
  return frame.width / 2 - Math.abs(x) - (below ? 4 : TOOLS.width);
}

function label(segment: Segment, text: string, side: "left" | "right", y: number, frame: Frame): Label {
  const angle = middle(segment);
  const sign = side === "left" ? -1 : 1;
  const reach = frame.outer + GAP;
  const beside = Math.abs(y) < reach ? Math.sqrt(reach * reach - y * y) : 0;
  const x = sign * Math.max(beside, Math.abs(at(angle, reach).x));
  const [from, elbow] = [at(angle, frame.outer + 2), at(angle, frame.outer + GAP * 0.55)];
  return { key: segment.key, text: clip(text, room(x, y, frame)), side, x, y, leader: [[from.x, from.y], [elbow.x, elbow.y], [x - sign * 3, y]] };
}

/** `frontend-6d996fbd97-*` without its hash where that stays unmistakable. */
function names(segments: readonly Segment[]): (segment: Segment) => string {
  const shorten = (text: string): string => text.replace(/-[a-z0-9]{6,10}-\*$/, "-*");
  const counts = new Map<string, number>();
  for (const each of segments) {
    const key = `${each.namespace}:${shorten(each.label)}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return (each) => {
    const short = shorten(each.label);
    if (short === "-") return "no namespace";
    return counts.get(`${each.namespace}:${short}`) === 1 ? short : each.label;
  };
}

/** Shortened in the middle, as both ends of a name tell it apart. */
function clip(text: string, width: number): string {
  const most = Math.max(6, Math.floor(width / CHARACTER));
  if (text.length <= most) return text;
  const tail = Math.floor((most - 1) / 3);
  return `${text.slice(0, most - 1 - tail)}…${text.slice(text.length - tail)}`;
}
