/** One policy: its rules as sentences with what each did, whom it denies, what it selects, its text. */

import type { VNode } from "preact";
import type { PairOfRates, PolicyAnswer, RuleAnswer, Traffic } from "../api/client";
import { filterQuery, NO_FILTER } from "../domain/address";
import { count, moment, rate } from "../domain/format";
import { useAnswer } from "./hooks";
import type { Going } from "./place";
import { Empty, Fault, Loading } from "./states";

type Direction = "ingress" | "egress";

export function PolicyView({ going }: { going: Going }): VNode {
  const { filter, choice } = going.place;
  const query = filterQuery({ ...NO_FILTER, from: filter.from, to: filter.to });
  query.set("id", choice["id"] ?? "");
  const answer = useAnswer<PolicyAnswer>(choice["id"] ? "policy" : null, query.toString(), going.tick);
  const policy = answer.data;
  if (!choice["id"]) return <Empty><h2>No policy chosen</h2><p>Choose one on the Policy Board.</p></Empty>;
  if (answer.error) return <Fault error={answer.error} />;
  if (policy === null) return <Loading what="the policy" />;
  return (
    <div class="view policy">
      <button class="link" onClick={() => history.back()}>← Back</button>
      <h1>{policy.staged ? <span class="badge">STAGED</span> : null} {policy.name}</h1>
      <dl class="facts">
        <dt>Tier</dt><dd>{policy.tier}</dd>
        <dt>Scope</dt><dd>{policy.namespace ?? "global"}</dd>
        <dt>Kind</dt><dd>{policy.kind}</dd>
        <dt>Order</dt><dd>{policy.order ?? "last"}</dd>
        <dt>Applies to</dt><dd><code>{policy.selector}</code></dd>
        <dt>Last evaluated</dt><dd>{policy.last_evaluated_s === null ? "not in what is stored" : moment(policy.last_evaluated_s)}</dd>
      </dl>
      <Rules title="Ingress" direction="ingress" rules={policy.ingress} />
      <Rules title="Egress" direction="egress" rules={policy.egress} />
      <h2>Who is denied here</h2>
      {policy.denials.length === 0 ? <p>Nobody in this range.</p> : (
        <div class="scroll" tabIndex={0} role="region" aria-label="Who is denied here">
          <table class="list">
            <thead><tr><th scope="col">Rule</th><th scope="col">Source</th><th scope="col">Destination</th><th scope="col">Connections</th><th scope="col">Packets</th><th scope="col">Flow logs</th></tr></thead>
            <tbody>
              {policy.denials.map((each) => (
                <tr key={`${each.direction}${each.rule_index}${each.source}${each.dest}`}>
                  <td>{each.direction} {each.rule_index < 0 ? "end of tier" : `rule ${each.rule_index}`}</td><td>{each.source}</td><td>{each.dest}</td><td>{count(each.connections)}</td><td>{count(each.packets)}</td>
                  <td><button class="link" aria-label={`Flow logs from ${each.source} to ${each.dest}`} onClick={() => going.go("logs", {}, { ...filter, conditions: each.filter.flatMap((text) => { const at = text.indexOf(":"); return { field: text.slice(0, at), value: text.slice(at + 1), exclude: false }; }) })}>Flow logs</button></td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <h2>Endpoints it selects ({policy.selected.length})</h2>
      {policy.selected.length === 0 ? <p>None: this policy does nothing. Compare its selector with the endpoints' labels.</p> : <ul class="chips">{policy.selected.map((each) => <li key={`${each.namespace}/${each.name}`}>{each.namespace}/{each.name}</li>)}</ul>}
      <h2>YAML</h2>
      <pre tabIndex={0} aria-label="The policy as YAML">{policy.yaml}</pre>
    </div>
  );
}

function Rules({ title, direction, rules }: { title: string; direction: Direction; rules: readonly RuleAnswer[] }): VNode {
  return (
    <section class="rules" aria-label={`${title} rules`}>
      <h2>{title} Policy Rules ({rules.filter((rule) => rule.index >= 0).length})</h2>
      {rules.map((rule) => (
        <div class="rule" key={rule.index} data-rule={`${direction}-${rule.index}`}>
          <p class={`sentence action-${rule.action}`}><span class="index">{rule.index < 0 ? "end" : rule.index}</span>{rule.sentence.map((part, index) => (part.strong ? <strong key={index}>{part.text}</strong> : <span key={index}>{part.text}</span>))}</p>
          <Stats rule={rule} direction={direction} />
        </div>
      ))}
    </section>
  );
}

function Stats({ rule, direction }: { rule: RuleAnswer; direction: Direction }): VNode {
  const { rates } = rule;
  const number = (value: number | null): string => (value === null ? "n/a" : String(value));
  const acts = (action: string): boolean => rule.action === action;
  return (
    <div class="stats">
      <Stat label="Endpoints" lines={[["", number(rule.endpoints.in), number(rule.endpoints.out)]]} />
      <Stat label="Connections/sec" lines={[["", direction === "ingress" ? rate(rates.connections.in) : "n/a", direction === "egress" ? rate(rates.connections.out) : "n/a"]]} />
      <TrafficStat label="Allowed" traffic={rates.allowed} applies={acts("allow")} />
      <TrafficStat label="Denied" traffic={rates.denied} applies={acts("deny")} />
      <TrafficStat label="Passed" traffic={rates.passed} applies={acts("pass")} />
    </div>
  );
}

function TrafficStat({ label, traffic, applies }: { label: string; traffic: Traffic; applies: boolean }): VNode {
  const line = (unit: string, pair: PairOfRates): readonly [string, string, string] =>
    applies ? [unit, rate(pair.in), rate(pair.out)] : [unit, "n/a", "n/a"];
  return <Stat label={label} lines={[line("packets/sec", traffic.packets), line("bytes/sec", traffic.bytes)]} />;
}

function Stat({ label, lines }: { label: string; lines: readonly (readonly [string, string, string])[] }): VNode {
  return (
    <div class={`stat stat-${label.toLowerCase().split("/")[0]}`}>
      <span class="what">{label}</span>
      {lines.map(([unit, down, up]) => (
        <span class="line" key={unit}>
          <span class="unit">{unit}</span>
          <span class={down === "n/a" ? "na" : "in"}>{down}{down === "n/a" ? "" : " ↓"}</span>
          <span class={up === "n/a" ? "na" : "out"}>{up}{up === "n/a" ? "" : " ↑"}</span>
        </span>
      ))}
    </div>
  );
}
