/** Flow logs: histogram, table with chosen columns, filters from every cell, every field of an entry, export, tail. */

import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { FieldAnswer, FlowLog, LogsAnswer } from "../api/client";
import { ApiError, get } from "../api/client";
import type { Filter } from "../domain/address";
import { conditionCount, filterQuery } from "../domain/address";
import { counted } from "../domain/format";
import { icon } from "../marks/icons";
import { statusPatterns } from "../marks/patterns";
import type { HistogramAnswer } from "./bars";
import { Bars } from "./bars";
import { ConditionChips } from "./conditions";
import { FilterBar } from "./filterbar";
import { useAnswer } from "./hooks";
import { Entry } from "./logentry";
import { Losses } from "./losses";
import { Menu } from "./menu";
import type { Going } from "./place";
import { Fault, Loading, Nothing, Stale } from "./states";

const COLUMNS = "end_time,num_flows,action,evidence,source_name_aggr,source_namespace,dest_name_aggr,dest_namespace,dest_port,reporter";

interface FieldsAnswer { readonly fields: readonly FieldAnswer[] }

export function LogsView({ going }: { going: Going }): VNode {
  const { filter, choice } = going.place;
  const paused = choice["tail"] === "off";
  const [still, setStill] = useState(going.tick);
  useEffect(() => { if (!paused) setStill(going.tick); }, [going.tick, paused]);
  const query = filterQuery(filter);
  const exported = query.toString();
  if (choice["sort"]) query.set("sort", choice["sort"]);
  const answer = useAnswer<LogsAnswer>("flow-logs", query.toString(), still);
  const bars = useAnswer<HistogramAnswer>("flow-logs/histogram", exported, still);
  const fields = useAnswer<FieldsAnswer>("flow-logs/fields", "", 0).data?.fields ?? [];
  const columns = (choice["columns"] ?? COLUMNS).split(",").filter(Boolean);
  const data = answer.data;
  const region = useRef<HTMLDivElement>(null);
  // Filtering out takes the row away that the focus is in: the table itself takes the focus over.
  const filterBy = (next: Filter, without: boolean): void => {
    if (without) region.current?.focus();
    going.filter(next);
  };
  return (
    <div class="view logs">
      <FilterBar filter={filter} onFilter={going.filter} />
      <ConditionChips conditions={filter.conditions} onConditions={(conditions) => going.filter({ ...filter, conditions })} />
      <svg width="0" height="0" aria-hidden="true" class="defs">{statusPatterns()}</svg>
      <Bars answer={bars.data} onTime={(from, to) => going.filter({ ...filter, from, to })} />
      <div class="logbar">
        <button class={paused ? "waits" : ""} onClick={() => going.choose({ tail: paused ? "" : "off" })}>{icon(paused ? "play" : "pause", 15)} {paused ? "Resume live tail" : "Pause live tail"}</button>
        <span role="status" class="soft">{data?.total === null || data === null ? "" : counted(data.total, "flow log")}{paused && going.tick > still ? " · newer ones are waiting" : ""}</span>
        <span class="spring" />
        <ColumnChooser fields={fields} columns={columns} onColumns={(chosen) => going.choose({ columns: chosen.join(",") })} />
        <a class="button" href={address("csv", exported)} download>{icon("download", 15)} Export CSV</a>
        <a class="button" href={address("jsonl", exported)} download>{icon("download", 15)} Export JSON lines</a>
      </div>
      {answer.error ? <Fault error={answer.error} /> : null}
      {data ? <Stale newestS={data.newest_s} toS={data.range.to_s} /> : null}
      <Losses filter={filter} tick={still} />
      {data === null && answer.loading ? <Loading what="flow logs" /> : null}
      {data === null ? null : (
        <div class="scroll logtable" ref={region} tabIndex={0} role="region" aria-label="Flow logs. In a row, left and right lead to its cells' filters, up and down to other rows.">
          {data.logs.length === 0 ? <Nothing what="flow logs" newestS={data.newest_s} conditions={conditionCount(filter)} /> : <Pages first={data} query={query} columns={columns} fields={fields} filter={filter} going={going} onFilter={filterBy} />}
        </div>
      )}
    </div>
  );
}

