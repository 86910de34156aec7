/** Fills that tell the states apart without colour: each has its own hatch, used in drawing and legend alike. */

import type { VNode } from "preact";
import type { Status } from "../domain/flow";

/** The fill of a status on either theme; the hatches are laid over the theme's colours by class. */
export function statusFill(status: Status): string {
  return `url(#status-${status})`;
}

export function statusPatterns(): VNode {
  const pattern = (status: Status, marks: VNode | null): VNode => (
    <pattern id={`status-${status}`} width="8" height="8" patternUnits="userSpaceOnUse">
      <rect class={`fill-${status}`} width="8" height="8" />
      {marks}
    </pattern>
  );
  return (
    <defs>
      {pattern("allowed", null)}
      {pattern("unanswered", <path class="hatch" d="M0 4H4" />)}
      {pattern("denied", <path class="hatch" d="M-2 2L2 -2M0 8L8 0M6 10L10 6" />)}
      {pattern("denied_by_destination", <circle class="dot" cx="4" cy="4" r="1.6" />)}
      {pattern("leak", <path class="hatch" d="M0 0L8 8M0 8L8 0" />)}
      {pattern("unknown", <path class="hatch" d="M4 0V3" />)}
    </defs>
  );
}

/** A small square in a status's fill, for legend and tables; the word beside it carries the meaning. */
export function statusSwatch(status: Status): VNode {
  return (
    <svg class="swatch" width="14" height="14" aria-hidden="true">
      <rect width="14" height="14" rx="2" fill={statusFill(status)} />
    </svg>
  );
}

/** A dot in the colour of a namespace or name; the name stands beside it. */
export function dot(colour: string): VNode {
  return (
    <svg class="swatch" width="10" height="14" viewBox="0 0 10 14" aria-hidden="true">
      <circle cx="5" cy="7" r="4" fill={colour} />
    </svg>
  );
}
