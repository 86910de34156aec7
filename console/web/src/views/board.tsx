/** The Policy Board: tiers left to right, policies top to bottom, with rates over the range. */

import type { VNode } from "preact";
import { useMemo, useRef } from "preact/hooks";
import type { BoardAnswer, Tile } from "../api/client";
import { filterQuery, NO_FILTER } from "../domain/address";
import { rate, storedBuckets } from "../domain/format";
import { NO_POLICY } from "../domain/path";
import type { Step } from "../domain/path";
import { icon } from "../marks/icons";
import { BoardList } from "./boardlist";
import type { Column } from "./columns";
import { COLUMNS, DEFAULT_COLUMNS, EyeMenu } from "./columns";
import { FollowNote, FollowPick, useFollowed } from "./follow";
import { useAnswer } from "./hooks";
import { Losses } from "./losses";
import { PathOverlay } from "./pathoverlay";
import type { Going } from "./place";
import { RangeSelect } from "./rangeselect";
import { Covered, Empty, Fault, Loading, Stale } from "./states";
import { Metrics, TileCard, total, traffic } from "./tile";

const SPARK_BUCKETS = 30;
const QUICK: readonly (readonly [string, string, (tile: Tile) => boolean])[] = [
  ["denying", "Denying traffic", (tile) => total(tile.rates.denied.packets) > 0],
  ["unused", "Unused", (tile) => tile.endpoints === 0 || (total(tile.rates.connections) === 0 && traffic(tile) === 0)],
  ["staged", "Staged", (tile) => tile.staged],
];

export function BoardView({ going }: { going: Going }): VNode {
  const { choice, filter } = going.place;
  const range = filterQuery({ ...NO_FILTER, from: filter.from, to: filter.to });
  const answer = useAnswer<BoardAnswer>("board", range.toString(), going.tick);
  const shown = useMemo(() => new Set(COLUMNS.map(([name]) => name).filter((name) => (choice["show"] ?? DEFAULT_COLUMNS).split(",").includes(name))), [choice["show"]]);
  const quick = QUICK.find(([name]) => name === choice["quick"]) ?? null;
  const text = (choice["text"] ?? "").toLowerCase();
  const fits = (tile: Tile): boolean =>
    (quick === null || quick[2](tile)) && (text === "" || `${tile.name} ${tile.namespace ?? "global"}`.toLowerCase().includes(text));
  const list = choice["layout"] === "list";
  const data = answer.data;
  const all = data?.tiers.flatMap((tier) => tier.policies) ?? [];
  const matches = all.filter(fits).length;
  const followed = useFollowed(choice["follow"] ?? "", range, going.tick);
  return (
    <div class="view board">
      <div class="boardbar">
        <input type="search" aria-label="Filter policies by name or namespace" placeholder="Name or namespace" value={choice["text"] ?? ""} onInput={(event) => going.choose({ text: event.currentTarget.value })} />
        <div class="group" role="group" aria-label="Only policies that are">
          {QUICK.map(([name, label]) => <button key={name} aria-pressed={choice["quick"] === name} onClick={() => going.choose({ quick: choice["quick"] === name ? "" : name })}>{label}</button>)}
        </div>
        <span class="soft matches" role="status">{data && (text !== "" || quick !== null) ? `${matches} of ${all.length} match` : ""}</span>
        <span class="spring" />
        <FollowPick followed={followed} going={going} range={range} />
        <RangeSelect filter={filter} onFilter={going.filter} />
        {data ? <Covered range={data.range} coveredS={data.covered_s} /> : null}
        {list ? null : <EyeMenu shown={shown} onShown={(next) => going.choose({ show: next.join(",") })} />}
        <div class="group" role="group" aria-label="Layout">
          <button class="tool" aria-label="Columns" title="Columns" aria-pressed={!list} onClick={() => going.choose({ layout: "" })}>{icon("columns")}</button>
          <button class="tool" aria-label="List" title="List" aria-pressed={list} onClick={() => going.choose({ layout: "list" })}>{icon("list")}</button>
        </div>
      </div>
      {followed === null ? null : <FollowNote followed={followed} />}
      {answer.error ? <Fault error={answer.error} /> : null}
      {data ? <Stale newestS={data.newest_s} toS={data.range.to_s} /> : null}
      <Losses filter={filter} tick={going.tick} />
      {data === null && answer.loading ? <Loading what="policies" /> : null}
      {data !== null && data.tiers.length === 0 ? <Empty><h2>No policies</h2><p>The inventory has published none yet. Give <code>tierflow inventory</code> a folder with <code>--manifests</code>, or a cluster.</p></Empty> : null}
      {data !== null && data.tiers.length > 0 && !list ? <Tiers data={data} fits={fits} shown={shown} text={text} steps={followed?.steps ?? []} going={going} /> : null}
      {data !== null && list ? <BoardList data={data} fits={fits} going={going} /> : null}
    </div>
  );
}

