/** The circle with its pointer and keyboard: what is pointed at, selected, zoomed into.
 *
 * It is drawn in layers. Pointing draws only what is lit and the words beside the pointer again, while the browser keeps
 * everything else; what lies under the pointer is computed from the layout, so that no shape needs a listener. */

import type { VNode } from "preact";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import type { Frame, Point } from "../domain/circle";
import { frame as frameOf, hit } from "../domain/circle";
import { nameKey, STATUSES } from "../domain/flow";
import { counted, rate } from "../domain/format";
import { placeLabels, placeRingNames } from "../domain/labels";
import type { Chord, Index, Rings, Selection } from "../domain/rings";
import { belongs, index, isEmpty, NOTHING, ofChord, ofSegment, pointedAt } from "../domain/rings";
import { statusPatterns, statusSwatch } from "../marks/patterns";
import { chordMarks, ends, flowRing, labelMarks, outline, ringNameMarks, segmentRings } from "../marks/rings";
import type { Watched } from "./hooks";
import { useMove, useSize, useWatched } from "./hooks";
import { useKeyboard } from "./keyboard";
import type { Colours, Mode } from "./looks";
import { levelOf } from "./looks";
import { Name } from "./name";

/** What is pointed at, and where; `at` is null for the keyboard. */
export interface Hover {
  readonly selection: Selection;
  readonly at: Point | null;
}

const PATTERNS = statusPatterns();
/** Above this many lit chords the lines keep the drawing's own widths. Broadened they would cover one another, and only
 * up to one pixel has a line a quick way through a browser without a graphics processor: 2,000 take 7 ms and not 68. */
const MOST_BROADENED = 100;

export const NO_HOVER: Hover = { selection: NOTHING, at: null };

interface Props {
  readonly rings: Rings;
  readonly mode: Mode;
  readonly colours: Colours;
  readonly selection: Selection;
  readonly zoom: Selection;
  readonly hover: Watched<Hover>;
  readonly labels: boolean;
  readonly rangeS: number;
  readonly onSelect: (selection: Selection) => void;
  readonly onZoom: (selection: Selection) => void;
}

export function Circle({ rings: target, mode, colours, selection, zoom, hover, labels, rangeS, onSelect, onZoom }: Props): VNode {
  const [ref, size] = useSize<HTMLDivElement>();
  const frame = useMemo(() => frameOf(size.width, size.height, labels), [size, labels]);
  const rings = useMove(target);
  const level = isEmpty(zoom) ? levelOf(mode, { ...selection, namespace: "" }) : "name";
  const drawn = useMemo(
    () => rings.chords.filter((chord) => belongs(selection, chord) && belongs(zoom, chord)).sort(broadFirst),
    [rings, selection, zoom],
  );
  const known = useMemo(() => index(rings.chords), [rings]);
  const base = useMemo(() => chordMarks(drawn, colours, frame, rings.chords.length), [rings, drawn, colours, frame]);
  const inner = useMemo(() => <g key="flows">{flowRing(rings, frame)}</g>, [rings, frame]);
  const outer = useMemo(() => <g key="segments">{segmentRings(rings, colours, frame)}</g>, [rings, colours, frame]);
  const writing = useMemo(
    () => (labels ? labelMarks(placeLabels(level === "namespace" ? target.namespaces : target.names, frame), level) : []),
    [target, labels, level, frame],
  );
  // Where labels tell names, the ring itself tells the namespaces.
  const along = useMemo(
    () => (labels && level === "name" ? <g class={mode === "namespaces" ? "coloured" : ""}>{ringNameMarks(placeRingNames(target.namespaces, frame), frame)}</g> : null),
    [target, labels, level, frame, mode],
  );
  // Where the circle stands, read once while the pointer is over it: reading it at each move would force a layout.
  const place = useRef<DOMRect | null>(null);
  useLayoutEffect(() => { place.current = null; }, [size]);
  const keyboard = useKeyboard(target, selection, (next) => hover.set({ selection: next, at: null }), onSelect, onZoom);

  const under = (event: MouseEvent & { readonly currentTarget: HTMLElement }): { selection: Selection | null; at: Point } => {
    const box = (place.current ??= event.currentTarget.getBoundingClientRect());
    const at = { x: event.clientX - box.left - box.width / 2, y: event.clientY - box.top - box.height / 2 };
    const label = event.target instanceof Element ? event.target.closest("[data-key]") : null;
    if (label !== null) return { selection: ofSegment(label.getAttribute("data-level") === "name" ? "name" : "namespace", label.getAttribute("data-key") ?? ""), at };
    const found = hit(rings, drawn, frame, at);
    return { selection: found === null ? null : found.level === "flow" ? ofChord(found.chord) : ofSegment(found.level, found.key), at };
  };
  const box = `${-frame.width / 2} ${-frame.height / 2} ${frame.width} ${frame.height}`;
  return (
    <>
      <div
        ref={ref}
        class="circle"
        tabIndex={0}
        role="application"
        aria-label="Flows as three rings. Left and right move along a ring, up and down between rings, Enter selects, plus zooms in, minus zooms out, Escape clears. The table has the same content."
        onPointerMove={(event) => {
          const { selection: found, at } = under(event);
          event.currentTarget.classList.toggle("over", found !== null);
          hover.set(found === null ? NO_HOVER : same(hover.get().selection, found) ? { ...hover.get(), at } : { selection: found, at });
        }}
        onPointerEnter={() => { place.current = null; }}
        onPointerDown={() => { place.current = null; }}
        onPointerLeave={() => { place.current = null; hover.set(NO_HOVER); }}
        onClick={(event) => {
          const { selection: found } = under(event);
          onSelect(found === null ? NOTHING : { ...found, status: selection.status });
        }}
        onDblClick={(event) => {
          const { selection: found } = under(event);
          if (found !== null) onZoom(found);
        }}
        onKeyDown={keyboard.onKeyDown}
        onBlur={() => hover.set(NO_HOVER)}
      >
        {size.width === 0 ? null : (
          <>
            <Lit rings={rings} known={known} hover={hover} selection={selection} zoom={zoom} colours={colours} frame={frame} box={box} />
            <svg class="layer chords" viewBox={box} aria-hidden="true" data-chords={drawn.length}>{PATTERNS}{base}</svg>
            <svg class="layer rings" viewBox={box} aria-hidden="true">{inner}{outer}{along}<g class="labels">{writing}</g></svg>
            <Tip known={known} hover={hover} frame={frame} rangeS={rangeS} />
          </>
        )}
      </div>
      <p class="visually-hidden" aria-live="polite">{keyboard.spoken}</p>
    </>
  );
}

