/** Line icons on a 20 by 20 grid, in the colour of the text around them; always beside or under a label. */

import type { VNode } from "preact";

const SHAPES = {
  label: "M3 3h6.5l7.5 7.5-6.5 6.5L3 9.5zM6.5 6.5h.01",
  zoomOut: "M9 3.5a5.5 5.5 0 1 0 .01 0M13 13l4 4M6.5 9h5",
  zoomIn: "M9 3.5a5.5 5.5 0 1 0 .01 0M13 13l4 4M6.5 9h5M9 6.5v5",
  reset: "M4 4l4.5 4.5M8.5 4.5v4h-4M16 16l-4.5-4.5M11.5 15.5v-4h4",
  refresh: "M15.5 6.5a6.5 6.5 0 1 0 1 4.5M16.5 3v4h-4",
  folder: "M2.5 5.5h5l1.5 2h8.5v8.5h-15z",
  globe: "M10 2.5a7.5 7.5 0 1 0 .01 0M2.5 10h15M10 2.5c-5 4.5-5 10.5 0 15c5-4.5 5-10.5 0-15",
  box: "M10 2.5l6.5 3.5v8L10 17.5 3.5 14V6zM3.5 6L10 9.5 16.5 6M10 9.5v8",
  wifi: "M2.5 8a11 11 0 0 1 15 0M5 11a7.5 7.5 0 0 1 10 0M7.5 14a4 4 0 0 1 5 0M10 16.5h.01",
  arrows: "M3 7h13M13 4l3 3-3 3M17 13H4M7 10l-3 3 3 3",
  deny: "M10 3a7 7 0 1 0 .01 0M5 5l10 10",
  layers: "M10 3l7.5 4L10 11 2.5 7zM2.5 10.5l7.5 4 7.5-4M2.5 13.5l7.5 4 7.5-4",
  eye: "M2 10c4-6.5 12-6.5 16 0c-4 6.5-12 6.5-16 0zM10 7.5a2.5 2.5 0 1 0 .01 0",
  wheel: "M10 3a7 7 0 1 0 .01 0M10 7.5a2.5 2.5 0 1 0 .01 0M10 3v4.5M10 12.5V17M3 10h4.5M12.5 10H17",
  columns: "M3 3.5h4v13H3zM8.5 3.5h3.5v9H8.5zM13.5 3.5h3.5v6h-3.5z",
  list: "M6.5 5h10.5M6.5 10h10.5M6.5 15h10.5M3 5h.01M3 10h.01M3 15h.01",
  sun: "M10 6.5a3.5 3.5 0 1 0 .01 0M10 1.5v2M10 16.5v2M1.5 10h2M16.5 10h2M4 4l1.4 1.4M14.6 14.6L16 16M4 16l1.4-1.4M14.6 5.4L16 4",
  moon: "M15.5 12.5A7 7 0 0 1 7.5 4a6.5 6.5 0 1 0 8 8.5z",
  screen: "M2.5 4h15v9.5h-15zM7 17h6M10 13.5V17",
  pause: "M7 4.5v11M13 4.5v11",
  play: "M6 4l10 6-10 6z",
  download: "M10 3v9.5M6 9l4 4 4-4M3.5 16.5h13",
  close: "M5 5l10 10M15 5L5 15",
  down: "M5 8l5 5 5-5",
  plus: "M9 3.5a5.5 5.5 0 1 0 .01 0M13 13l4 4M6.5 9h5M9 6.5v5",
  minus: "M9 3.5a5.5 5.5 0 1 0 .01 0M13 13l4 4M6.5 9h5",
  path: "M4 4.5a1.5 1.5 0 1 0 .01 0M16 12.5a1.5 1.5 0 1 0 .01 0M5.5 6h7a3 3 0 0 1 0 6h-5a3 3 0 0 0 0 5H13",
} as const;

export type IconName = keyof typeof SHAPES;

export function icon(name: IconName, size = 18): VNode {
  return (
    <svg class="icon" viewBox="0 0 20 20" width={size} height={size} aria-hidden="true">
      <path d={SHAPES[name]} />
    </svg>
  );
}

/** The mark of the product: two rings and a chord. */
export function mark(): VNode {
  return (
    <svg class="mark" viewBox="0 0 28 28" width="28" height="28" aria-hidden="true">
      <path class="mark-a" d="M14 2.5A11.5 11.5 0 0 1 25.5 14" />
      <path class="mark-b" d="M25.2 16.8A11.5 11.5 0 1 1 11.2 2.8" />
      <path class="mark-c" d="M20 9.5C14 13 13 15 9.5 20.5" />
    </svg>
  );
}
