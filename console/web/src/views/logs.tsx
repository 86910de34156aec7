/** Flow logs: histogram, table with chosen columns, filters from every cell, every field of an entry, export, tail. */

import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { FieldAnswer, FlowLog, LogsAnswer, LogValue } from "../api/client";
import { get } from "../api/client";
import type { Filter } from "../domain/address";
import { filterQuery, withCondition } from "../domain/address";
import { count, moment } from "../domain/format";
import type { Bucket } from "../marks/bars";
import { histogram } from "../marks/bars";
import { statusPatterns } from "../marks/patterns";
import { FilterBar } from "./filterbar";
import { useAnswer } from "./hooks";
import type { Going } from "./place";
import { Empty, Fault, Loading, Stale } from "./states";

const COLUMNS = "end_time,num_flows,action,source_name_aggr,source_namespace,dest_name_aggr,dest_namespace,dest_port,reporter";
const TIMES = new Set(["start_time", "end_time"]);

interface HistogramAnswer { readonly buckets: readonly Bucket[] }
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
  const [more, setMore] = useState<readonly FlowLog[]>([]);
  const [cursor, setCursor] = useState<string | null>(null);
  useEffect(() => { setMore([]); setCursor(answer.data?.cursor ?? null); }, [answer.data]);
  const columns = (choice["columns"] ?? COLUMNS).split(",").filter(Boolean);
  const logs = [...(answer.data?.logs ?? []), ...more];
  const next = (): void => {
    if (cursor === null) return;
    query.set("cursor", cursor);
    void get<LogsAnswer>("flow-logs", query, new AbortController().signal).then((page) => { setMore([...more, ...page.logs]); setCursor(page.cursor); }, () => setCursor(null));
  };
  const address = (format: string): string => `/api/v1/flow-logs/export?format=${format}${exported === "" ? "" : `&${exported}`}`;
  return (
    <div class="view logs">
      <FilterBar filter={filter} onFilter={going.filter} />
      <ul class="chips" aria-label="Conditions">
        {filter.conditions.map((each, index) => (
          <li key={`${each.field}:${each.value}`}>{each.exclude ? "not " : ""}{each.field}: {each.value}<button aria-label={`Remove ${each.field} ${each.value}`} onClick={() => going.filter({ ...filter, conditions: filter.conditions.filter((_, other) => other !== index) })}>✕</button></li>
        ))}
      </ul>
      <svg width="0" height="0" aria-hidden="true" class="defs">{statusPatterns()}</svg>
      {bars.data && bars.data.buckets.length > 0 ? histogram(bars.data.buckets, 1200, 120) : null}
      <div class="row">
        <button aria-pressed={paused} onClick={() => going.choose({ tail: paused ? "" : "off" })}>{paused ? "Resume live tail" : "Pause live tail"}</button>
        <ColumnChooser fields={fields} columns={columns} onColumns={(chosen) => going.choose({ columns: chosen.join(",") })} />
        <a class="button" href={address("csv")} download>Export CSV</a>
        <a class="button" href={address("jsonl")} download>Export JSON lines</a>
        <span role="status">{answer.data?.total === null || !answer.data ? "" : `${count(answer.data.total)} flow logs`}</span>
      </div>
      {answer.error ? <Fault error={answer.error} /> : null}
      {answer.data ? <Stale newestS={answer.data.newest_s} toS={answer.data.range.to_s} /> : null}
      {answer.data === null && answer.loading ? <Loading what="flow logs" /> : null}
      {answer.data !== null && logs.length === 0 ? <Empty><h2>No flow logs match</h2><p>Remove a condition above, or widen the time range.</p></Empty> : null}
      {logs.length > 0 ? (
        <div class="scroll" tabIndex={0} role="region" aria-label="Flow logs">
          <table class="list">
            <thead><tr><th scope="col"><span class="visually-hidden">Expand</span></th>{columns.map((column) => <SortHead key={column} column={column} sort={choice["sort"] ?? "-end_time"} about={fields.find((field) => field.name === column)?.about ?? ""} onSort={(sort) => going.choose({ sort })} />)}</tr></thead>
            <tbody>{logs.map((log) => <Entry key={String(log["id"])} log={log} columns={columns} fields={fields} filter={filter} onFilter={going.filter} />)}</tbody>
          </table>
          {cursor !== null ? <button onClick={next}>Older</button> : null}
        </div>
      ) : null}
    </div>
  );
}

