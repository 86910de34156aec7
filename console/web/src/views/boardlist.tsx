/** The board as one list. */

import type { VNode } from "preact";
import type { BoardAnswer, PairOfRates, Tile } from "../api/client";
import { rate } from "../domain/format";
import { icon } from "../marks/icons";
import type { Going } from "./place";
import { Staged } from "./staged";
import { kindOf, total } from "./tile";

const HEADS = ["Tier", "Policy", "Namespace", "Kind", "Endpoints", "Connections/s", "Allowed pkt/s", "Denied pkt/s", "Passed pkt/s"];

export function BoardList({ data, fits, going }: { data: BoardAnswer; fits: (tile: Tile) => boolean; going: Going }): VNode {
  const number = (pair: PairOfRates, tone = ""): VNode => <td class={`number ${total(pair) === 0 ? "zero" : tone}`}>{rate(total(pair))}</td>;
  return (
    <div class="scroll boardlist" tabIndex={0} role="region" aria-label="Policies as a list">
      <table class="list">
        <thead><tr>{HEADS.map((each, index) => <th scope="col" key={each} class={index > 3 ? "number" : ""}>{each}</th>)}</tr></thead>
        <tbody>
          {data.tiers.flatMap((tier) => tier.policies.filter(fits).map((tile) => (
            <tr key={tile.id}>
              <td>{tier.name}</td>
              <td>{tile.staged ? <Staged /> : null}<button class="link" onClick={() => going.go("policy", { id: tile.id })}>{tile.name}</button></td>
              <td>{tile.namespace ?? "global"}</td>
              <td><span class="kind">{icon(kindOf(tile)[0], 15)}</span> {tile.kind}</td>
              <td class="number">{tile.endpoints === 0 ? "⚠ 0" : (tile.endpoints ?? "n/a")}</td>
              {number(tile.rates.connections)}{number(tile.rates.allowed.packets)}{number(tile.rates.denied.packets, "bad")}{number(tile.rates.passed.packets)}
            </tr>
          )))}
        </tbody>
      </table>
    </div>
  );
}
