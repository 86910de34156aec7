/** A policy's rules of one direction: each as a sentence, beside it what it did and whom it denied. */

import type { VNode } from "preact";
import type { DenialAnswer, PairOfRates, PolicyAnswer, RuleAnswer, Traffic } from "../api/client";
import { readCondition } from "../domain/address";
import { count, moment, rate, span } from "../domain/format";
import type { IconName } from "../marks/icons";
import { icon } from "../marks/icons";
import type { Going } from "./place";

type Direction = "ingress" | "egress";

interface Props {
  readonly title: string;
  readonly direction: Direction;
  readonly policy: PolicyAnswer;
  readonly going: Going;
}

/** Pairs told under a rule before the reader asks for the flow logs. */
const TOP_PAIRS = 8;

export function Rules({ title, direction, policy, going }: Props): VNode {
  const rules = policy[direction];
  const written = rules.filter((rule) => rule.index >= 0).length;
  return (
    <section class="rules" aria-label={`${title} rules`}>
      <h2>{title} Policy Rules ({written})</h2>
      {rules.length === 0 ? <p class="soft">None: this policy doesn't judge {direction}.</p> : null}
      {rules.map((rule) => (
        <div class="rule" key={rule.index} data-rule={`${direction}-${rule.index}`}>
          <div class="rulewords">
            <p class={`sentence action-${rule.action}`}>
              <span class="index" title={rule.index < 0 ? "End of the tier" : `Rule ${rule.index}`}>{rule.index < 0 ? "end" : rule.index}</span>
              <span>{rule.sentence.map((part, index) => (part.strong ? <strong key={index}>{part.text} </strong> : <span key={index}>{part.text} </span>))}</span>
            </p>
            <p class="soft evaluated">{rule.last_evaluated_s === null ? "Not hit in this range" : <span title={moment(rule.last_evaluated_s)}>Last hit {span(Math.max(0, policy.range.to_s - rule.last_evaluated_s))} ago</span>}</p>
          </div>
          <Stats rule={rule} direction={direction} />
          <Denied rule={rule} direction={direction} denials={policy.denials} going={going} />
        </div>
      ))}
    </section>
  );
}

function Denied({ rule, direction, denials, going }: { rule: RuleAnswer; direction: Direction; denials: readonly DenialAnswer[]; going: Going }): VNode | null {
  const mine = denials.filter((each) => each.direction === direction && each.rule_index === rule.index);
  if (rule.action !== "deny") return null;
  if (mine.length === 0) return <p class="soft denied">Nobody was denied by this rule in the range.</p>;
  return (
    <div class="denied scroll" tabIndex={0} role="region" aria-label={`Who is denied by ${direction} rule ${rule.index}`}>
      <table class="list">
        <caption>Who is denied by this rule</caption>
        <thead><tr><th scope="col">Source</th><th scope="col">Destination</th><th scope="col" class="number">Connections</th><th scope="col" class="number">Packets</th><th scope="col"><span class="visually-hidden">Flow logs</span></th></tr></thead>
        <tbody>
          {mine.slice(0, TOP_PAIRS).map((each) => (
            <tr key={`${each.source}${each.dest}`}>
              <td>{each.source}</td><td>{each.dest}</td><td class="number">{count(each.connections)}</td><td class="number">{count(each.packets)}</td>
              <td><button class="link" aria-label={`Flow logs from ${each.source} to ${each.dest}`} onClick={() => going.go("logs", {}, { ...going.place.filter, conditions: each.filter.flatMap((text) => readCondition(text) ?? []) })}>Flow logs</button></td>
            </tr>
          ))}
        </tbody>
      </table>
      {mine.length > TOP_PAIRS ? <p class="soft">and {mine.length - TOP_PAIRS} more pairs</p> : null}
    </div>
  );
}

function Stats({ rule, direction }: { rule: RuleAnswer; direction: Direction }): VNode {
  const { rates } = rule;
  const acts = (action: string): boolean => rule.action === action;
  return (
    <div class="stats">
      <Stat name="box" label="Endpoints" lines={[["", endpoints(rule.endpoints.in), endpoints(rule.endpoints.out)]]} />
      <Stat name="wifi" label="Connections" lines={[["/sec", direction === "ingress" ? rate(rates.connections.in) : "n/a", direction === "egress" ? rate(rates.connections.out) : "n/a"]]} />
      <TrafficStat name="arrows" label="Allowed" traffic={rates.allowed} applies={acts("allow")} />
      <TrafficStat name="deny" label="Denied" traffic={rates.denied} applies={acts("deny")} />
      <TrafficStat name="layers" label="Passed" traffic={rates.passed} applies={acts("pass")} />
    </div>
  );
}

function endpoints(value: number | null): string {
  return value === null ? "n/a" : String(value);
}

function TrafficStat({ name, label, traffic, applies }: { name: IconName; label: string; traffic: Traffic; applies: boolean }): VNode {
  const line = (unit: string, pair: PairOfRates): readonly [string, string, string] =>
    applies ? [unit, rate(pair.in), rate(pair.out)] : [unit, "n/a", "n/a"];
  return <Stat name={name} label={label} lines={[line("packets/sec", traffic.packets), line("bytes/sec", traffic.bytes)]} />;
}

function Stat({ name, label, lines }: { name: IconName; label: string; lines: readonly (readonly [string, string, string])[] }): VNode {
  const value = (text: string, way: "in" | "out"): VNode => (
    <span class={text === "n/a" ? "na" : text === "0" ? "zero" : way}>{text}{text === "n/a" ? "" : <span aria-hidden="true">{way === "in" ? " ↓" : " ↑"}</span>}<span class="visually-hidden"> {way}</span></span>
  );
  return (
    <div class={`stat stat-${label.toLowerCase()}`}>
      <span class="what">{icon(name, 16)} {label}</span>
      {lines.map(([unit, down, up]) => (
        <span class="line" key={unit}><span class="unit">{unit}</span>{value(down, "in")}{value(up, "out")}</span>
      ))}
    </div>
  );
}
