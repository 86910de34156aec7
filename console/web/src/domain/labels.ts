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
const CHARACTER = 6;
const GAP = 12;
/** Where not all names have room, those of arcs narrower than this stay out: a choice among equals would mislead. */
const LEAST_WIDTH = 4;
/** A ring narrower than this has no room for writing. */
const LEAST_RING = 12;
/** Radians to either side of a name's middle that its path takes at most. */
const LONGEST_REACH = 1.5;
/** A label further than this from its arc would tell less than it confuses. */
const FURTHEST = 48;

/** Labels for the broadest segments that have room; the others are told by pointing. */
export function placeLabels(segments: readonly Segment[], frame: Frame): readonly Label[] {
  return (["left", "right"] as const).flatMap((side) => placeSide(segments, frame, side));
}

function placeSide(segments: readonly Segment[], frame: Frame, side: "left" | "right"): Label[] {
  const most = Math.floor((frame.height - 8) / LINE_HEIGHT);
  const mine = segments.filter((each) => Math.sin(middle(each)) < 0 === (side === "left"));
  const width = (each: Segment): number => (each.end - each.start) * frame.outer;
  const broadest = [...mine].sort((a, b) => width(b) - width(a)).slice(0, most).filter((each) => mine.length <= most || width(each) >= LEAST_WIDTH);
  const wanted = (each: Segment): number => at(middle(each), frame.outer + GAP).y;
  const ordered = broadest.sort((a, b) => wanted(a) - wanted(b));
  const heights = apart(ordered.map(wanted), frame.height / 2 - LINE_HEIGHT / 2);
  const short = names(segments);
  return ordered.flatMap((each, index) => {
    const y = heights[index] ?? 0;
    if (Math.abs(y - wanted(each)) > FURTHEST) return [];
    return [label(each, clip(short(each), frame.room - GAP - 4), side, y, frame)];
  });
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

/** The least movement down, then up, that keeps a line between neighbours and all within the drawing. */
function apart(wanted: readonly number[], bottom: number): number[] {
  const heights: number[] = [];
  for (const y of wanted) heights.push(Math.max(y, (heights.at(-1) ?? Number.NEGATIVE_INFINITY) + LINE_HEIGHT, -bottom));
  let floor = bottom;
  for (let index = heights.length - 1; index >= 0; index -= 1) {
    heights[index] = Math.min(heights[index] ?? 0, floor);
    floor = (heights[index] ?? 0) - LINE_HEIGHT;
  }
  return heights;
}

function label(segment: Segment, text: string, side: "left" | "right", y: number, frame: Frame): Label {
  const angle = middle(segment);
  const sign = side === "left" ? -1 : 1;
  const reach = frame.outer + GAP;
  const beside = Math.abs(y) < reach ? Math.sqrt(reach * reach - y * y) : 0;
  const x = sign * Math.max(beside, Math.abs(at(angle, reach).x));
  const [from, elbow] = [at(angle, frame.outer + 2), at(angle, frame.outer + GAP * 0.55)];
  return { key: segment.key, text, side, x, y, leader: [[from.x, from.y], [elbow.x, elbow.y], [x - sign * 3, y]] };
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
