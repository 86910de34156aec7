/** The Flow Visualizer: rings, toolbar, drop-downs, table, and the policies that judged a chosen flow. */

import type { VNode } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import type { FlowsAnswer } from "../api/client";
import { filterQuery } from "../domain/address";
import type { Flow, Measure } from "../domain/flow";
import { flowKey, flowTitle, nameKey, STATUSES, STATUS_ORDER, statusMatches } from "../domain/flow";
import { count } from "../domain/format";
import type { Selection } from "../domain/rings";
import { isEmpty, layOut, NOTHING, selects } from "../domain/rings";
import { statusSwatch } from "../marks/patterns";
import { Circle } from "./circle";
import { FilterBar } from "./filterbar";
import { FlowDetail } from "./flowdetail";
import { useAnswer } from "./hooks";
import type { Going } from "./place";
import { Empty, Fault, Loading, Stale } from "./states";
import { TrafficTable } from "./traffic";

export type Mode = "namespaces" | "names" | "status";
const MODES: readonly (readonly [Mode, string])[] = [["namespaces", "Namespaces"], ["names", "Names"], ["status", "Status"]];
const MEASURES: readonly (readonly [Measure, string])[] = [["connections", "Connections"], ["packets", "Packets"], ["bytes", "Bytes"]];
const LEVELS = ["status", "namespace", "name", "flow"] as const;

export function FlowsView({ going }: { going: Going }): VNode {
  const { choice, filter } = going.place;
  const [refreshed, refresh] = useState(0);
  const answer = useAnswer<FlowsAnswer>("flows", filterQuery(filter).toString(), going.tick + refreshed * 1e6);
  const mode = MODES.find(([name]) => name === choice["mode"])?.[0] ?? "namespaces";
  const measure = MEASURES.find(([name]) => name === choice["volume"])?.[0] ?? "connections";
  const selection = useMemo<Selection>(() => read(choice, ""), [choice]);
  const zoom = useMemo<Selection>(() => read(choice, "z_"), [choice]);
  const [hover, setHover] = useState<Selection>(NOTHING);
  const flows = useMemo(() => answer.data?.flows ?? [], [answer.data]);
  const rings = useMemo(() => layOut(flows, measure, zoom), [flows, measure, zoom]);
  const labels = choice["labels"] !== "off";
  useEffect(() => setHover(NOTHING), [flows]);

  const select = (next: Selection): void => going.choose(write(next, ""));
  const shown = isEmpty(hover) ? selection : { ...hover, status: hover.status || selection.status };
  const visible = useMemo(() => flows.filter((flow) => selects(selection, flow) && selects(zoom, flow)), [flows, selection, zoom]);
  const chosen = flows.find((flow) => flowKey(flow) === selection.flow) ?? null;
  const rangeS = answer.data ? answer.data.range.to_s - answer.data.range.from_s : 1;
  // Pointing at the drawing leaves what is below the drop-downs as it is.
  const below = useMemo(
    () => (
      <>
        <TrafficTable flows={visible} rangeS={rangeS} mode={mode} selection={selection} onSelect={select} />
        {chosen !== null ? <FlowDetail flow={chosen} going={going} /> : null}
        <Legend />
      </>
    ),
    [visible, rangeS, mode, selection, chosen, going.place, going.tick],
  );

  return (
    <div class="view flows">
      <FilterBar filter={filter} onFilter={going.filter} />
      {answer.error ? <Fault error={answer.error} /> : null}
      {answer.data ? <Stale newestS={answer.data.newest_s} toS={answer.data.range.to_s} /> : null}
      {answer.data === null && answer.loading ? <Loading what="flows" /> : null}
      {answer.data !== null && flows.length === 0 ? (
        <Empty>
          <h2>No flows in this range</h2>
          <p>{filter.conditions.length > 0 ? "Take a condition out of the filter, or widen its time range." : "Widen the time range. On a fresh start the first flows come when the first window closes."}</p>
        </Empty>
      ) : null}
      {flows.length > 0 ? (
        <div class="flowpanes">
          <div class="drawing">
            <div class="toolbar" role="toolbar" aria-label="Drawing">
              <button aria-pressed={labels} aria-label="Labels" title="Labels" onClick={() => going.choose({ labels: labels ? "off" : "" })}><Icon d="M3 3h6l8 8-6 6-8-8zM6 6h.1" /></button>
              <button disabled={isEmpty(zoom)} aria-label="Zoom out" title="Zoom out" onClick={() => going.choose(write(outOf(zoom), "z_"))}><Icon d="M9 3a6 6 0 1 0 .1 0M14 14l4 4M6 9h6" /></button>
              <button disabled={isEmpty(selection) || same(selection, zoom)} aria-label="Zoom in on the selection" title="Zoom in on the selection" onClick={() => going.choose(write(selection, "z_"))}><Icon d="M9 3a6 6 0 1 0 .1 0M14 14l4 4M6 9h6M9 6v6" /></button>
              <button disabled={isEmpty(zoom) && isEmpty(selection)} aria-label="Reset zoom and selection" title="Reset zoom and selection" onClick={() => going.choose({ ...write(NOTHING, ""), ...write(NOTHING, "z_") })}><Icon d="M4 4l5 5M9 5v4H5M16 16l-5-5M11 15v-4h4" /></button>
              <button aria-label="Refresh" title="Refresh" onClick={() => refresh(refreshed + 1)}><Icon d="M15 6a6 6 0 1 0 1 5M16 3v4h-4" /></button>
            </div>
            <Circle rings={rings} mode={mode} selection={selection} zoom={zoom} hover={hover} labels={labels} onHover={setHover} onSelect={select} onZoom={(next) => going.choose({ ...write(next, ""), ...write(next, "z_") })} />
            <div class="row under">
              <label>Thickness <select value={measure} onChange={(event) => going.choose({ volume: event.currentTarget.value === "connections" ? "" : event.currentTarget.value })}>{MEASURES.map(([name, label]) => <option key={name} value={name}>{label}</option>)}</select></label>
              <span>{count(flows.length)} flows{answer.data && answer.data.smaller.flows > 0 ? `, and ${count(answer.data.smaller.flows)} smaller (${count(answer.data.smaller.connections)} connections) not drawn` : ""}</span>
            </div>
          </div>
          <aside class="side" aria-label="What is chosen">
            <div class="tabs" role="group" aria-label="View">
              {MODES.map(([name, label]) => (
                <button key={name} aria-pressed={mode === name} onClick={() => going.choose({ mode: name === "namespaces" ? "" : name })}>{label}</button>
              ))}
            </div>
            <Choosers flows={flows} selection={selection} shown={shown} onSelect={select} />
            {below}
          </aside>
        </div>
      ) : null}
    </div>
  );
}

