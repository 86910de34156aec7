/** The circle's own geometry: radii for a place on the page, the bend of a chord, and what lies under a point. */

import type { Arc, Chord, Rings, Segment } from "./rings";

/** Radii in pixels around the middle of a `width` by `height` drawing, which leave room for labels on either side. */
export interface Frame {
  readonly width: number;
  readonly height: number;
  readonly outer: number;
  readonly name: number;
  readonly flow: number;
  readonly chord: number;
}

export interface Point {
  readonly x: number;
  readonly y: number;
}

const MOST_ROOM = 142;
const LEAST_OUTER = 70;

export function frame(width: number, height: number, labels: boolean): Frame {
  const room = labels ? Math.min(MOST_ROOM, width * 0.2) : 10;
  const outer = Math.max(LEAST_OUTER, Math.min(height / 2 - (labels ? 20 : 8), width / 2 - room));
  const ring = Math.max(9, Math.min(18, outer * 0.05));
  return { width, height, outer, name: outer - ring, flow: outer - 2 * ring, chord: outer - 3 * ring };
}

/** A point of the circle, clockwise from twelve o'clock. */
export function at(angle: number, radius: number): Point {
  return { x: Math.sin(angle) * radius, y: -Math.cos(angle) * radius };
}

export function middle(arc: Arc): number {
  return (arc.start + arc.end) / 2;
}

/** The control point that both edges of a chord bend towards; the nearer its ends, the shallower it bends. */
export function bend(source: Arc, dest: Arc, radius: number): Point {
  let [a, b] = [middle(source), middle(dest)];
  if (Math.abs(a - b) > Math.PI) a < b ? (a += 2 * Math.PI) : (b += 2 * Math.PI);
  const depth = Math.min(1, (Math.abs(a - b) / Math.PI) * 1.25 + 0.16);
  return at((a + b) / 2, radius * (1 - depth));
}

/** Width in pixels of a chord's wider end. */
export function breadth(chord: Chord, radius: number): number {
  return Math.max(chord.source.end - chord.source.start, chord.dest.end - chord.dest.start) * radius;
}

export type Hit =
  | { readonly level: "namespace" | "name"; readonly key: string }
  | { readonly level: "flow"; readonly chord: Chord };

/** How far beside a thin chord or the rim a pointer still means it; a click comes in whole pixels. */
const SLOP = 4;

/**
 * What lies under a point; null between things.
 *
 * @param drawn the chords in the order they are painted: the last one lies on top.
 */
export function hit(rings: Rings, drawn: readonly Chord[], frame: Frame, point: Point): Hit | null {
  const radius = Math.hypot(point.x, point.y);
  const angle = (Math.atan2(point.x, -point.y) + 2 * Math.PI) % (2 * Math.PI);
  if (radius > frame.outer + SLOP) return null;
  if (radius > frame.name) return segmentAt(rings.namespaces, "namespace", angle);
  if (radius > frame.flow) return segmentAt(rings.names, "name", angle);
  const covers = (arc: Arc): boolean => arc.start <= angle && angle < arc.end;
  if (radius > frame.chord) {
    const chord = rings.chords.find((each) => covers(each.source) || covers(each.dest));
    return chord === undefined ? null : { level: "flow", chord };
  }
  const chord = drawn.findLast((each) => inside(each, frame.chord, point));
  return chord === undefined ? null : { level: "flow", chord };
}

function segmentAt(segments: readonly Segment[], level: "namespace" | "name", angle: number): Hit | null {
  const found = segments.find((each) => each.start <= angle && angle < each.end);
  return found === undefined ? null : { level, key: found.key };
}

function inside(chord: Chord, radius: number, point: Point): boolean {
  const control = bend(chord.source, chord.dest, radius);
  const thin = breadth(chord, radius) < 2 * SLOP;
  const ends = [at(middle(chord.source), radius), at(middle(chord.dest), radius)] as const;
  // A thin chord lies within the triangle of its ends and its control point: most of them are ruled out by that.
  if (thin && outside(point, [...ends, control])) return false;
  if (thin) return beside(curve(ends[0], control, ends[1]), point);
  const outline = [
    ...along(chord.source, radius),
    ...curve(at(chord.source.end, radius), control, at(chord.dest.start, radius)),
    ...along(chord.dest, radius),
    ...curve(at(chord.dest.end, radius), control, at(chord.source.start, radius)),
  ];
  return encloses(outline, point);
}

function outside(point: Point, corners: readonly Point[]): boolean {
  const beyond = (of: (corner: Point) => number): boolean => {
    const values = corners.map(of);
    return of(point) < Math.min(...values) - SLOP || of(point) > Math.max(...values) + SLOP;
  };
  return beyond(({ x }) => x) || beyond(({ y }) => y);
}

const STEPS = 16;

function curve(from: Point, control: Point, to: Point): readonly Point[] {
  return Array.from({ length: STEPS + 1 }, (_, step) => {
    const t = step / STEPS;
    const mix = (a: number, b: number, c: number): number => (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t ** 2 * c;
    return { x: mix(from.x, control.x, to.x), y: mix(from.y, control.y, to.y) };
  });
}

function along(arc: Arc, radius: number): readonly Point[] {
  const steps = Math.max(1, Math.ceil((arc.end - arc.start) / 0.1));
  return Array.from({ length: steps + 1 }, (_, step) => at(arc.start + ((arc.end - arc.start) * step) / steps, radius));
}

function beside(line: readonly Point[], point: Point): boolean {
  return line.some((to, index) => {
    const from = line[index - 1];
    if (from === undefined) return false;
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    const t = Math.max(0, Math.min(1, ((point.x - from.x) * dx + (point.y - from.y) * dy) / (dx * dx + dy * dy || 1)));
    return Math.hypot(point.x - from.x - t * dx, point.y - from.y - t * dy) <= SLOP;
  });
}

/** Even-odd rule. */
function encloses(outline: readonly Point[], { x, y }: Point): boolean {
  let within = false;
  outline.forEach((to, index) => {
    const from = outline[(index || outline.length) - 1] ?? to;
    if (to.y > y !== from.y > y && x < ((from.x - to.x) * (y - to.y)) / (from.y - to.y) + to.x) within = !within;
  });
  return within;
}
