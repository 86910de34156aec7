/** The drawing of the Flow Visualizer: (rings, looks, frame) to SVG nodes, without state.
 *
 * Few chords are shapes of their own. Many are gathered into one path per look, and thin ones become lines: a browser
 * paints two thousand lines in a few paths an order of magnitude faster than two thousand ribbons. */

import { arc as arcPath } from "d3-shape";
import type { VNode } from "preact";
import type { Frame, Point } from "../domain/circle";
import { at, bend, breadth, middle } from "../domain/circle";
import type { Status } from "../domain/flow";
import { STATUS_ORDER } from "../domain/flow";
import type { Label, RingName } from "../domain/labels";
import type { Arc, Chord, Rings, Segment } from "../domain/rings";
import { statusFill } from "./patterns";

export interface Looks {
  /** Fill of a ribbon. */
  readonly chord: (chord: Chord) => string;
  /** Colour of a chord that is drawn as a line, where a hatch couldn't be seen. */
  readonly line: (chord: Chord) => string;
  /** Its dashes at a width, their ends rounded, which tell the states apart without colour. */
  readonly dash: (chord: Chord, width: number) => string | undefined;
  readonly namespace: (segment: Segment) => string;
  readonly name: (segment: Segment) => string;
  /** Whether a segment steps back, as it isn't zoomed into. */
  readonly aside: (segment: Segment) => boolean;
}

/** Above this many chords they are gathered into common paths. */
export const MOST_SHAPES = 300;
/** A chord narrower than this many pixels is drawn as a line, and one narrower than the other, too, if it has dashes: a
 * hatch takes eight pixels. */
const THIN = 3;
const NARROW = 8;
/** Least width of a line, and where there are few. */
const LEAST_LINE = 1.6;
const LEAST_OF_FEW = 3;
const FEW = 40;

/** Digits after the point of a shape that goes along an arc. One is enough, but for arcs about half the circle: the
 * middle of such an arc follows from its ends so loosely that a rounded end moves it by pixels. */
function digits(span: Arc): number {
  return Math.abs(span.end - span.start - Math.PI) < 0.5 ? 4 : 1;
}

const arcs = (places: number): ((each: { inner: number; outer: number; start: number; end: number }) => string | null) =>
  arcPath<{ inner: number; outer: number; start: number; end: number }>()
    .innerRadius((each) => each.inner)
    .outerRadius((each) => each.outer)
    .startAngle((each) => each.start)
    .endAngle((each) => each.end)
    .digits(places);
const [coarse, fine] = [arcs(1), arcs(4)];

function band(span: Arc, inner: number, outer: number): string {
  return (digits(span) > 1 ? fine : coarse)({ inner, outer, start: span.start, end: span.end }) ?? "";
}

function text({ x, y }: Point, places = 1): string {
  return `${x.toFixed(places)} ${y.toFixed(places)}`;
}

function point(angle: number, radius: number, places = 1): string {
  return text(at(angle, radius), places);
}

/** A ribbon between two arcs of one circle. */
export function ribbon(source: Arc, dest: Arc, radius: number): string {
  const control = text(bend(source, dest, radius));
  const along = (span: Arc): string => {
    const places = digits(span);
    return `A${radius.toFixed(places)} ${radius.toFixed(places)} 0 ${span.end - span.start > Math.PI ? 1 : 0} 1 ${point(span.end, radius, places)}`;
  };
  const [from, to] = [point(source.start, radius, digits(source)), point(dest.start, radius, digits(dest))];
  return `M${from}${along(source)}Q${control} ${to}${along(dest)}Q${control} ${from}Z`;
}

function line({ source, dest }: Chord, radius: number): string {
  return `M${point(middle(source), radius)}Q${text(bend(source, dest, radius))} ${point(middle(dest), radius)}`;
}

/** @param of how many chords the whole drawing has, where these are a part of it. */
export function chordMarks(chords: readonly Chord[], looks: Looks, { chord: radius }: Frame, of = chords.length): readonly VNode[] {
  if (of > MOST_SHAPES) return gathered(chords, looks, radius);
  const least = chords.length > FEW ? LEAST_LINE : LEAST_OF_FEW;
  return chords.map((chord) => {
    const width = breadth(chord, radius);
    const stroke = Math.max(least, width);
    const dash = looks.dash(chord, stroke);
    if (width >= (dash === undefined ? THIN : NARROW)) {
      // A dark edge would take most of a narrow ribbon's colour away.
      const edge = width < NARROW ? looks.line(chord) : undefined;
      return <path key={chord.key} class="chord" data-key={chord.key} d={ribbon(chord.source, chord.dest, radius)} fill={looks.chord(chord)} stroke={edge} />;
    }
    return <path key={chord.key} class="chord line" data-key={chord.key} d={line(chord, radius)} stroke={looks.line(chord)} stroke-width={stroke.toFixed(1)} stroke-dasharray={dash} />;
  });
}

