/** One policy: its rules as sentences with what each did, whom it denies, what it selects, its text. */

import type { VNode } from "preact";
import type { PolicyAnswer } from "../api/client";
import { filterQuery, NO_FILTER } from "../domain/address";
import { moment, span } from "../domain/format";
import { icon } from "../marks/icons";
import { useAnswer } from "./hooks";
import { Losses } from "./losses";
import type { Going } from "./place";
import { RangeSelect } from "./rangeselect";
import { Rules } from "./rules";
import { Staged } from "./staged";
import { Covered, Empty, Fault, Loading, Stale } from "./states";
import { kindOf } from "./tile";

/** Endpoints listed before the reader asks for all. */
const FIRST_SELECTED = 60;

export function PolicyView({ going }: { going: Going }): VNode {
  const { filter, choice } = going.place;
  const query = filterQuery({ ...NO_FILTER, from: filter.from, to: filter.to });
  query.set("id", choice["id"] ?? "");
  const answer = useAnswer<PolicyAnswer>(choice["id"] ? "policy" : null, query.toString(), going.tick);
  const policy = answer.data;
  if (!choice["id"]) return <Empty><h2>No policy chosen</h2><p>Choose one on the Policy Board.</p></Empty>;
  if (policy === null || policy.id !== choice["id"]) return answer.error ? <Fault error={answer.error} /> : <Loading what="the policy" />;
  return (
    <div class="view policy">
      <nav class="crumbs" aria-label="Where this is">
        <button class="link" onClick={() => going.go("board")}>Policy Board</button> <span aria-hidden="true">/</span> {policy.tier} <span aria-hidden="true">/</span> {policy.name}
      </nav>
      <header class="policyhead">
        <h1><span class="kind" title={kindOf(policy)[1]}>{icon(kindOf(policy)[0], 22)}</span> {policy.staged ? <Staged /> : null}{policy.name}</h1>
        <span class="spring" />
        <RangeSelect filter={filter} onFilter={going.filter} />
        <Covered range={policy.range} coveredS={policy.covered_s} />
      </header>
      {answer.error ? <Fault error={answer.error} /> : null}
      <Stale newestS={policy.newest_s} toS={policy.range.to_s} />
      <Losses filter={filter} tick={going.tick} />
      <Facts policy={policy} />
      <Rules title="Ingress" direction="ingress" policy={policy} going={going} />
      <Rules title="Egress" direction="egress" policy={policy} going={going} />
      <Selected policy={policy} going={going} />
      <h2>YAML</h2>
      {policy.yaml === "" ? <p class="soft">The inventory holds no text of this policy.</p> : <pre tabIndex={0} aria-label="The policy as YAML">{policy.yaml}</pre>}
    </div>
  );
}

function Facts({ policy }: { policy: PolicyAnswer }): VNode {
  const evaluated = policy.last_evaluated_s;
  const facts: readonly (readonly [string, VNode | string])[] = [
    ["Tier", policy.tier],
    ["Scope", policy.namespace ?? "global"],
    ["Kind", policy.kind],
    ["Order", String(policy.order ?? "last")],
    ["Applies to", <code key="s">{policy.selector}</code>],
    ["Last evaluated", evaluated === null ? "not in this range" : <span key="l" title={moment(evaluated)}>{span(Math.max(0, policy.range.to_s - evaluated))} ago</span>],
  ];
  return <dl class="facts">{facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}</dl>;
}

function Selected({ policy, going }: { policy: PolicyAnswer; going: Going }): VNode {
  const { selected } = policy;
  const all = going.place.choice["selected"] === "all";
  return (
    <>
      <h2>Endpoints it selects ({selected.length})</h2>
      {selected.length === 0 ? <p class="soft">None: this policy does nothing. Compare its selector with the endpoints' labels.</p> : (
        <ul class="chips">
          {selected.slice(0, all ? selected.length : FIRST_SELECTED).map((each) => <li key={`${each.namespace}/${each.name}`}><span class="soft">{each.namespace}/</span>{each.name}</li>)}
          {!all && selected.length > FIRST_SELECTED ? <li><button class="link" onClick={() => going.choose({ selected: "all" })}>{selected.length - FIRST_SELECTED} more</button></li> : null}
        </ul>
      )}
    </>
  );
}
