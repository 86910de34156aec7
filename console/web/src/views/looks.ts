/** Which colour stands for what in each of the three views of the rings. */

import type { Status } from "../domain/flow";
import { nameKey } from "../domain/flow";
import { palette } from "../domain/palette";
import type { Rings, Selection } from "../domain/rings";
import { statusFill } from "../marks/patterns";
import type { Looks } from "../marks/rings";

export type Mode = "namespaces" | "names" | "status";

/** Dashes and gaps in widths of the line; rounded ends make each dash a width longer, and a dot of none. */
const DASHES: Readonly<Record<Status, readonly number[]>> = {
  allowed: [], unanswered: [1.2, 3.2], denied: [5, 2.4], denied_by_destination: [0, 1.9], leak: [4, 2.2, 0, 2.2], unknown: [0, 5],
};
const GREY = "var(--ring)";

/** What words beside the drawing tell apart: namespaces, until something inside of one is chosen. */
export function levelOf(mode: Mode, chosen: Selection): "namespace" | "name" {
  return mode === "namespaces" && chosen.namespace === "" && chosen.name === "" && chosen.flow === "" ? "namespace" : "name";
}

export interface Colours extends Looks {
  /** Colour of a row of the traffic table, or null where the row's state is told instead. */
  readonly row: (namespace: string, name: string) => string | null;
}

export function coloursOf(rings: Rings, mode: Mode, zoom: Selection): Colours {
  const spaces = palette(rings.namespaces.map((each) => each.key));
  const names = palette(rings.names.map((each) => each.key));
  const colour = ({ flow }: { flow: Rings["chords"][number]["flow"] }): string =>
    mode === "names" ? names(nameKey(flow.source)) : spaces(flow.source.namespace);
  return {
    chord: (chord) => (mode === "status" ? statusFill(chord.flow.status) : colour(chord)),
    line: (chord) => (mode === "status" ? `var(--${chord.flow.status})` : colour(chord)),
    dash: (chord, width) => (mode === "status" && chord.flow.status !== "allowed" ? DASHES[chord.flow.status].map((each) => (each * width).toFixed(1)).join(" ") : undefined),
    namespace: (each) => (mode === "namespaces" ? spaces(each.key) : GREY),
    name: (each) => (mode === "names" ? names(each.key) : GREY),
    aside: (each) => zoom.namespace !== "" && (each.namespace !== zoom.namespace || (zoom.name !== "" && each.key.includes(":") && each.key !== zoom.name)),
    row: (namespace, name) => (mode === "status" ? null : mode === "names" ? names(name) : spaces(namespace)),
  };
}