function gathered(chords: readonly Chord[], looks: Looks, radius: number): readonly VNode[] {
  const broad = new Map<string, string[]>();
  const thin = new Map<string, string[]>();
  for (const chord of chords) {
    const width = breadth(chord, radius);
    if (width < THIN) add(thin, `${looks.line(chord)}|${Math.max(0.75, Math.round(width * 2) / 2)}`, line(chord, radius));
    else add(broad, looks.chord(chord), ribbon(chord.source, chord.dest, radius));
  }
  return [
    ...[...thin].map(([look, parts]) => {
      const [colour, width] = look.split("|");
      return <path key={look} class="chord line" stroke={colour} stroke-width={width} d={parts.join("")} data-count={parts.length} />;
    }),
    ...[...broad].map(([fill, parts]) => <path key={fill} class="chord" fill={fill} d={parts.join("")} data-count={parts.length} />),
  ];
}

function add(into: Map<string, string[]>, key: string, part: string): void {
  const held = into.get(key);
  if (held === undefined) into.set(key, [part]);
  else held.push(part);
}

/** Separators closer than this many pixels would blacken the ring. */
const TICK_GAP = 5;

/** The inner ring: both ends of every flow by status, neighbours of one status in one band. */
export function flowRing(rings: Rings, { flow, chord }: Frame): readonly VNode[] {
  const ends = rings.chords.flatMap((each) => [each.source, each.dest].map((span) => ({ span, status: each.flow.status })));
  ends.sort((a, b) => a.span.start - b.span.start);
  const bands = new Map<Status, string[]>();
  let ticks = "";
  let lastTick = Number.NEGATIVE_INFINITY;
  let run: { status: Status; start: number; end: number } | null = null;
  const close = (): void => {
    if (run === null) return;
    const held = bands.get(run.status) ?? [];
    held.push(band(run, chord, flow));
    bands.set(run.status, held);
  };
  for (const { span, status } of ends) {
    if (run !== null && run.status === status && Math.abs(run.end - span.start) < 1e-6) run.end = span.end;
    else {
      close();
      run = { status, start: span.start, end: span.end };
    }
    if ((span.start - lastTick) * chord >= TICK_GAP) {
      ticks += `M${point(span.start, chord)}L${point(span.start, flow)}`;
      lastTick = span.start;
    }
  }
  close();
  return [
    ...STATUS_ORDER.flatMap((status) => {
      const parts = bands.get(status);
      return parts === undefined ? [] : [<path key={status} class="arc" data-status={status} d={parts.join("")} fill={statusFill(status)} />];
    }),
    <path key="ticks" class="ticks" d={ticks} />,
  ];
}

export function segmentRings(rings: Rings, looks: Looks, { outer, name, flow }: Frame): readonly VNode[] {
  return [
    ...segmentRing(rings.names, "name", looks, flow, name),
    ...segmentRing(rings.namespaces, "namespace", looks, name, outer),
  ];
}

function segmentRing(segments: readonly Segment[], level: "namespace" | "name", looks: Looks, inner: number, outer: number): readonly VNode[] {
  if (segments.length > MOST_SHAPES) {
    const parts = new Map<string, string[]>();
    for (const each of segments) add(parts, looks[level](each), band(each, inner, outer));
    return [...parts].map(([colour, paths]) => <path key={`${level}${colour}`} class="arc many" data-level={level} d={paths.join("")} fill={colour} />);
  }
  return segments.map((each) => (
    <path key={`${level}${each.key}`} class={`arc ${looks.aside(each) ? "aside" : ""}`} data-level={level} data-key={each.key} d={band(each, inner, outer)} fill={looks[level](each)} />
  ));
}

/** The outline around a segment that is chosen or pointed at. */
export function outline(segment: Segment, level: "namespace" | "name", { outer, name, flow }: Frame): VNode {
  return <path key={segment.key} class="outline" d={level === "name" ? band(segment, flow, name) : band(segment, name, outer)} />;
}

/** The outlines of one flow's two ends on the inner ring. */
export function ends(chord: Chord, { flow, chord: inner }: Frame): VNode {
  return <path key={chord.key} class="outline" d={[chord.source, chord.dest].map((span) => band(span, inner, flow)).join("")} />;
}

/** Names along the outer ring. */
export function ringNameMarks(names: readonly RingName[], { outer, name }: Frame): readonly VNode[] {
  const radius = (outer + name) / 2;
  return names.map((each, index) => {
    const [from, to] = each.turned ? [each.end, each.start] : [each.start, each.end];
    const d = `M${point(from, radius)}A${radius.toFixed(1)} ${radius.toFixed(1)} 0 0 ${each.turned ? 0 : 1} ${point(to, radius)}`;
    return (
      <g key={each.key} class="ringname">
        <path id={`ringname-${index}`} d={d} />
        <text dy="0.34em"><textPath href={`#ringname-${index}`} startOffset="50%" text-anchor="middle">{each.text}</textPath></text>
      </g>
    );
  });
}

export function labelMarks(labels: readonly Label[], level: "namespace" | "name"): readonly VNode[] {
  return labels.map((each) => (
    <g key={each.key} class="label" data-level={level} data-key={each.key}>
      <polyline points={each.leader.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ")} />
      <text x={each.x.toFixed(1)} y={each.y.toFixed(1)} dy="0.34em" text-anchor={each.side === "left" ? "end" : "start"}>
        {each.text}
        <title>{each.key}</title>
      </text>
    </g>
  ));
}
