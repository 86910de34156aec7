/** Small drawings over time: a sparkline, and the histogram of flow logs by action. */

import { scaleLinear } from "d3-scale";
import type { VNode } from "preact";
import { count, moment, timeOfDay } from "../domain/format";

/** A line of rates over the range with its area; flat at nought when nothing happened. */
export function sparkline(values: readonly number[], width: number, height: number, label: string): VNode {
  const y = scaleLinear([0, Math.max(...values, 1e-9)], [height - 1, 1.5]);
  const step = values.length > 1 ? width / (values.length - 1) : width;
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  return (
    <svg class="spark" viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" height={height} role="img" aria-label={label}>
      <polygon points={`0,${height} ${points} ${width},${height}`} />
      <polyline points={points} />
    </svg>
  );
}

export interface Bucket {
  readonly start_s: number;
  readonly allow: number;
  readonly deny: number;
}

const BELOW = 18;
const LEFT = 40;
/** Times beneath the bars: at most so many, each so wide and so far from the next. */
const TICKS = 6;
const TICK_WIDTH = 50;
const TICK_GAP = 16;

/**
 * Stacked bars, denied hatched and on top, at least two pixels high so that one denial among thousands shows.
 *
 * @param table id of the element that has the same as a table.
 */
export function histogram(buckets: readonly Bucket[], widthS: number, width: number, height: number, onBar: (bucket: Bucket) => void, table: string): VNode {
  const most = Math.max(1, ...buckets.map((each) => each.allow + each.deny));
  const y = scaleLinear([0, most], [0, height - BELOW - 8]).nice(3);
  const step = buckets.length > 0 ? (width - LEFT) / buckets.length : width;
  const total = (of: "allow" | "deny"): string => count(buckets.reduce((sum, each) => sum + each[of], 0));
  const base = height - BELOW;
  const every = Math.max(1, Math.ceil(buckets.length / Math.min(TICKS, Math.floor((width - LEFT) / (TICK_WIDTH + TICK_GAP)))));
  const tall = (value: number): number => (value === 0 ? 0 : Math.max(2, y(value)));
  return (
    <svg class="histogram" viewBox={`0 0 ${width} ${height}`} width={width} height={height} role="img" aria-label={`Flow logs over time: ${total("allow")} allowed, ${total("deny")} denied; the table below has each bar`} aria-details={table}>
      {y.ticks(3).filter(Number.isInteger).map((tick) => (
        <g key={tick} class="gridline">
          <line x1={LEFT} x2={width} y1={base - y(tick)} y2={base - y(tick)} />
          <text class="tick" x={LEFT - 6} y={base - y(tick)} dy="0.32em" text-anchor="end">{count(tick)}</text>
        </g>
      ))}
      {buckets.map((each, index) => {
        const [x, wide, allow, deny] = [LEFT + index * step + 0.5, Math.max(1, step - 1), tall(each.allow), tall(each.deny)];
        return (
          <g key={each.start_s} class="bar" onClick={() => onBar(each)}>
            <title>{`${moment(each.start_s)} to ${moment(each.start_s + widthS)}: ${count(each.allow)} allowed, ${count(each.deny)} denied. Click to look at this time only.`}</title>
            <rect class="reach" x={x} width={wide} y="0" height={base} />
            <rect x={x} width={wide} y={base - allow} height={allow} fill="url(#status-allowed)" />
            <rect x={x} width={wide} y={base - allow - deny} height={deny} fill="url(#status-denied)" />
          </g>
        );
      })}
      {buckets.map((each, index) => ({ start: each.start_s, x: LEFT + index * step })).filter(({ x }, index) => index % every === 0 && x + TICK_WIDTH <= width).map(({ start, x }) => (
        <text key={start} class="tick" x={x} y={height - 4}>{timeOfDay(start)}</text>
      ))}
    </svg>
  );
}
