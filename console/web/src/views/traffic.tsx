/** The table beside the circle: the drawing's equivalent in text, each row a way to select. */

import type { VNode } from "preact";
import { useMemo, useState } from "preact/hooks";
import type { Flow } from "../domain/flow";
import { STATUSES } from "../domain/flow";
import { count, rate } from "../domain/format";
import type { Selection } from "../domain/rings";
import { NOTHING } from "../domain/rings";
import type { Block, Row } from "../domain/table";
import { firstLines, lines, tabulate } from "../domain/table";
import { dot, statusSwatch } from "../marks/patterns";
import type { Colours, Mode } from "./looks";
import { levelOf } from "./looks";
import { Name } from "./name";

interface Props {
  readonly flows: readonly Flow[];
  readonly rangeS: number;
  readonly mode: Mode;
  readonly colours: Colours;
  readonly selection: Selection;
  readonly onSelect: (selection: Selection) => void;
}

/** What flow logs have in place of a namespace. */
const NO_NAMESPACE = "-";
/** Lines of the table before the reader asks for more. */
const FIRST_LINES = 120;

export function TrafficTable({ flows, rangeS, mode, colours, selection, onSelect }: Props): VNode {
  const level = levelOf(mode, selection);
  const blocks = useMemo(() => tabulate(flows, rangeS, level), [flows, rangeS, level]);
  const [most, setMost] = useState(FIRST_LINES);
  const tables = useMemo(() => {
    const pick = (row: Row): void =>
      onSelect({ ...NOTHING, status: selection.status, namespace: row.namespace, name: level === "name" ? row.key : "" });
    return firstLines(blocks, most).map((block) => <BlockTable key={block.title} block={block} colours={colours} pick={pick} />);
  }, [blocks, most, colours, selection]);
  if (blocks.length === 0) return <p class="state">Nothing that is chosen has traffic. Clear a drop-down.</p>;
  return (
    <div class="traffic">
      {tables}
      {lines(blocks) > most ? <button onClick={() => setMost(most * 4)}>{count(lines(blocks) - most)} more rows</button> : null}
    </div>
  );
}

interface BlockProps {
  readonly block: Block;
  readonly colours: Colours;
  readonly pick: (row: Row) => void;
}

function BlockTable({ block, colours, pick }: BlockProps): VNode {
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">{block.title}</th>
          <th scope="col"><abbr title="Connections started per second">CPS</abbr></th>
          <th scope="col"><abbr title="Packets per second, both directions">PPS</abbr></th>
          <th scope="col"><abbr title="Bytes per second, both directions">BPS</abbr></th>
        </tr>
      </thead>
      {block.sources.map((source) => (
        <tbody key={source.key}>
          <Line row={source} colours={colours} pick={pick} sub={false} />
          {source.dests.map((dest) => <Line key={dest.key} row={dest} colours={colours} pick={pick} sub />)}
        </tbody>
      ))}
    </table>
  );
}

function Line({ row, colours, pick, sub }: { row: Row; colours: Colours; pick: (row: Row) => void; sub: boolean }): VNode {
  const told = row.statuses.map((status) => STATUSES[status].label).join(", ");
  const colour = colours.row(row.namespace, row.key);
  // Beside a colour of namespace or name, only what is out of the ordinary is marked.
  const marked = colour === null ? row.statuses : row.statuses.filter((status) => status !== "allowed");
  return (
    <tr class={sub ? "sub" : "sum"}>
      <th scope="row">
        <button class="plain" onClick={() => pick(row)} title={`${row.key}: ${told}`}>
          {colour === null ? null : dot(colour)}{marked.map((status) => statusSwatch(status))}
          <span class="rowname">{row.key === NO_NAMESPACE ? "- (no namespace)" : <Name of={row.key} />}</span>
          <span class="visually-hidden">, {told}</span>
        </button>
      </th>
      <td>{rate(row.cps)}</td>
      <td>{rate(row.pps)}</td>
      <td>{rate(row.bps)}</td>
    </tr>
  );
}
