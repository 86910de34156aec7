/** Small drawings over time: a sparkline, and the histogram of flow logs by action. */

import { scaleLinear } from "d3-scale";
import type { VNode } from "preact";
import { count, moment } from "../domain/format";

/** A line of rates over the range; flat at nought when nothing happened. */
export function sparkline(values: readonly number[], width: number, height: number, label: string): VNode {
  const y = scaleLinear([0, Math.max(...values, 1e-9)], [height - 1, 1]);
  const step = values.length > 1 ? width / (values.length - 1) : width;
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  return (
    <svg class="spark" viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" height={height} role="img" aria-label={label}>
      <polyline points={points} />
    </svg>
  );
}

export interface Bucket {
  readonly start_s: number;
  readonly allow: number;
  readonly deny: number;
}

/** Stacked bars, denied hatched and on top. */
export function histogram(buckets: readonly Bucket[], width: number, height: number): VNode {
  const most = Math.max(1, ...buckets.map((each) => each.allow + each.deny));
  const y = scaleLinear([0, most], [0, height - 18]);
  const step = buckets.length ? width / buckets.length : width;
  const total = (of: "allow" | "deny"): string => count(buckets.reduce((sum, each) => sum + each[of], 0));
  const first = buckets[0];
  const last = buckets[buckets.length - 1];
  return (
    <svg class="histogram" viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`Flow logs over time: ${total("allow")} allowed, ${total("deny")} denied`}>
      {buckets.map((each, index) => (
        <g key={each.start_s}>
          <title>{`${moment(each.start_s)}: ${count(each.allow)} allowed, ${count(each.deny)} denied`}</title>
          <rect x={index * step + 0.5} width={Math.max(1, step - 1)} y={height - 16 - y(each.allow)} height={y(each.allow)} fill="url(#status-allowed)" />
          <rect x={index * step + 0.5} width={Math.max(1, step - 1)} y={height - 16 - y(each.allow + each.deny)} height={y(each.deny)} fill="url(#status-denied)" />
        </g>
      ))}
      <text class="tick" x="0" y={height - 3}>{first ? moment(first.start_s) : ""}</text>
      <text class="tick" x={width} y={height - 3} text-anchor="end">{last ? moment(last.start_s) : ""}</text>
      <text class="tick" x={width} y="10" text-anchor="end">{count(most)}</text>
    </svg>
  );
}