function broadFirst(a: Chord, b: Chord): number {
  return b.source.end - b.source.start - (a.source.end - a.source.start);
}

function same(a: Selection, b: Selection): boolean {
  return a.namespace === b.namespace && a.name === b.name && a.flow === b.flow;
}

interface LitProps {
  readonly rings: Rings;
  readonly known: Index;
  readonly hover: Watched<Hover>;
  readonly selection: Selection;
  readonly zoom: Selection;
  readonly colours: Colours;
  readonly frame: Frame;
  readonly box: string;
}

/** What is pointed at, drawn over the dimmed rest, and the outline of what is pointed at or chosen. */
function Lit({ rings, known, hover, selection, zoom, colours, frame, box }: LitProps): VNode {
  const { selection: pointed } = useWatched(hover);
  const on = !isEmpty(pointed);
  const shown = on ? pointed : selection;
  const lit = useMemo(() => (on ? pointedAt(known, pointed).filter((chord) => belongs(zoom, chord)) : []), [on, pointed, known, zoom]);
  const marks = useMemo(() => chordMarks(lit, colours, frame, rings.chords.length), [lit, rings, colours, frame]);
  const chosen = known.keys.get(shown.flow);
  return (
    <svg class={`layer lit ${on ? "on" : ""} ${lit.length > MOST_BROADENED ? "" : "few"}`} viewBox={box} aria-hidden="true">
      {marks}
      {chosen === undefined ? null : ends(chosen, frame)}
      {chosen === undefined && shown.name !== "" ? rings.names.filter((each) => each.key === shown.name).map((each) => outline(each, "name", frame)) : null}
      {shown.name === "" ? rings.namespaces.filter((each) => each.key === shown.namespace).map((each) => outline(each, "namespace", frame)) : null}
    </svg>
  );
}

interface TipProps {
  readonly known: Index;
  readonly hover: Watched<Hover>;
  readonly frame: Frame;
  readonly rangeS: number;
}

/** What is pointed at in words; the drop-downs say the same for those who can't see it. */
function Tip({ known, hover, frame, rangeS }: TipProps): VNode | null {
  const { selection, at } = useWatched(hover);
  const flows = useMemo(() => pointedAt(known, selection).map((chord) => chord.flow), [known, selection]);
  const first = flows[0];
  if (at === null || isEmpty(selection) || first === undefined) return null;
  const sum = (of: "connections" | "packets" | "bytes"): string => rate(flows.reduce((total, each) => total + each[of], 0) / rangeS);
  const left = at.x > 0 ? at.x + frame.width / 2 - 272 : at.x + frame.width / 2 + 16;
  const top = Math.max(4, Math.min(frame.height - 96, at.y + frame.height / 2 - 20));
  return (
    <div class="tip" aria-hidden="true" style={{ transform: `translate(${Math.round(left)}px, ${Math.round(top)}px)` }}>
      {selection.flow !== "" ? (
        <>
          <strong>{statusSwatch(first.status)} {STATUSES[first.status].label}</strong>
          <span><Name of={nameKey(first.source)} /></span>
          <span>→ <Name of={nameKey(first.dest)} /> {first.proto}{first.dest_port === null ? "" : `/${first.dest_port}`}</span>
        </>
      ) : <strong>{selection.name || (selection.namespace === "-" ? "- (no namespace)" : selection.namespace)}</strong>}
      <span class="soft">{selection.flow === "" ? `${counted(flows.length, "flow")} · ` : ""}{sum("connections")} conn/s · {sum("packets")} pkt/s · {sum("bytes")} B/s</span>
    </div>
  );
}
