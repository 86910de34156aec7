/** The drawing of a flow's way across the board: (steps, boxes of tiles) to SVG nodes. */

import type { VNode } from "preact";
import type { Step } from "../domain/path";

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** One line a direction from tile to tile, with a mark where it enters each; the tiles' own outlines close the gaps. */
export function pathMark(boxes: readonly (readonly [Step, Box])[]): readonly VNode[] {
  return (["egress", "ingress"] as const).flatMap((direction, lane) => {
    const mine = boxes.filter(([step]) => step.direction === direction);
    const last = mine.at(-1);
    if (last === undefined) return [];
    const d = mine.map(([, box], index) => (index === 0 ? start(box, lane) : join(mine[index - 1]?.[1] ?? box, box, lane))).join("");
    return [
      <g key={direction} class={`path-${direction} ends-${last[0].action}`}>
        <path class="halo" d={d} />
        <path class="way" d={d} />
        {mine.map(([step, box]) => <path key={step.turn} class="head" d={head(box, lane)}><title>{`${step.turn}: ${step.direction}, ${step.action}`}</title></path>)}
      </g>,
    ];
  });
}

/** Both directions may cross one tile: each has its own lane. */
function level(box: Box, lane: number): number {
  return box.y + Math.min(box.height - 8, 16 + lane * 16);
}

function point(x: number, y: number): string {
  return `${x.toFixed(1)} ${y.toFixed(1)}`;
}

function start(box: Box, lane: number): string {
  return `M${point(box.x - 14, level(box, lane))}H${box.x.toFixed(1)}`;
}

function join(from: Box, to: Box, lane: number): string {
  const [y, target] = [level(from, lane), level(to, lane)];
  if (to.x < from.x + from.width) {
    // In the same column the line keeps to the gutter.
    return `M${point(from.x, y)}C${point(from.x - 22, y)} ${point(to.x - 22, target)} ${point(to.x, target)}`;
  }
  const [right, half] = [from.x + from.width, (to.x - from.x - from.width) / 2 + 6];
  return `M${point(right, y)}C${point(right + half, y)} ${point(to.x - half, target)} ${point(to.x, target)}`;
}

function head(box: Box, lane: number): string {
  const y = level(box, lane);
  return `M${point(box.x, y)}L${point(box.x - 9, y - 5)}V${(y + 5).toFixed(1)}Z`;
}
