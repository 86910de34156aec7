/** The circle with its pointer and keyboard: what is pointed at, selected, zoomed into.
 *
 * It is drawn in layers: pointing repaints only what is lit, while the browser keeps the thousands of other shapes. */

import type { VNode } from "preact";
import { useMemo, useRef, useState } from "preact/hooks";
import { flowTitle, nameKey, STATUSES } from "../domain/flow";
import { palette } from "../domain/palette";
import type { Chord, Rings, Selection } from "../domain/rings";
import { isEmpty, NOTHING, selects } from "../domain/rings";
import { statusFill, statusPatterns } from "../marks/patterns";
import type { Looks } from "../marks/rings";
import { chordMarks, flowRing, labelMarks, outline, segmentRings } from "../marks/rings";
import { useMove } from "./hooks";
import type { Mode } from "./flows";

const SIZE = 760;
const BOX = `${-SIZE / 2} ${-SIZE / 2} ${SIZE} ${SIZE}`;
const GREY = "var(--ring)";
type Level = "namespace" | "name" | "flow";

interface Props {
  readonly rings: Rings;
  readonly mode: Mode;
  readonly selection: Selection;
  readonly zoom: Selection;
  readonly hover: Selection;
  readonly labels: boolean;
  readonly onHover: (hover: Selection) => void;
  readonly onSelect: (selection: Selection) => void;
  readonly onZoom: (selection: Selection) => void;
}

export function Circle({ rings: target, mode, selection, zoom, hover, labels, onHover, onSelect, onZoom }: Props): VNode {
  const rings = useMove(target);
  const looks = useMemo(() => looksOf(target, mode), [target, mode]);
  const chosen = useMemo(() => rings.chords.filter((chord) => selects(selection, chord.flow) && selects(zoom, chord.flow)), [rings, selection, zoom]);
  const base = useMemo(() => chordMarks([...chosen].sort(broadFirst), looks, SIZE), [chosen, looks]);
  const frame = useMemo(() => [...flowRing(rings, SIZE), ...segmentRings(rings, looks, SIZE)], [rings, looks]);
  const writing = useMemo(() => (labels ? labelMarks(mode === "namespaces" && isEmpty(zoom) ? rings.namespaces : rings.names, SIZE) : []), [rings, labels, mode, zoom]);
  const lit = useMemo(() => (isEmpty(hover) ? [] : chordMarks(rings.chords.filter((chord) => selects(hover, chord.flow) && selects(zoom, chord.flow)), looks, SIZE)), [hover, rings, looks, zoom]);
  const keyboard = useKeyboard(target, selection, onHover, onSelect, onZoom);

  const pick = (event: Event): Selection | null => {
    const target = event.target instanceof Element ? event.target.closest("[data-level]") : null;
    const level = target?.getAttribute("data-level") as Level | undefined;
    const key = target?.getAttribute("data-key");
    return level && key ? selectionOf(rings, level, key) : null;
  };
  const shown = isEmpty(hover) ? selection : hover;
  return (
    <>
      <div
        ref={keyboard.ref}
        class={`circle ${isEmpty(hover) ? "" : "pointing"}`}
        tabIndex={0}
        role="application"
        aria-label="Flows as three rings. Left and right move along a ring, up and down between rings, Enter selects, plus zooms in, Escape clears. The table has the same content."
        onPointerOver={(event) => onHover(pick(event) ?? NOTHING)}
        onPointerLeave={() => onHover(NOTHING)}
        onClick={(event) => {
          const picked = pick(event);
          onSelect(picked === null ? NOTHING : { ...picked, status: selection.status });
        }}
        onDblClick={(event) => {
          const picked = pick(event);
          if (picked !== null) onZoom(picked);
        }}
        onKeyDown={keyboard.onKeyDown}
        onBlur={() => onHover(NOTHING)}
      >
        <svg class="layer steady chords" viewBox={BOX} aria-hidden="true">{statusPatterns()}{base}</svg>
        <svg class="layer lit" viewBox={BOX} aria-hidden="true">{lit}</svg>
        <svg class="layer steady rings" viewBox={BOX} aria-hidden="true">{frame}</svg>
        <svg class="layer" viewBox={BOX} aria-hidden="true">
          {rings.names.filter((each) => each.key === shown.name).map((each) => outline(each, "name", SIZE))}
          {shown.name === "" ? rings.namespaces.filter((each) => each.key === shown.namespace).map((each) => outline(each, "namespace", SIZE)) : null}
          <g class="labels">{writing}</g>
        </svg>
      </div>
      <p class="visually-hidden" aria-live="polite">{keyboard.spoken}</p>
    </>
  );
}

