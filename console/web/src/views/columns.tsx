/** The eye menu: what tiles of the board show. */

import type { VNode } from "preact";
import type { IconName } from "../marks/icons";
import { icon } from "../marks/icons";
import { Menu } from "./menu";

export const COLUMNS = [
  ["Namespace", "folder"],
  ["Endpoints", "box"],
  ["Connections", "wifi"],
  ["Allowed", "arrows"],
  ["Denied", "deny"],
  ["Passed", "layers"],
] as const satisfies readonly (readonly [string, IconName])[];

export type Column = (typeof COLUMNS)[number][0];

export const DEFAULT_COLUMNS = "Namespace,Endpoints";

export function EyeMenu({ shown, onShown }: { shown: ReadonlySet<Column>; onShown: (next: readonly Column[]) => void }): VNode {
  return (
    <Menu label="What tiles show" face={<>{icon("eye")} Show {icon("down", 12)}</>}>
      {COLUMNS.map(([column, name]) => (
        <label key={column}>
          <input type="checkbox" checked={shown.has(column)} onChange={() => onShown(COLUMNS.map(([each]) => each).filter((each) => (each === column ? !shown.has(each) : shown.has(each))))} />
          {icon(name, 16)} {column}
        </label>
      ))}
      <button onClick={() => onShown(COLUMNS.map(([column]) => column))}>Show All</button>
    </Menu>
  );
}
