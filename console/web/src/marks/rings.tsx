/** The drawing of the Flow Visualizer: (rings, looks, size) to SVG nodes, without state. */

import { arc as arcPath } from "d3-shape";
import type { VNode } from "preact";
import type { Arc, Chord, Rings, Segment } from "../domain/rings";
import { statusFill } from "./patterns";

export interface Looks {
  readonly chord: (chord: Chord) => string;
  readonly namespace: (segment: Segment) => string;
  readonly name: (segment: Segment) => string;
}

/** Radii of the rings for a drawing of `size` pixels square, labels outside. */
export function radii(size: number): { outer: number; name: number; flow: number; chord: number } {
  const outer = size / 2 - 72;
  return { outer, name: outer - 17, flow: outer - 34, chord: outer - 50 };
}

const path = arcPath<{ inner: number; outer: number; start: number; end: number }>()
  .innerRadius((each) => each.inner)
  .outerRadius((each) => each.outer)
  .startAngle((each) => each.start)
  .endAngle((each) => each.end)
  .digits(1);

function band(span: Arc, inner: number, outer: number): string {
  return path({ inner, outer, start: span.start, end: span.end }) ?? "";
}

function point(angle: number, radius: number): string {
  return `${(Math.sin(angle) * radius).toFixed(1)} ${(-Math.cos(angle) * radius).toFixed(1)}`;
}

/** A ribbon between two arcs of one circle; the nearer the ends, the shallower it bends. */
export function ribbon(source: Arc, dest: Arc, radius: number): string {
  const middle = (span: Arc): number => (span.start + span.end) / 2;
  let [a, b] = [middle(source), middle(dest)];
  if (Math.abs(a - b) > Math.PI) a < b ? (a += 2 * Math.PI) : (b += 2 * Math.PI);
  const depth = Math.min(1, (Math.abs(a - b) / Math.PI) * 1.25 + 0.16);
  const bend = point((a + b) / 2, radius * (1 - depth));
  const along = (span: Arc): string =>
    `A${radius} ${radius} 0 ${span.end - span.start > Math.PI ? 1 : 0} 1 ${point(span.end, radius)}`;
  const [from, to] = [point(source.start, radius), point(dest.start, radius)];
  return `M${from}${along(source)}Q${bend} ${to}${along(dest)}Q${bend} ${from}Z`;
}

export function chordMarks(chords: readonly Chord[], looks: Looks, size: number): readonly VNode[] {
  const { chord: radius } = radii(size);
  return chords.map((chord) => (
    <path key={chord.key} class="chord" data-level="flow" data-key={chord.key} d={ribbon(chord.source, chord.dest, radius)} fill={looks.chord(chord)} />
  ));
}

/** The inner ring: both ends of every flow, by status. */
export function flowRing(rings: Rings, size: number): readonly VNode[] {
  const { flow, chord } = radii(size);
  return rings.chords.flatMap((each) =>
    [each.source, each.dest].map((span, side) => (
      <path key={`${each.key}|${side}`} class="arc" data-level="flow" data-key={each.key} d={band(span, chord, flow)} fill={statusFill(each.flow.status)} />
    )),
  );
}

export function segmentRings(rings: Rings, looks: Looks, size: number): readonly VNode[] {
  const { outer, name, flow } = radii(size);
  return [
    ...rings.names.map((each) => (
      <path key={`n${each.key}`} class="arc" data-level="name" data-key={each.key} d={band(each, flow, name)} fill={looks.name(each)} />
    )),
    ...rings.namespaces.map((each) => (
      <path key={`s${each.key}`} class="arc" data-level="namespace" data-key={each.key} d={band(each, name, outer)} fill={looks.namespace(each)} />
    )),
  ];
}

/** The outline around what is chosen or pointed at. */
export function outline(segment: Segment, level: "namespace" | "name", size: number): VNode {
  const { outer, name, flow } = radii(size);
  return <path class="outline" d={level === "name" ? band(segment, flow, name) : band(segment, name, outer)} />;
}

const LINE_HEIGHT = 13;

/** Labels outside the circle, along the radius; one that would lie upon its neighbour is left out. */
export function labelMarks(segments: readonly Segment[], size: number): readonly VNode[] {
  const { outer } = radii(size);
  const least = LINE_HEIGHT / (outer + 6);
  const marks: VNode[] = [];
  const taken: number[] = [];
  const widest = [...segments].sort((a, b) => b.end - b.start - (a.end - a.start));
  for (const each of widest) {
    const angle = (each.start + each.end) / 2;
    if (taken.some((other) => Math.abs(other - angle) < least || Math.abs(other - angle) > 2 * Math.PI - least)) continue;
    taken.push(angle);
    const left = angle > Math.PI;
    const turn = (angle * 180) / Math.PI - 90;
    const text = each.label.length > 26 ? `${each.label.slice(0, 25)}…` : each.label;
    const name = text.replace(/-[a-z0-9]{6,10}-\*$/, "-*");
    marks.push(
      <text key={each.key} class="label" transform={`rotate(${turn.toFixed(1)}) translate(${outer + 6} 0)${left ? " rotate(180)" : ""}`} text-anchor={left ? "end" : "start"} dy="0.32em" data-level={each.key.includes(":") ? "name" : "namespace"} data-key={each.key}>
        {name.length > 12 ? `${name.slice(0, 11)}…` : name}
        <title>{each.key}</title>
      </text>,
    );
  }
  return marks;
}
