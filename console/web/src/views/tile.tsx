/** One policy on the board. */

import type { ComponentChildren, VNode } from "preact";
import type { PairOfRates, Tile, Traffic } from "../api/client";
import { rate } from "../domain/format";
import type { Step } from "../domain/path";
import { sparkline } from "../marks/bars";
import type { IconName } from "../marks/icons";
import { icon } from "../marks/icons";
import type { Column } from "./columns";
import type { Going } from "./place";
import { Staged } from "./staged";

export function total(pair: PairOfRates): number {
  return pair.in + pair.out;
}

export function traffic(tile: Tile): number {
  return total(tile.rates.allowed.packets) + total(tile.rates.denied.packets) + total(tile.rates.passed.packets);
}

/** What kind of policy it is, as an icon with a word. */
export function kindOf(tile: Pick<Tile, "kind" | "namespace">): readonly [IconName, string] {
  if (tile.kind.endsWith("KubernetesNetworkPolicy")) return ["wheel", "Kubernetes network policy"];
  return tile.namespace === null ? ["globe", "Global network policy"] : ["folder", "Network policy of a namespace"];
}

interface Props {
  readonly tile: Tile;
  /** First and last, not included, of the sparkline's buckets whose windows are all stored. */
  readonly stored: readonly [number, number];
  readonly shown: ReadonlySet<Column>;
  readonly text: string;
  readonly steps: readonly Step[];
  readonly going: Going;
}

export function TileCard({ tile, stored, shown, text, steps, going }: Props): VNode {
  const last = steps.at(-1);
  const [kindIcon, kind] = kindOf(tile);
  const rows = rowsOf(tile, shown);
  return (
    <article class={`tile ${tile.staged ? "staged" : ""} ${tile.endpoints === 0 ? "idle" : ""} ${last === undefined ? "" : `on-path action-${last.action}`}`} data-tile={tile.id}>
      <h3>
        <span class="kind" title={kind}>{icon(kindIcon, 16)}<span class="visually-hidden">{kind}</span></span>
        <span class="grow">
          {tile.staged ? <Staged /> : null}
          <button class="link" onClick={() => going.go("policy", { id: tile.id })} title={`${tile.kind}, order ${tile.order ?? "last"}`}>{highlighted(tile.name, text)}</button>
        </span>
        {steps.map((step) => <span key={step.turn} class={`step action-${step.action}`} title={`${step.direction}: ${step.words}`}>{step.turn} {step.action}</span>)}
        <button class="tool small eye" aria-label={`View policy ${tile.name}`} title="View the policy" onClick={() => going.go("policy", { id: tile.id })}>{icon("eye", 15)}</button>
      </h3>
      {shown.has("Namespace") ? <Fact name="folder" label="Namespace">{highlighted(tile.namespace ?? "global", text)}</Fact> : null}
      {shown.has("Endpoints") ? <Fact name="box" label={tile.endpoints === 0 ? "Endpoints: selects none" : "Endpoints"}>{tile.endpoints === 0 ? "⚠ 0" : String(tile.endpoints ?? "n/a")}</Fact> : null}
      {rows.length > 0 ? <Metrics rows={rows} /> : null}
      {rows.length > 0 ? sparkline(tile.spark.slice(...stored), 240, 22, `Bytes over the range, at most ${rate(Math.max(0, ...tile.spark))} a second`) : null}
    </article>
  );
}

function Fact({ name, label, children }: { name: IconName; label: string; children: ComponentChildren }): VNode {
  return <p class="factline">{icon(name, 15)}<span class="grow soft">{label}</span><span>{children}</span></p>;
}

interface MetricRow {
  readonly name: IconName | null;
  readonly label: string;
  readonly unit: string;
  readonly in: string;
  readonly out: string;
}

function rowsOf(tile: Tile, shown: ReadonlySet<Column>): readonly MetricRow[] {
  const { rates } = tile;
  const pair = (name: IconName | null, label: string, unit: string, value: PairOfRates): MetricRow => ({ name, label, unit, in: rate(value.in), out: rate(value.out) });
  const both = (name: IconName, label: string, value: Traffic): readonly MetricRow[] => [pair(name, label, "pkt/s", value.packets), pair(null, "", "B/s", value.bytes)];
  return [
    ...(shown.has("Connections") ? [pair("wifi", "Connections", "/s", rates.connections)] : []),
    ...(shown.has("Allowed") ? both("arrows", "Allowed", rates.allowed) : []),
    ...(shown.has("Denied") ? both("deny", "Denied", rates.denied) : []),
    ...(shown.has("Passed") ? both("layers", "Passed", rates.passed) : []),
  ];
}

/** Rates in and out; what is nought steps back, so that the eye finds what isn't. */
export function Metrics({ rows }: { rows: readonly MetricRow[] }): VNode {
  const value = (text: string, way: "in" | "out"): VNode => <td class={text === "0" || text === "" ? "zero" : way}>{text}{text === "" ? "" : <span aria-hidden="true">{way === "in" ? " ↓" : " ↑"}</span>}</td>;
  return (
    <table class="metrics">
      <thead class="visually-hidden"><tr><th scope="col">Rate</th><th scope="col">Unit</th><th scope="col">In</th><th scope="col">Out</th></tr></thead>
      <tbody>
        {rows.map((row, index) => (
          <tr key={index} class={row.label === "" ? "more" : ""}>
            <th scope="row">{row.name === null ? null : icon(row.name, 15)} {row.label === "" ? <span class="visually-hidden">{rows[index - 1]?.label}</span> : row.label}</th>
            <td class="unit">{row.unit}</td>
            {value(row.in, "in")}
            {value(row.out, "out")}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** What the reader searched for, marked inside a name. */
function highlighted(name: string, text: string): ComponentChildren {
  const at = text === "" ? -1 : name.toLowerCase().indexOf(text);
  return at < 0 ? name : [name.slice(0, at), <mark key="m">{name.slice(at, at + text.length)}</mark>, name.slice(at + text.length)];
}
