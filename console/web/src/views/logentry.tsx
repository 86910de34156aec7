/** One flow log: a row, and unfolded every field as table or JSON with what it means. */

import type { VNode } from "preact";
import { useState } from "preact/hooks";
import type { FieldAnswer, FlowLog, LogValue } from "../api/client";
import type { Filter } from "../domain/address";
import { withCondition } from "../domain/address";
import { moment } from "../domain/format";
import { icon } from "../marks/icons";
import { moveAmongRows } from "./rowkeys";

/** Fields that hold a moment, with how many of their units make a second. */
const TIMES: ReadonlyMap<string, number> = new Map([["start_time", 1], ["end_time", 1], ["@timestamp", 1000]]);
const SIGNS: Readonly<Record<string, string>> = { long: "#", double: "#", date_s: "◷", date_ms: "◷", ip: "⌂", boolean: "◐" };
const FILTERABLE = new Set(["action", "proto", "reporter", "evidence", "source_namespace", "dest_namespace", "source_name_aggr", "dest_name_aggr", "source_type", "dest_type", "dest_port"]);

interface Props {
  readonly log: FlowLog;
  readonly columns: readonly string[];
  readonly fields: readonly FieldAnswer[];
  readonly filter: Filter;
  /** @param without whether the new filter leaves this flow log out. */
  readonly onFilter: (filter: Filter, without: boolean) => void;
}

export function Entry({ log, columns, fields, filter, onFilter }: Props): VNode {
  const [form, setForm] = useState<"" | "table" | "json">("");
  const cell = (name: string, tabIndex = 0): VNode => (
    <>
      <span class="value" title={show(name, log[name])}>{show(name, log[name])}</span>
      <CellFilters field={name} value={log[name]} filter={filter} onFilter={onFilter} tabIndex={tabIndex} />
    </>
  );
  return (
    <>
      <tr class={form === "" ? "" : "unfolded"} onKeyDown={moveAmongRows}>
        <td><button class="plain" aria-expanded={form !== ""} aria-label="Every field of this flow log" onClick={() => setForm(form === "" ? "table" : "")}>{form === "" ? "▸" : "▾"}</button></td>
        {columns.map((column) => <td key={column} class={toneOf(column, log[column])}>{cell(column, -1)}</td>)}
      </tr>
      {form !== "" ? (
        <tr class="expanded">
          <td colSpan={columns.length + 1}>
            <div class="entry">
              <div class="tabs short" role="group" aria-label="Form">
                <button aria-pressed={form === "table"} onClick={() => setForm("table")}>Table</button>
                <button aria-pressed={form === "json"} onClick={() => setForm("json")}>JSON</button>
              </div>
              {form === "json" ? <Json log={log} fields={fields} /> : <Fields fields={fields} cell={cell} />}
            </div>
          </td>
        </tr>
      ) : null}
    </>
  );
}

function toneOf(field: string, value: LogValue | undefined): string {
  if (field === "action") return `action-${String(value)}`;
  if (field === "evidence") return `evidence-${String(value)}`;
  return TIMES.has(field) ? "time" : typeof value === "number" ? "figure" : "";
}

function show(field: string, value: LogValue | undefined): string {
  if (value === null || value === undefined || value === "") return "–";
  const perSecond = TIMES.get(field);
  if (perSecond !== undefined && typeof value === "number") return moment(value / perSecond);
  if (typeof value === "object") return value.length === 0 ? "–" : value.join(", ");
  return String(value);
}

function Fields({ fields, cell }: { fields: readonly FieldAnswer[]; cell: (name: string) => VNode }): VNode {
  return (
    <table class="fields">
      <thead class="visually-hidden"><tr><th scope="col">Field</th><th scope="col">Value</th><th scope="col">Meaning</th></tr></thead>
      <tbody>
        {fields.filter((field) => field.collected).map((field) => (
          <tr key={field.name}>
            <th scope="row" title={field.about}><span class="type" title={field.type} aria-hidden="true">{SIGNS[field.type] ?? "t"}</span> {field.name}</th>
            <td>{cell(field.name)}</td>
            <td class="about">{field.about}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** The flow log as JSON; pointing at a field tells its meaning. */
function Json({ log, fields }: { log: FlowLog; fields: readonly FieldAnswer[] }): VNode {
  const about = new Map(fields.map((field) => [field.name, field.about]));
  const entries = Object.entries(log);
  return (
    <pre tabIndex={0} aria-label="The flow log as JSON">
      {"{\n"}
      {entries.map(([name, value], index) => (
        <span key={name} title={about.get(name) ?? ""}>{"  "}<span class="key">{JSON.stringify(name)}</span>: {JSON.stringify(value)}{index < entries.length - 1 ? "," : ""}{"\n"}</span>
      ))}
      {"}"}
    </pre>
  );
}

function CellFilters({ field, value, filter, onFilter, tabIndex }: { field: string; value: LogValue | undefined; filter: Filter; onFilter: Props["onFilter"]; tabIndex: number }): VNode | null {
  if (!FILTERABLE.has(field) || value === null || value === undefined || typeof value === "object") return null;
  const act = (exclude: boolean): void => onFilter(withCondition(filter, { field, value: String(value), exclude }), exclude);
  return (
    <span class="cellfilters">
      <button class="plain" tabIndex={tabIndex} aria-label={`Filter for ${field} ${value}`} title="Filter for value" onClick={() => act(false)}>{icon("plus", 14)}</button>
      <button class="plain" tabIndex={tabIndex} aria-label={`Filter out ${field} ${value}`} title="Filter out value" onClick={() => act(true)}>{icon("minus", 14)}</button>
    </span>
  );
}