const SORTABLE = new Set(["start_time", "end_time", "num_flows", "packets_in", "packets_out", "bytes_in", "bytes_out"]);

function SortHead({ column, sort, about, onSort }: { column: string; sort: string; about: string; onSort: (sort: string) => void }): VNode {
  const down = sort === `-${column}`;
  const up = sort === column;
  if (!SORTABLE.has(column)) return <th scope="col" title={about}>{column}</th>;
  return <th scope="col" title={about} aria-sort={down ? "descending" : up ? "ascending" : "none"}><button class="plain" onClick={() => onSort(down ? column : `-${column}`)}>{column} {down ? "▾" : up ? "▴" : ""}</button></th>;
}

function ColumnChooser({ fields, columns, onColumns }: { fields: readonly FieldAnswer[]; columns: readonly string[]; onColumns: (columns: readonly string[]) => void }): VNode {
  const [open, setOpen] = useState(false);
  return (
    <div class="menu" onKeyDown={(event) => event.key === "Escape" && setOpen(false)}>
      <button aria-expanded={open} onClick={() => setOpen(!open)}>Columns</button>
      {open ? (
        <fieldset class="popup tall"><legend class="visually-hidden">Columns</legend>
          {fields.filter((field) => field.collected).map(({ name, about }) => (
            <label key={name} title={about}><input type="checkbox" checked={columns.includes(name)} onChange={() => onColumns(columns.includes(name) ? columns.filter((each) => each !== name) : [...columns, name])} /> {name}</label>
          ))}
        </fieldset>
      ) : null}
    </div>
  );
}

function show(field: string, value: LogValue | undefined): string {
  if (value === null || value === undefined) return "–";
  if (TIMES.has(field) && typeof value === "number") return moment(value);
  if (typeof value === "object") return value.join(", ");
  return String(value);
}

function Entry({ log, columns, fields, filter, onFilter }: { log: FlowLog; columns: readonly string[]; fields: readonly FieldAnswer[]; filter: Filter; onFilter: (filter: Filter) => void }): VNode {
  const [open, setOpen] = useState<"" | "table" | "json">("");
  return (
    <>
      <tr>
        <td><button class="plain" aria-expanded={open !== ""} aria-label="Every field of this flow log" onClick={() => setOpen(open === "" ? "table" : "")}>{open === "" ? "▸" : "▾"}</button></td>
        {columns.map((column) => <td key={column} class={column === "action" ? `action-${String(log[column])}` : ""}>{show(column, log[column])} <CellFilters field={column} value={log[column]} filter={filter} onFilter={onFilter} /></td>)}
      </tr>
      {open !== "" ? (
        <tr class="expanded"><td colSpan={columns.length + 1}>
          <div class="tabs" role="group" aria-label="Form"><button aria-pressed={open === "table"} onClick={() => setOpen("table")}>Table</button><button aria-pressed={open === "json"} onClick={() => setOpen("json")}>JSON</button></div>
          {open === "json" ? <pre tabIndex={0}>{JSON.stringify(log, null, 2)}</pre> : (
            <table class="fields"><tbody>
              {fields.filter((field) => field.collected).map((field) => (
                <tr key={field.name}><th scope="row" title={field.about}><span class="type" aria-hidden="true">{field.type === "long" ? "#" : "t"}</span> {field.name}</th><td>{show(field.name, log[field.name])} <CellFilters field={field.name} value={log[field.name]} filter={filter} onFilter={onFilter} /></td><td class="about">{field.about}</td></tr>
              ))}
            </tbody></table>
          )}
        </td></tr>
      ) : null}
    </>
  );
}

const FILTERABLE = new Set(["action", "proto", "reporter", "evidence", "source_namespace", "dest_namespace", "source_name_aggr", "dest_name_aggr", "source_type", "dest_type", "dest_port"]);

function CellFilters({ field, value, filter, onFilter }: { field: string; value: LogValue | undefined; filter: Filter; onFilter: (filter: Filter) => void }): VNode | null {
  if (!FILTERABLE.has(field) || value === null || value === undefined || typeof value === "object") return null;
  const act = (exclude: boolean): void => onFilter(withCondition(filter, { field, value: String(value), exclude }));
  return (
    <span class="cellfilters">
      <button class="plain" aria-label={`Filter for ${field} ${value}`} title="Filter for value" onClick={() => act(false)}>⊕</button>
      <button class="plain" aria-label={`Filter out ${field} ${value}`} title="Filter out value" onClick={() => act(true)}>⊖</button>
    </span>
  );
}
