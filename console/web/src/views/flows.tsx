/** The Flow Visualizer: rings, toolbar, drop-downs, table, and the policies that judged a chosen flow. */

import type { VNode } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import type { FlowsAnswer } from "../api/client";
import { conditionCount, filterQuery } from "../domain/address";
import type { Measure } from "../domain/flow";
import { flowKey, STATUSES, STATUS_ORDER } from "../domain/flow";
import { count, counted } from "../domain/format";
import type { Selection } from "../domain/rings";
import { isEmpty, layOut, NOTHING, selects } from "../domain/rings";
import type { IconName } from "../marks/icons";
import { icon } from "../marks/icons";
import { statusSwatch } from "../marks/patterns";
import { Choosers } from "./choosers";
import type { Hover } from "./circle";
import { Circle, NO_HOVER } from "./circle";
import { EndpointCard } from "./endpoint";
import { FilterBar } from "./filterbar";
import { FlowDetail } from "./flowdetail";
import { useAnswer, Watched } from "./hooks";
import type { Mode } from "./looks";
import { coloursOf } from "./looks";
import { Losses } from "./losses";
import type { Going } from "./place";
import { Covered, Fault, Loading, Nothing, Stale } from "./states";
import { TrafficTable } from "./traffic";

const MODES: readonly (readonly [Mode, string])[] = [["namespaces", "Namespaces"], ["names", "Names"], ["status", "Status"]];
const MEASURES: readonly (readonly [Measure, string])[] = [["connections", "Connections"], ["packets", "Packets"], ["bytes", "Bytes"]];
const LEVELS = ["status", "namespace", "name", "flow"] as const;

export function FlowsView({ going }: { going: Going }): VNode {
  const { choice, filter } = going.place;
  const [refreshed, refresh] = useState(0);
  const answer = useAnswer<FlowsAnswer>("flows", filterQuery(filter).toString(), going.tick + refreshed * 1e6);
  const mode = MODES.find(([name]) => name === choice["mode"])?.[0] ?? "namespaces";
  const measure = MEASURES.find(([name]) => name === choice["volume"])?.[0] ?? "connections";
  const selection = useSelection(choice, "");
  const zoom = useSelection(choice, "z_");
  const hover = useMemo(() => new Watched<Hover>(NO_HOVER), []);
  const flows = useMemo(() => answer.data?.flows ?? [], [answer.data]);
  const rings = useMemo(() => layOut(flows, measure, zoom), [flows, measure, zoom]);
  const colours = useMemo(() => coloursOf(rings, mode, zoom), [rings, mode, zoom]);
  useEffect(() => hover.set(NO_HOVER), [zoom]);

  const select = (next: Selection): void => going.choose(write(next, ""));
  const zoomTo = (next: Selection): void => going.choose({ ...write(next, ""), ...write(next, "z_") });
  const visible = useMemo(() => flows.filter((flow) => selects(selection, flow) && selects(zoom, flow)), [flows, selection, zoom]);
  const chosen = useMemo(() => (selection.flow === "" ? null : (flows.find((flow) => flowKey(flow) === selection.flow) ?? null)), [flows, selection]);
  const rangeS = Math.max(1, answer.data?.covered_s ?? 1);

  return (
    <div class="view flows">
      <FilterBar filter={filter} onFilter={going.filter} />
      <div class="notices">
        {answer.error ? <Fault error={answer.error} /> : null}
        {answer.data ? <Stale newestS={answer.data.newest_s} toS={answer.data.range.to_s} /> : null}
        <Losses filter={filter} tick={going.tick} />
      </div>
      {answer.data === null && answer.loading ? <Loading what="flows" /> : null}
      {answer.data !== null && flows.length === 0 ? (
        <Nothing what="flows" newestS={answer.data.newest_s} conditions={conditionCount(filter)} />
      ) : null}
      {flows.length > 0 ? (
        <div class="flowpanes">
          <section class="drawing" aria-label="Drawing">
            <Toolbar choice={choice} selection={selection} zoom={zoom} going={going} onRefresh={() => refresh(refreshed + 1)} />
            <Circle rings={rings} mode={mode} colours={colours} selection={selection} zoom={zoom} hover={hover} labels={choice["labels"] !== "off"} rangeS={rangeS} onSelect={select} onZoom={zoomTo} />
            <div class="under">
              <label>Thickness <select value={measure} onChange={(event) => going.choose({ volume: event.currentTarget.value === "connections" ? "" : event.currentTarget.value })}>{MEASURES.map(([name, label]) => <option key={name} value={name}>{label}</option>)}</select></label>
              {answer.data ? <Covered range={answer.data.range} coveredS={answer.data.covered_s} /> : null}
              <span>{counted(flows.length, "flow")}{answer.data && answer.data.smaller.flows > 0 ? `, and ${count(answer.data.smaller.flows)} smaller (${counted(answer.data.smaller.connections, "connection")}) not drawn` : ""}</span>
            </div>
          </section>
          <aside class="side" aria-label="What is chosen">
            <div class="tabs" role="group" aria-label="View">
              {MODES.map(([name, label]) => (
                <button key={name} aria-pressed={mode === name} onClick={() => going.choose({ mode: name === "namespaces" ? "" : name })}>{label}</button>
              ))}
            </div>
            <Choosers flows={flows} selection={selection} hover={hover} onSelect={select} />
            <div class="beneath" tabIndex={0} role="region" aria-label="Traffic and policies of what is chosen">
              {chosen !== null ? <FlowDetail flow={chosen} rangeS={rangeS} going={going} onClose={() => select({ ...selection, flow: "" })} /> : null}
              <TrafficTable flows={visible} rangeS={rangeS} mode={mode} colours={colours} selection={selection} onSelect={select} />
              {selection.name !== "" && chosen === null ? <EndpointCard name={selection.name} going={going} /> : null}
            </div>
            <Legend />
          </aside>
        </div>
      ) : null}
    </div>
  );
}

