/** Following one flow across the board: choosing it, and what was decided about it in words. */

import type { VNode } from "preact";
import { useMemo } from "preact/hooks";
import type { ExplainAnswer, FlowsAnswer } from "../api/client";
import { filterQuery, NO_FILTER } from "../domain/address";
import type { FollowedFlow } from "../domain/flow";
import { conditionsOf, flowKey, flowTitle, nameKey, readFlowKey, STATUSES } from "../domain/flow";
import type { Step } from "../domain/path";
import { NO_POLICY, pathOf } from "../domain/path";
import { icon } from "../marks/icons";
import { statusPatterns, statusSwatch } from "../marks/patterns";
import { useAnswer } from "./hooks";
import type { Going } from "./place";

export interface Followed {
  readonly flow: FollowedFlow;
  readonly steps: readonly Step[];
  readonly words: string | null;
}

export function useFollowed(key: string, range: URLSearchParams, tick: number): Followed | null {
  const flow = useMemo(() => readFlowKey(key), [key]);
  const query = filterQuery({ ...NO_FILTER, conditions: flow === null ? [] : conditionsOf(flow) });
  for (const [name, value] of range) query.set(name, value);
  const answer = useAnswer<ExplainAnswer>(flow === null ? null : "explain", query.toString(), tick).data;
  return useMemo(() => (flow === null ? null : { flow, steps: pathOf(answer?.sides ?? []), words: answer?.words ?? null }), [flow, answer]);
}

/** Flows to choose from; those that were blocked come first. */
const MOST_OFFERED = 300;

export function FollowPick({ followed, going, range }: { followed: Followed | null; going: Going; range: URLSearchParams }): VNode {
  const flows = useAnswer<FlowsAnswer>("flows", range.toString(), going.tick).data?.flows;
  const offered = useMemo(
    () => [...(flows ?? [])].sort((a, b) => Number(STATUSES[b.status].blocked) - Number(STATUSES[a.status].blocked)).slice(0, MOST_OFFERED).map((flow) => [flowKey(flow), `${STATUSES[flow.status].label}: ${flowTitle(flow)}`] as const),
    [flows],
  );
  const chosen = going.place.choice["follow"] ?? "";
  return (
    <span class="followpick">
      <label>{icon("path", 16)} Follow a flow{" "}
        <select value={chosen} onChange={(event) => going.choose({ follow: event.currentTarget.value })}>
          <option value="">none</option>
          {offered.map(([key, title]) => <option key={key} value={key}>{title}</option>)}
          {chosen !== "" && !offered.some(([key]) => key === chosen) ? <option value={chosen}>{chosen.split("|").slice(0, 2).join(" → ")}</option> : null}
        </select>
      </label>
      {followed === null ? null : <button class="tool small" aria-label="Stop following the flow" title="Stop following the flow" onClick={() => going.choose({ follow: "" })}>{icon("close", 14)}</button>}
    </span>
  );
}

/** What was decided about the followed flow, and by whom in turn. */
export function FollowNote({ followed }: { followed: Followed }): VNode {
  const { flow, steps, words } = followed;
  return (
    <section class="follow card" aria-label="The flow that is followed">
      <svg width="0" height="0" aria-hidden="true" class="defs">{statusPatterns()}</svg>
      <p role="status">{statusSwatch(flow.status)} <strong>{nameKey(flow.source)} → {nameKey(flow.dest)} {flow.proto}{flow.dest_port === null ? "" : `/${flow.dest_port}`}: {STATUSES[flow.status].label}.</strong> {words ?? "Asking who judged it …"}</p>
      <ol>{steps.map((step) => <li key={step.turn}><span class={`step action-${step.action}`}>{step.turn} {step.action}</span> {step.id === NO_POLICY ? "profile" : step.id} <span class="soft">{step.direction}</span></li>)}</ol>
    </section>
  );
}
