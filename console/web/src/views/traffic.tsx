/** The table beside the circle: the drawing's equivalent in text, each row a way to select. */

import type { VNode } from "preact";
import { useMemo, useState } from "preact/hooks";
import type { Flow } from "../domain/flow";
import { STATUSES } from "../domain/flow";
import { rate } from "../domain/format";
import type { Selection } from "../domain/rings";
import { NOTHING } from "../domain/rings";
import type { Block, Row } from "../domain/table";
import { tabulate } from "../domain/table";
import { statusSwatch } from "../marks/patterns";
import type { Mode } from "./flows";

interface Props {
  readonly flows: readonly Flow[];
  readonly rangeS: number;
  readonly mode: Mode;
  readonly selection: Selection;
  readonly onSelect: (selection: Selection) => void;
}

const FIRST_ROWS = 60;

export function TrafficTable({ flows, rangeS, mode, selection, onSelect }: Props): VNode {
  const level = mode === "namespaces" && selection.namespace === "" ? "namespace" : "name";
  const blocks = useMemo(() => tabulate(flows, rangeS, level), [flows, rangeS, level]);
  const [most, setMost] = useState(FIRST_ROWS);
  const pick = (row: Row): void =>
    onSelect({ ...NOTHING, status: selection.status, namespace: row.namespace, name: level === "name" ? row.key : "" });
  if (blocks.length === 0) return <p class="state">Nothing is chosen that has traffic. Clear a drop-down.</p>;
  return (
    <div class="traffic" tabIndex={0} role="region" aria-label="Traffic per source and destination">
      {blocks.map((block) => <BlockTable key={block.title} block={block} most={most} pick={pick} />)}
      {blocks.some((block) => block.sources.length > most) ? <button onClick={() => setMost(most * 4)}>More rows</button> : null}
    </div>
  );
}

function BlockTable({ block, most, pick }: { block: Block; most: number; pick: (row: Row) => void }): VNode {
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">{block.title}</th>
          <th scope="col"><abbr title="Connections started per second">CPS</abbr></th>
          <th scope="col"><abbr title="Packets per second">PPS</abbr></th>
          <th scope="col"><abbr title="Bytes per second">BPS</abbr></th>
        </tr>
      </thead>
      {block.sources.slice(0, most).map((source) => (
        <tbody key={source.key}>
          <Line row={source} pick={pick} sub={false} />
          {source.dests.slice(0, most).map((dest) => <Line key={dest.key} row={dest} pick={pick} sub />)}
        </tbody>
      ))}
    </table>
  );
}

function Line({ row, pick, sub }: { row: Row; pick: (row: Row) => void; sub: boolean }): VNode {
  return (
    <tr class={sub ? "sub" : "sum"}>
      <th scope="row">
        <button class="plain" onClick={() => pick(row)} title={row.statuses.map((status) => STATUSES[status].label).join(", ")}>
          {row.statuses.map((status) => statusSwatch(status))} <span>{sub ? "→ " : ""}{row.key}</span>
          <span class="visually-hidden">, {row.statuses.map((status) => STATUSES[status].label).join(", ")}</span>
        </button>
      </th>
      <td>{rate(row.cps)}</td>
      <td>{rate(row.pps)}</td>
      <td>{rate(row.bps)}</td>
    </tr>
  );
}