interface TiersProps {
  readonly data: BoardAnswer;
  readonly fits: (tile: Tile) => boolean;
  readonly shown: ReadonlySet<Column>;
  readonly text: string;
  readonly steps: readonly Step[];
  readonly going: Going;
}

function Tiers({ data, fits, shown, text, steps, going }: TiersProps): VNode {
  const ref = useRef<HTMLDivElement>(null);
  const none = data.no_policy;
  const stored = storedBuckets(data.range, data.newest_s, data.covered_s, SPARK_BUCKETS);
  const stepsOf = (id: string): readonly Step[] => steps.filter((step) => step.id === id);
  return (
    <div class={`tiers ${steps.length > 0 ? "following" : ""}`} ref={ref} role="list" tabIndex={0} aria-label="Tiers in order">
      {data.tiers.map((tier) => {
        const tiles = tier.policies.filter(fits);
        return (
          <div class={`tier ${tier.name === "default" ? "default" : ""}`} role="listitem" key={tier.name} aria-label={`Tier ${tier.name}`}>
            <header>
              <h2>{tier.name}</h2>
              <span class="soft" title={`What no policy of the tier decides: ${tier.default_action}`}>{tier.order === null ? "last" : `order ${orderText(tier.order)}`} · {tier.policies.length} {tier.policies.length === 1 ? "policy" : "policies"}</span>
            </header>
            {tiles.map((tile) => <TileCard key={tile.id} tile={tile} stored={stored} shown={shown} text={text} steps={stepsOf(tile.id)} going={going} />)}
            {tiles.length > 0 ? null : <p class="state">No policy of this tier matches.</p>}
            {tier.name === "default" ? (
              <article class={`tile nopolicy ${stepsOf(NO_POLICY).length > 0 ? "on-path" : ""}`} data-tile={NO_POLICY}>
                <h3>No Policy Traffic</h3>
                <p class="soft">What no tier decided: the namespace's profile did.</p>
                {shown.has("Connections") || shown.has("Allowed") ? (
                  <Metrics rows={[
                    ...(shown.has("Connections") ? [{ name: "wifi" as const, label: "Connections", unit: "/s", in: rate(none.connections), out: "" }] : []),
                    ...(shown.has("Allowed") ? [{ name: "arrows" as const, label: "Allowed", unit: "pkt/s", in: rate(none.packets), out: "" }, { name: null, label: "", unit: "B/s", in: rate(none.bytes), out: "" }] : []),
                  ]} />
                ) : null}
              </article>
            ) : null}
          </div>
        );
      })}
      <PathOverlay within={ref} steps={steps} version={`${data.range.to_s}${[...shown].join()}${text}`} />
    </div>
  );
}

/** A tier's order, whose fractions stay whole. */
function orderText(order: number): string {
  return Number.isInteger(order) ? order.toLocaleString("en-US") : String(order);
}
