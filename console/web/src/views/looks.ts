/** Which colour stands for what in each of the three views of the rings. */

import type { Status } from "../domain/flow";
import { nameKey } from "../domain/flow";
import { palette } from "../domain/palette";
import type { Rings, Selection } from "../domain/rings";
import { statusFill } from "../marks/patterns";
import type { Looks } from "../marks/rings";

export type Mode = "namespaces" | "names" | "status";

const DASHES: Readonly<Record<Status, string | undefined>> = {
  allowed: undefined, unanswered: "2 5", denied: "10 3", denied_by_destination: "2 2.5", leak: "9 3 2 3", unknown: "1 6",
};
const GREY = "var(--ring)";

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
    dash: (chord) => (mode === "status" ? DASHES[chord.flow.status] : undefined),
    namespace: (each) => (mode === "namespaces" ? spaces(each.key) : GREY),
    name: (each) => (mode === "names" ? names(each.key) : GREY),
    aside: (each) => zoom.namespace !== "" && (each.namespace !== zoom.namespace || (zoom.name !== "" && each.key.includes(":") && each.key !== zoom.name)),
    row: (namespace, name) => (mode === "status" ? null : mode === "names" ? names(name) : spaces(namespace)),
  };
}