function address(format: string, query: string): string {
  return `/api/v1/flow-logs/export?format=${format}${query === "" ? "" : `&${query}`}`;
}

interface PagesProps {
  readonly first: LogsAnswer;
  readonly query: URLSearchParams;
  readonly columns: readonly string[];
  readonly fields: readonly FieldAnswer[];
  readonly filter: Filter;
  readonly going: Going;
  readonly onFilter: (filter: Filter, without: boolean) => void;
}

/** The first page, and those after it as far as the reader asked. */
function Pages({ first, query, columns, fields, filter, going, onFilter }: PagesProps): VNode {
  const [more, setMore] = useState<readonly FlowLog[]>([]);
  const [cursor, setCursor] = useState(first.cursor);
  const [error, setError] = useState<ApiError | null>(null);
  useEffect(() => { setMore([]); setCursor(first.cursor); setError(null); }, [first]);
  const next = (): void => {
    if (cursor === null) return;
    const asked = new URLSearchParams(query);
    asked.set("cursor", cursor);
    get<LogsAnswer>("flow-logs", asked, new AbortController().signal).then(
      (page) => { setMore((last) => [...last, ...page.logs]); setCursor(page.cursor); setError(null); },
      (reason: unknown) => setError(reason instanceof ApiError ? reason : new ApiError(0, String(reason))),
    );
  };
  const about = (column: string): string => fields.find((field) => field.name === column)?.about ?? "";
  return (
    <>
      <table class="list">
        <thead>
          <tr>
            <th scope="col"><span class="visually-hidden">Expand</span></th>
            {columns.map((column) => <SortHead key={column} column={column} sort={going.place.choice["sort"] ?? "-end_time"} about={about(column)} onSort={(sort) => going.choose({ sort })} />)}
          </tr>
        </thead>
        <tbody>{[...first.logs, ...more].map((log) => <Entry key={String(log["id"])} log={log} columns={columns} fields={fields} filter={filter} onFilter={onFilter} />)}</tbody>
      </table>
      {error ? <Fault error={error} /> : null}
      {cursor !== null ? <button class="older" onClick={next}>Older flow logs</button> : <p class="soft">This is the end of the range.</p>}
    </>
  );
}

const SORTABLE = new Set(["start_time", "end_time", "num_flows", "packets_in", "packets_out", "bytes_in", "bytes_out"]);

function SortHead({ column, sort, about, onSort }: { column: string; sort: string; about: string; onSort: (sort: string) => void }): VNode {
  const down = sort === `-${column}`;
  const up = sort === column;
  if (!SORTABLE.has(column)) return <th scope="col" title={about}>{column}</th>;
  return <th scope="col" title={about} aria-sort={down ? "descending" : up ? "ascending" : "none"}><button class="plain" onClick={() => onSort(down ? column : `-${column}`)}>{column} <span aria-hidden="true">{down ? "▾" : up ? "▴" : "↕"}</span></button></th>;
}

function ColumnChooser({ fields, columns, onColumns }: { fields: readonly FieldAnswer[]; columns: readonly string[]; onColumns: (columns: readonly string[]) => void }): VNode {
  const flip = (name: string): readonly string[] => (columns.includes(name) ? columns.filter((each) => each !== name) : [...columns, name]);
  return (
    <Menu label="Columns" tall face={<>{icon("columns", 15)} Columns {icon("down", 12)}</>}>
      <button onClick={() => onColumns(COLUMNS.split(","))}>Default columns</button>
      {fields.filter((field) => field.collected).map(({ name, about }) => (
        <label key={name} title={about}><input type="checkbox" checked={columns.includes(name)} onChange={() => onColumns(flip(name))} /> {name}</label>
      ))}
    </Menu>
  );
}
