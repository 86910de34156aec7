/** Flow logs over time by action: the histogram, and the same as a table, which is also its way by keyboard. */

import type { VNode } from "preact";
import { count, moment, span, timeOfDay } from "../domain/format";
import type { Bucket } from "../marks/bars";
import { histogram } from "../marks/bars";
import { statusSwatch } from "../marks/patterns";
import { useSize } from "./hooks";

const HEIGHT = 110;
const TABLE = "histogram-as-table";

export interface HistogramAnswer {
  readonly buckets: readonly Bucket[];
  readonly width_s: number;
}

export function Bars({ answer, onTime }: { answer: HistogramAnswer | null; onTime: (fromS: number, toS: number) => void }): VNode {
  const [ref, size] = useSize<HTMLDivElement>();
  const widthS = answer?.width_s ?? 1;
  const narrow = (bucket: Bucket): void => onTime(bucket.start_s, bucket.start_s + widthS);
  const buckets = answer?.buckets ?? [];
  return (
    <section class="bars" aria-label="Flow logs over time">
      <p class="barshead soft">
        <span>{answer === null ? "" : `Flow logs in bars of ${span(widthS)}`}</span>
        <span>{statusSwatch("allowed")} Allowed</span>
        <span>{statusSwatch("denied")} Denied</span>
      </p>
      <div class="barsdrawn" ref={ref}>
        {size.width > 0 && buckets.length > 0 ? histogram(buckets, widthS, size.width, HEIGHT, narrow, TABLE) : null}
      </div>
      <details class="barstable">
        <summary>As a table</summary>
        <div class="scroll" id={TABLE} tabIndex={0} role="region" aria-label="Flow logs over time, as a table">
          <BarsTable buckets={buckets} widthS={widthS} onBucket={narrow} />
        </div>
      </details>
    </section>
  );
}

function BarsTable({ buckets, widthS, onBucket }: { buckets: readonly Bucket[]; widthS: number; onBucket: (bucket: Bucket) => void }): VNode {
  const filled = buckets.filter((each) => each.allow + each.deny > 0);
  if (filled.length === 0) return <p class="soft">No flow logs in this range.</p>;
  return (
    <table class="times">
      <caption class="soft">{count(filled.length)} of {count(buckets.length)} times have flow logs; a time leads to its flow logs alone.</caption>
      <thead><tr><th scope="col">Time</th><th scope="col" class="number">Allowed</th><th scope="col" class="number">Denied</th></tr></thead>
      <tbody>
        {filled.map((each) => (
          <tr key={each.start_s}>
            <th scope="row"><button class="link" onClick={() => onBucket(each)}>{moment(each.start_s)} to {timeOfDay(each.start_s + widthS)}</button></th>
            <td class="number">{count(each.allow)}</td>
            <td class={`number ${each.deny > 0 ? "action-deny" : "zero"}`}>{count(each.deny)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