function broadFirst(a: Chord, b: Chord): number {
  return b.source.end - b.source.start - (a.source.end - a.source.start);
}

function looksOf(rings: Rings, mode: Mode): Looks {
  const spaces = palette(rings.namespaces.map((each) => each.key));
  const names = palette(rings.names.map((each) => each.key));
  return {
    chord: ({ flow }) =>
      mode === "status" ? statusFill(flow.status) : mode === "names" ? names(nameKey(flow.source)) : spaces(flow.source.namespace),
    namespace: (each) => (mode === "namespaces" ? spaces(each.key) : GREY),
    name: (each) => (mode === "names" ? names(each.key) : GREY),
  };
}

function selectionOf(rings: Rings, level: Level, key: string): Selection | null {
  if (level === "namespace") return { ...NOTHING, namespace: key };
  if (level === "name") return { ...NOTHING, namespace: key.slice(0, key.indexOf(":")), name: key };
  const chord = rings.chords.find((each) => each.key === key);
  if (chord === undefined) return null;
  const { source } = chord.flow;
  return { ...NOTHING, namespace: source.namespace, name: nameKey(source), flow: key };
}

interface Keyboard {
  readonly ref: { current: HTMLDivElement | null };
  readonly spoken: string;
  readonly onKeyDown: (event: KeyboardEvent) => void;
}

const LEVELS: readonly Level[] = ["namespace", "name", "flow"];

function useKeyboard(rings: Rings, selection: Selection, onHover: Props["onHover"], onSelect: Props["onSelect"], onZoom: Props["onZoom"]): Keyboard {
  const ref = useRef<HTMLDivElement | null>(null);
  const [at, setAt] = useState<{ level: Level; index: number }>({ level: "namespace", index: -1 });
  const [spoken, setSpoken] = useState("");
  const list = (level: Level): readonly { key: string }[] =>
    level === "namespace" ? rings.namespaces : level === "name" ? rings.names : rings.chords;
  const stand = (level: Level, index: number): void => {
    const items = list(level);
    const place = ((index % items.length) + items.length) % items.length;
    const item = items[place];
    if (item === undefined) return;
    setAt({ level, index: place });
    onHover(selectionOf(rings, level, item.key) ?? NOTHING);
    const chord = rings.chords.find((each) => each.key === item.key);
    setSpoken(level === "flow" && chord ? `${flowTitle(chord.flow)}, ${STATUSES[chord.flow.status].label}` : `${level} ${item.key}`);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const turn = LEVELS.indexOf(at.level);
    const item = list(at.level)[at.index];
    const here = item === undefined ? null : selectionOf(rings, at.level, item.key);
    const acts: Record<string, () => void> = {
      ArrowRight: () => stand(at.level, at.index + 1),
      ArrowLeft: () => stand(at.level, at.index - 1),
      ArrowDown: () => stand(LEVELS[Math.min(2, turn + 1)] ?? at.level, Math.max(0, at.index)),
      ArrowUp: () => stand(LEVELS[Math.max(0, turn - 1)] ?? at.level, Math.max(0, at.index)),
      Enter: () => here && onSelect({ ...here, status: selection.status }),
      "+": () => here && onZoom(here),
      "=": () => here && onZoom(here),
      Escape: () => (onHover(NOTHING), onSelect(NOTHING)),
    };
    const act = acts[event.key];
    if (act === undefined) return;
    event.preventDefault();
    act();
  };
  return { ref, spoken, onKeyDown };
}