function read(choice: Readonly<Record<string, string>>, prefix: string): Selection {
  const of = (name: string): string => choice[prefix + name] ?? "";
  return { status: of("status"), namespace: of("namespace"), name: of("name"), flow: of("flow") };
}

function write(selection: Selection, prefix: string): Record<string, string> {
  return Object.fromEntries(LEVELS.map((level) => [prefix + level, selection[level]]));
}

function same(a: Selection, b: Selection): boolean {
  return LEVELS.every((level) => a[level] === b[level]);
}

/** One step out: from a flow to its name, from a name to its namespace, from a namespace to everything. */
function outOf(zoom: Selection): Selection {
  if (zoom.flow !== "") return { ...zoom, flow: "" };
  if (zoom.name !== "") return { ...zoom, name: "" };
  return NOTHING;
}

function Icon({ d }: { d: string }): VNode {
  return <svg class="icon" width="20" height="20" aria-hidden="true"><path d={d} /></svg>;
}

type Option = readonly [string, string];

function Choosers({ flows, selection, shown, onSelect }: { flows: readonly Flow[]; selection: Selection; shown: Selection; onSelect: (next: Selection) => void }): VNode {
  const { spaces, names, listed } = useMemo(() => choices(flows, selection), [flows, selection]);
  return (
    <div class="choosers">
      <Chooser label="Status" none="Any status" value={shown.status} options={STATUS_OPTIONS} text={(key) => key} onChosen={(status) => onSelect({ ...selection, status, flow: "" })} />
      <Chooser label="Namespace" none="All Namespaces" value={shown.namespace} options={spaces} text={(key) => key} onChosen={(namespace) => onSelect({ ...NOTHING, status: selection.status, namespace })} />
      <Chooser label="Name" none="All Names" value={shown.name} options={names} text={(key) => key} onChosen={(name) => onSelect({ ...selection, name, flow: "" })} />
      <Chooser label="Flow" none="All Flows" value={shown.flow} options={listed} text={(key) => { const found = flows.find((flow) => flowKey(flow) === key); return found ? flowTitle(found) : key; }} onChosen={(flow) => onSelect({ ...selection, flow })} />
    </div>
  );
}

const STATUS_OPTIONS: readonly Option[] = STATUS_ORDER.map((status) => [status, STATUSES[status].label]);
const MOST_LISTED = 500;

function choices(flows: readonly Flow[], selection: Selection): Readonly<Record<"spaces" | "names" | "listed", readonly Option[]>> {
  const within = flows.filter((flow) => selection.status === "" || statusMatches(selection.status, flow.status));
  const ends = within.flatMap((flow) => [flow.source, flow.dest]).filter((end) => selection.namespace === "" || end.namespace === selection.namespace);
  const spaces = [...new Set(flows.flatMap((flow) => [flow.source.namespace, flow.dest.namespace]))].sort();
  const names = [...new Set(ends.map(nameKey))].sort();
  const listed = within.filter((flow) => selects({ ...selection, flow: "" }, flow)).slice(0, MOST_LISTED);
  return {
    spaces: spaces.map((each) => [each, each === "-" ? "- (none)" : each]),
    names: names.map((each) => [each, selection.namespace === "" ? each : each.slice(each.indexOf(":") + 1)]),
    listed: listed.map((flow) => [flowKey(flow), flowTitle(flow)]),
  };
}

function Chooser({ label, none, value, options, text, onChosen }: { label: string; none: string; value: string; options: readonly Option[]; text: (key: string) => string; onChosen: (value: string) => void }): VNode {
  const listed = useMemo(() => options.map(([key, words]) => <option key={key} value={key}>{words}</option>), [options]);
  const extra = value !== "" && !options.some(([key]) => key === value);
  return (
    <div class="chooser">
      <select aria-label={label} value={value} onChange={(event) => onChosen(event.currentTarget.value)} class={value === "" ? "none" : ""}>
        <option value="">{none}</option>
        {listed}
        {extra ? <option value={value}>{text(value)}</option> : null}
      </select>
      <button aria-label={`Clear ${label.toLowerCase()}`} disabled={value === ""} onClick={() => onChosen("")}>✕</button>
    </div>
  );
}

function Legend(): VNode {
  return (
    <ul class="legend" aria-label="Legend">
      {STATUS_ORDER.map((status) => (
        <li key={status} title={STATUSES[status].about}>{statusSwatch(status)} {STATUSES[status].label}</li>
      ))}
    </ul>
  );
}