/** What the address bar says is chosen; the same object as long as it says the same, so that nothing is laid out again. */
function useSelection(choice: Readonly<Record<string, string>>, prefix: string): Selection {
  const of = (name: string): string => choice[prefix + name] ?? "";
  const [status, namespace, name, flow] = [of("status"), of("namespace"), of("name"), of("flow")];
  return useMemo(() => ({ status, namespace, name, flow }), [status, namespace, name, flow]);
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

interface ToolbarProps {
  readonly choice: Readonly<Record<string, string>>;
  readonly selection: Selection;
  readonly zoom: Selection;
  readonly going: Going;
  readonly onRefresh: () => void;
}

function Toolbar({ choice, selection, zoom, going, onRefresh }: ToolbarProps): VNode {
  const labels = choice["labels"] !== "off";
  return (
    <div class="toolbar" role="group" aria-label="Drawing">
      <Tool name="label" label="Labels" pressed={labels} onAct={() => going.choose({ labels: labels ? "off" : "" })} />
      <Tool name="zoomOut" label="Zoom out" disabled={isEmpty(zoom)} onAct={() => going.choose(write(outOf(zoom), "z_"))} />
      <Tool name="zoomIn" label="Zoom in on the selection" disabled={isEmpty(selection) || same(selection, zoom)} onAct={() => going.choose(write(selection, "z_"))} />
      <Tool name="reset" label="Reset zoom and selection" disabled={isEmpty(zoom) && isEmpty(selection)} onAct={() => going.choose({ ...write(NOTHING, ""), ...write(NOTHING, "z_") })} />
      <Tool name="refresh" label="Refresh" onAct={onRefresh} />
    </div>
  );
}

function Tool({ name, label, onAct, disabled = false, pressed }: { name: IconName; label: string; onAct: () => void; disabled?: boolean; pressed?: boolean }): VNode {
  return <button class="tool" aria-label={label} title={label} disabled={disabled} aria-pressed={pressed} onClick={onAct}>{icon(name)}</button>;
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
