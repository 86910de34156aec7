/** The policies that judged one flow, side by side with what the packets say. */

import type { VNode } from "preact";
import type { ExplainAnswer, HitAnswer } from "../api/client";
import type { Condition } from "../domain/address";
import { filterQuery } from "../domain/address";
import type { Flow } from "../domain/flow";
import { flowTitle, STATUSES } from "../domain/flow";
import { statusSwatch } from "../marks/patterns";
import { useAnswer } from "./hooks";
import type { Going } from "./place";
import { Fault, Loading } from "./states";

/** The conditions on flow logs that a flow of the drawing stands for. */
export function conditionsOf(flow: Flow): readonly Condition[] {
  const all: [string, string | number | null][] = [
    ["source_namespace", flow.source.namespace],
    ["source_name_aggr", flow.source.name],
    ["dest_namespace", flow.dest.namespace],
    ["dest_name_aggr", flow.dest.name],
    ["proto", flow.proto],
    ["dest_port", flow.dest_port],
  ];
  return all.flatMap(([field, value]) => (value === null ? [] : [{ field, value: String(value), exclude: false }]));
}

export function FlowDetail({ flow, going }: { flow: Flow; going: Going }): VNode {
  const filter = { ...going.place.filter, conditions: [...going.place.filter.conditions, ...conditionsOf(flow)] };
  const answer = useAnswer<ExplainAnswer>("explain", filterQuery(filter).toString(), going.tick);
  return (
    <section class="detail" aria-label="Policies that judged the flow">
      <h2>{flowTitle(flow)}</h2>
      <p>{statusSwatch(flow.status)} <strong>{STATUSES[flow.status].label}.</strong> {STATUSES[flow.status].about}</p>
      {answer.error ? <Fault error={answer.error} /> : null}
      {answer.data === null ? <Loading what="verdicts" /> : (
        <>
          <p>{answer.data.words}</p>
          {answer.data.sides.map((side) => (
            <div key={`${side.reporter}${side.action}${side.evidence}`}>
              <h3>{side.direction === "egress" ? "Leaving the source" : "Reaching the destination"}: {side.action}, {side.evidence}{side.derived ? " (concluded from the source's report)" : ""}</h3>
              <Hits hits={side.hits} going={going} />
              {side.pending.some((hit) => hit.staged) ? <><h4>Were staged policies enforced</h4><Hits hits={side.pending} going={going} /></> : null}
            </div>
          ))}
          <p>{answer.data.policies} {answer.data.policies === 1 ? "policy" : "policies"} judged this flow.</p>
        </>
      )}
      <div class="row">
        <button onClick={() => going.go("logs", {}, filter)}>Flow logs of this flow</button>
        <button onClick={() => going.go("board", { path: pathOf(answer.data) })} disabled={pathOf(answer.data) === ""}>Follow it across the board</button>
      </div>
    </section>
  );
}

function pathOf(answer: ExplainAnswer | null): string {
  const hits = answer?.sides.flatMap((side) => side.hits) ?? [];
  return hits.flatMap((hit) => (hit.id === null ? [] : `${hit.id}~${hit.action}`)).join(" ");
}

function Hits({ hits, going }: { hits: readonly HitAnswer[]; going: Going }): VNode {
  return (
    <ol class="hits">
      {hits.map((hit) => (
        <li key={`${hit.tier}${hit.policy}${hit.rule_index}`} class={`action-${hit.action}`}>
          <strong>{hit.action}</strong> by{" "}
          {hit.id === null ? <code>{hit.policy}</code> : <button class="link" onClick={() => going.go("policy", { id: hit.id ?? "" })}>{hit.policy}</button>}
          {hit.staged ? <span class="badge">STAGED</span> : null} in tier {hit.tier}: {hit.words}
        </li>
      ))}
    </ol>
  );
}
