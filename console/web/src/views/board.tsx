/** The Policy Board: tiers left to right, policies top to bottom, with rates over the range. */

import type { VNode } from "preact";
import { useState } from "preact/hooks";
import type { BoardAnswer, PairOfRates, Tile, Traffic } from "../api/client";
import { filterQuery, NO_FILTER, PRESETS } from "../domain/address";
import { rate } from "../domain/format";
import { sparkline } from "../marks/bars";
import { useAnswer } from "./hooks";
import type { Going } from "./place";
import { Empty, Fault, Loading, Stale } from "./states";

const COLUMNS = ["Namespace", "Endpoints", "Connections", "Allowed", "Denied", "Passed"] as const;
const QUICK: readonly (readonly [string, string, (tile: Tile) => boolean])[] = [
  ["denying", "Denying traffic", (tile) => total(tile.rates.denied.packets) > 0],
  ["unused", "Unused", (tile) => tile.endpoints === 0 || (total(tile.rates.connections) === 0 && traffic(tile) === 0)],
  ["staged", "Staged", (tile) => tile.staged],
];

function total(pair: PairOfRates): number {
  return pair.in + pair.out;
}

function traffic(tile: Tile): number {
  return total(tile.rates.allowed.packets) + total(tile.rates.denied.packets) + total(tile.rates.passed.packets);
}

export function BoardView({ going }: { going: Going }): VNode {
  const { choice, filter } = going.place;
  const range = { ...NO_FILTER, from: filter.from, to: filter.to };
  const answer = useAnswer<BoardAnswer>("board", filterQuery(range).toString(), going.tick);
  const shown = new Set((choice["show"] ?? "Namespace,Endpoints").split(","));
  const quick = QUICK.find(([name]) => name === choice["quick"]) ?? null;
  const text = (choice["text"] ?? "").toLowerCase();
  const path = new Map((choice["path"] ?? "").split(" ").filter(Boolean).map((step) => step.split("~") as [string, string]));
  const fits = (tile: Tile): boolean =>
    (quick === null || quick[2](tile)) && (text === "" || `${tile.name} ${tile.namespace ?? "global"}`.toLowerCase().includes(text));
  const list = choice["layout"] === "list";
  const data = answer.data;
  const matches = data?.tiers.flatMap((tier) => tier.policies).filter(fits).length ?? 0;
  return (
    <div class="view board">
      <div class="boardbar">
        <input aria-label="Filter policies by name or namespace" placeholder="Filter by name or namespace" value={choice["text"] ?? ""} onInput={(event) => going.choose({ text: event.currentTarget.value })} />
        {QUICK.map(([name, label]) => <button key={name} aria-pressed={choice["quick"] === name} onClick={() => going.choose({ quick: choice["quick"] === name ? "" : name })}>{label}</button>)}
        <label>Rates over <select value={String(-filter.from)} onChange={(event) => going.filter({ ...filter, from: -Number(event.currentTarget.value), to: 0 })}>{PRESETS.map(([label, seconds]) => <option key={label} value={seconds}>{label}</option>)}</select></label>
        <EyeMenu shown={shown} onShown={(next) => going.choose({ show: [...next].join(",") })} />
        <button aria-pressed={list} onClick={() => going.choose({ layout: list ? "" : "list" })}>List</button>
        {path.size > 0 ? <button onClick={() => going.choose({ path: "" })}>Stop following the flow ✕</button> : null}
        <span role="status">{data && (text !== "" || quick !== null) ? `${matches} match` : ""}</span>
      </div>
      {answer.error ? <Fault error={answer.error} /> : null}
      {data ? <Stale newestS={data.newest_s} toS={data.range.to_s} /> : null}
      {data === null && answer.loading ? <Loading what="policies" /> : null}
      {data !== null && data.tiers.length === 0 ? <Empty><h2>No policies</h2><p>The inventory has published none yet. Give `tierflow inventory` a folder with --manifests, or a cluster.</p></Empty> : null}
      {data !== null && !list ? (
        <div class="tiers" role="list" tabIndex={0} aria-label="Tiers in order">
          {data.tiers.map((tier) => (
            <section class={`tier ${tier.name === "default" ? "default" : ""}`} role="listitem" key={tier.name} aria-label={`Tier ${tier.name}`}>
              <h2 title={`order ${tier.order ?? "last"}, default action ${tier.default_action}`}>{tier.name}</h2>
              {tier.policies.filter(fits).map((tile) => <TileCard key={tile.id} tile={tile} shown={shown} path={path} going={going} />)}
              {tier.policies.some(fits) ? null : <p class="state">No policy of this tier matches.</p>}
              {tier.name === "default" ? (
                <div class="tile nopolicy"><h3>No Policy Traffic</h3>
                  {shown.has("Connections") ? <Metric label="Connections/s" values={[rate(data.no_policy.connections)]} /> : null}
                  {shown.has("Allowed") ? <Metric label="Allowed/s" values={[`${rate(data.no_policy.packets)} pkt`, `${rate(data.no_policy.bytes)} B`]} /> : null}
                </div>
              ) : null}
            </section>
          ))}
        </div>
      ) : null}
      {data !== null && list ? <BoardList data={data} fits={fits} going={going} /> : null}
    </div>
  );
}

