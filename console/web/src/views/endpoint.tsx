/** The policies that apply to a chosen name, as the inventory has it now. */

import type { VNode } from "preact";
import type { EndpointAnswer } from "../api/client";
import { namespaceOf } from "../domain/flow";
import { useAnswer } from "./hooks";
import type { Going } from "./place";
import { Staged } from "./staged";

export function EndpointCard({ name, going }: { name: string; going: Going }): VNode | null {
  const namespace = namespaceOf(name);
  const query = new URLSearchParams({ namespace, name: name.slice(namespace.length + 1) });
  const answer = useAnswer<EndpointAnswer>("endpoint", query.toString(), going.tick);
  const data = answer.data;
  if (data === null) return null;
  if (data.endpoints === 0) return <section class="card endpoint"><h2>Policies of this name</h2><p class="soft">No endpoint of this name is alive now; its flow logs tell which policies judged it.</p></section>;
  return (
    <section class="card endpoint">
      <h2>{data.policies.length} {data.policies.length === 1 ? "policy applies" : "policies apply"} to {data.endpoints === 1 ? "this endpoint" : `these ${data.endpoints} endpoints`}</h2>
      <ul class="applied">
        {data.policies.map((each) => (
          <li key={each.id}>
            <span class="soft">{each.tier}</span>
            <button class="link" onClick={() => going.go("policy", { id: each.id })}>{each.name}</button>
            {each.staged ? <Staged /> : null}
            <span class="soft">{each.directions.join(", ")}</span>
          </li>
        ))}
      </ul>
      <ul class="chips" aria-label="Labels that all of them carry">{data.labels.map((each) => <li key={each}>{each}</li>)}</ul>
    </section>
  );
}
