/** The policies that judged one flow, side by side with what the packets say. */

import type { VNode } from "preact";
import type { ExplainAnswer, HitAnswer } from "../api/client";
import { filterQuery } from "../domain/address";
import type { End, Flow } from "../domain/flow";
import { conditionsOf, flowKey, STATUSES } from "../domain/flow";
import { counted, rate } from "../domain/format";
import { icon } from "../marks/icons";
import { statusSwatch } from "../marks/patterns";
import { useAnswer } from "./hooks";
import { Name } from "./name";
import type { Going } from "./place";
import { Staged } from "./staged";
import { Fault, Loading } from "./states";

interface Props {
  readonly flow: Flow;
  readonly rangeS: number;
  readonly going: Going;
  readonly onClose: () => void;
}

export function FlowDetail({ flow, rangeS, going, onClose }: Props): VNode {
  const filter = { ...going.place.filter, conditions: [...going.place.filter.conditions, ...conditionsOf(flow)] };
  const answer = useAnswer<ExplainAnswer>("explain", filterQuery(filter).toString(), going.tick);
  return (
    <section class="card detail" aria-label="Policies that judged the flow">
      <header>
        <h2>{statusSwatch(flow.status)} {STATUSES[flow.status].label}</h2>
        <button class="tool small" aria-label="Close the flow" title="Close" onClick={onClose}>{icon("close", 14)}</button>
      </header>
      <div class="ends">
        <EndName end={flow.source} label="From" />
        <span class="to" aria-hidden="true">→</span>
        <EndName end={flow.dest} label="To" />
      </div>
      <p class="soft facts-line">{flow.proto}{flow.dest_port === null ? "" : `/${flow.dest_port}`}{flow.service === null ? "" : ` · Service ${flow.service}`} · {counted(flow.connections, "connection")} ({rate(flow.connections / rangeS)}/s) · {counted(flow.packets, "packet")} · {rate(flow.bytes)}B</p>
      {answer.error ? <Fault error={answer.error} /> : null}
      {answer.data === null ? <Loading what="verdicts" /> : <Verdicts answer={answer.data} going={going} />}
      <div class="row">
        <button onClick={() => going.go("board", { follow: flowKey(flow) })} disabled={answer.data === null || answer.data.sides.length === 0}>{icon("path", 16)} Follow it across the board</button>
        <button onClick={() => going.go("logs", {}, filter)}>{icon("list", 16)} Flow logs of this flow</button>
      </div>
    </section>
  );
}

function EndName({ end, label }: { end: End; label: string }): VNode {
  return (
    <span class="end">
      <span class="visually-hidden">{label} </span>
      <span class="soft">{end.namespace === "-" ? "no namespace" : end.namespace}</span>
      <strong><Name of={end.name} /></strong>
    </span>
  );
}

function Verdicts({ answer, going }: { answer: ExplainAnswer; going: Going }): VNode {
  return (
    <>
      <p class="words">{answer.words}</p>
      {answer.sides.map((side) => (
        <div class="verdict" key={`${side.reporter}${side.action}${side.evidence}`}>
          <h3>
            {side.direction === "egress" ? "Leaving the source" : "Reaching the destination"}
            <span class={`chip action-${side.action}`}>{side.action}</span>
            <span class={`chip evidence-${side.evidence}`}>{side.evidence}</span>
          </h3>
          {side.derived ? <p class="soft">Concluded from the source's report: no packet arrived.</p> : null}
          <Hits hits={side.hits} going={going} />
          {side.pending.some((hit) => hit.staged) ? (
            <details>
              <summary>Were staged policies enforced: {side.pending.at(-1)?.action}</summary>
              <Hits hits={side.pending} going={going} />
            </details>
          ) : null}
        </div>
      ))}
      <p class="soft">{answer.policies} {answer.policies === 1 ? "policy" : "policies"} judged this flow.</p>
    </>
  );
}

function Hits({ hits, going }: { hits: readonly HitAnswer[]; going: Going }): VNode {
  return (
    <ol class="hits">
      {hits.map((hit) => (
        <li key={`${hit.tier}${hit.policy}${hit.rule_index}`} class={`hit action-${hit.action}`}>
          <span class="tiername">{hit.tier === "__PROFILE__" ? "profile" : hit.tier}</span>
          <span>
            <strong>{hit.action}</strong> by{" "}
            {hit.id === null ? <code>{hit.policy}</code> : <button class="link" onClick={() => going.go("policy", { id: hit.id ?? "" })}>{hit.policy}</button>}
            {hit.staged ? <Staged /> : null}
            <span class="soft"> {hit.words}</span>
          </span>
        </li>
      ))}
    </ol>
  );
}