function EyeMenu({ shown, onShown }: { shown: ReadonlySet<string>; onShown: (next: readonly string[]) => void }): VNode {
  const [open, setOpen] = useState(false);
  return (
    <div class="menu" onKeyDown={(event) => event.key === "Escape" && setOpen(false)}>
      <button aria-expanded={open} aria-label="What tiles show" onClick={() => setOpen(!open)}>Show ▾</button>
      {open ? (
        <fieldset class="popup">
          <legend class="visually-hidden">What tiles show</legend>
          {COLUMNS.map((column) => (
            <label key={column}><input type="checkbox" checked={shown.has(column)} onChange={() => onShown(COLUMNS.filter((each) => (each === column ? !shown.has(each) : shown.has(each))))} /> {column}</label>
          ))}
          <button onClick={() => onShown(COLUMNS)}>Show All</button>
        </fieldset>
      ) : null}
    </div>
  );
}

function TileCard({ tile, shown, path, going }: { tile: Tile; shown: ReadonlySet<string>; path: ReadonlyMap<string, string>; going: Going }): VNode {
  const step = path.get(tile.id);
  const look = path.size === 0 ? "" : step === undefined ? "off-path" : `on-path action-${step}`;
  return (
    <article class={`tile ${tile.staged ? "staged" : ""} ${tile.endpoints === 0 ? "idle" : ""} ${look}`}>
      <h3>
        {tile.staged ? <span class="badge">STAGED</span> : null}
        <button class="link" onClick={() => going.go("policy", { id: tile.id })} title={`${tile.kind}, order ${tile.order ?? "last"}`}>{tile.name}</button>
        {step === undefined ? null : <span class="badge">{step}</span>}
      </h3>
      {shown.has("Namespace") ? <Metric label="Namespace" values={[tile.namespace ?? "global", kindWord(tile.kind)]} /> : null}
      {shown.has("Endpoints") ? <Metric label={tile.endpoints === 0 ? "⚠ Endpoints: selects none" : "Endpoints"} values={[tile.endpoints === null ? "n/a" : String(tile.endpoints)]} /> : null}
      {shown.has("Connections") ? <Metric label="Connect./s" values={arrows(tile.rates.connections, "")} /> : null}
      {shown.has("Allowed") ? <TrafficMetric label="Allowed/s" traffic={tile.rates.allowed} /> : null}
      {shown.has("Denied") ? <TrafficMetric label="Denied/s" traffic={tile.rates.denied} /> : null}
      {shown.has("Passed") ? <TrafficMetric label="Passed/s" traffic={tile.rates.passed} /> : null}
      {shown.has("Connections") || shown.has("Allowed") ? sparkline(tile.spark, 200, 18, `Packets over the range, at most ${rate(Math.max(0, ...tile.spark))} a second`) : null}
    </article>
  );
}

function kindWord(kind: string): string {
  return kind.endsWith("KubernetesNetworkPolicy") || kind === "KubernetesNetworkPolicy" ? "Kubernetes" : "";
}

function arrows(pair: PairOfRates, unit: string): readonly string[] {
  return [`${rate(pair.in)}${unit} ↓`, `${rate(pair.out)}${unit} ↑`];
}

function Metric({ label, values }: { label: string; values: readonly string[] }): VNode {
  return <p class="metric"><span>{label}</span>{values.map((value, index) => <span key={index} class={label === "Namespace" || label.includes("Endpoints") ? "fact" : index ? "out" : "in"}>{value}</span>)}</p>;
}

function TrafficMetric({ label, traffic: { packets, bytes } }: { label: string; traffic: Traffic }): VNode {
  return <><Metric label={label} values={arrows(packets, " pkt")} /><Metric label="" values={arrows(bytes, " B")} /></>;
}

function BoardList({ data, fits, going }: { data: BoardAnswer; fits: (tile: Tile) => boolean; going: Going }): VNode {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Policies as a list">
      <table class="list">
        <thead><tr>{["Tier", "Policy", "Namespace", "Kind", "Endpoints", "Connections/s", "Allowed pkt/s", "Denied pkt/s", "Passed pkt/s"].map((each) => <th scope="col" key={each}>{each}</th>)}</tr></thead>
        <tbody>
          {data.tiers.flatMap((tier) => tier.policies.filter(fits).map((tile) => (
            <tr key={tile.id}>
              <td>{tier.name}</td>
              <td>{tile.staged ? <span class="badge">STAGED</span> : null} <button class="link" onClick={() => going.go("policy", { id: tile.id })}>{tile.name}</button></td>
              <td>{tile.namespace ?? "global"}</td><td>{tile.kind}</td><td>{tile.endpoints ?? "n/a"}</td>
              <td>{rate(total(tile.rates.connections))}</td><td>{rate(total(tile.rates.allowed.packets))}</td><td>{rate(total(tile.rates.denied.packets))}</td><td>{rate(total(tile.rates.passed.packets))}</td>
            </tr>
          )))}
        </tbody>
      </table>
    </div>
  );
}
