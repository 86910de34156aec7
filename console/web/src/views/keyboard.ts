/** Walking the rings by keyboard. */

import { useState } from "preact/hooks";
import { flowTitle, STATUSES } from "../domain/flow";
import type { Rings, Selection } from "../domain/rings";
import { NOTHING, ofChord, ofSegment } from "../domain/rings";

type Level = "namespace" | "name" | "flow";
const LEVELS: readonly Level[] = ["namespace", "name", "flow"];

export interface Keyboard {
  /** What a screen reader says. */
  readonly spoken: string;
  readonly onKeyDown: (event: KeyboardEvent) => void;
}

export function useKeyboard(
  rings: Rings,
  selection: Selection,
  onHover: (hover: Selection) => void,
  onSelect: (selection: Selection) => void,
  onZoom: (selection: Selection) => void,
): Keyboard {
  const [place, setPlace] = useState<{ level: Level; index: number }>({ level: "namespace", index: -1 });
  const [spoken, setSpoken] = useState("");
  const stand = (level: Level, index: number): void => {
    const items = listOf(rings, level);
    const turn = ((index % items.length) + items.length) % items.length;
    const item = items[turn];
    if (item === undefined) return;
    setPlace({ level, index: turn });
    onHover(selectionOf(rings, level, item.key));
    const chord = rings.chords.find((each) => each.key === item.key);
    setSpoken(level === "flow" && chord ? `${flowTitle(chord.flow)}, ${STATUSES[chord.flow.status].label}` : `${level} ${item.key}`);
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const turn = LEVELS.indexOf(place.level);
    const item = listOf(rings, place.level)[place.index];
    const here = item === undefined ? null : selectionOf(rings, place.level, item.key);
    const acts: Record<string, () => void> = {
      ArrowRight: () => stand(place.level, place.index + 1),
      ArrowLeft: () => stand(place.level, place.index - 1),
      ArrowDown: () => stand(LEVELS[Math.min(2, turn + 1)] ?? place.level, Math.max(0, place.index)),
      ArrowUp: () => stand(LEVELS[Math.max(0, turn - 1)] ?? place.level, Math.max(0, place.index)),
      Enter: () => here && onSelect({ ...here, status: selection.status }),
      "+": () => here && onZoom(here),
      "=": () => here && onZoom(here),
      "-": () => onZoom(NOTHING),
      Escape: () => (onHover(NOTHING), onSelect(NOTHING)),
    };
    const act = acts[event.key];
    if (act === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  };
  return { spoken, onKeyDown };
}

function listOf(rings: Rings, level: Level): readonly { key: string }[] {
  return level === "namespace" ? rings.namespaces : level === "name" ? rings.names : rings.chords;
}

function selectionOf(rings: Rings, level: Level, key: string): Selection {
  if (level !== "flow") return ofSegment(level, key);
  const chord = rings.chords.find((each) => each.key === key);
  return chord === undefined ? NOTHING : ofChord(chord);
}
