/** What went missing in the range: every other number on the page is without it, so the reader is told. */

import type { VNode } from "preact";
import type { LossesAnswer } from "../api/client";
import type { Filter } from "../domain/address";
import { filterQuery, NO_FILTER } from "../domain/address";
import { counted, moment } from "../domain/format";
import { useAnswer } from "./hooks";

const REASONS: Readonly<Record<string, string>> = {
  sequence_gap: "batches that never arrived: look at Kafka's retention and at the node's network",
  collector_restart: "a collector that started again: look at its log",
  collector_loss: "records that the collector couldn't hold: raise the size of its maps, or drain more often",
};

export function Losses({ filter, tick }: { filter: Filter; tick: number }): VNode | null {
  const query = filterQuery({ ...NO_FILTER, from: filter.from, to: filter.to });
  const losses = useAnswer<LossesAnswer>("losses", query.toString(), tick).data?.losses ?? [];
  if (losses.length === 0) return null;
  const records = losses.reduce((sum, each) => sum + each.records, 0);
  const uncounted = losses.reduce((sum, each) => sum + each.uncounted, 0);
  return (
    <details class="stale losses">
      <summary>
        <strong>Not all of it.</strong> {counted(records, "record")} went missing in this range
        {uncounted > 0 ? `, and ${counted(uncounted, "time")} nobody knows how many` : ""}: numbers here are without them.
      </summary>
      <ul>
        {losses.map((each) => (
          <li key={`${each.host}${each.reason}`}>{each.host}: {counted(each.records, "record")} by {REASONS[each.reason] ?? each.reason} ({moment(each.start_s)} to {moment(each.end_s)})</li>
        ))}
      </ul>
    </details>
  );
}
