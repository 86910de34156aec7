/** The line that joins the tiles which judged a flow, in their order. */

import type { VNode } from "preact";
import { useLayoutEffect, useState } from "preact/hooks";
import type { Step } from "../domain/path";
import type { Box } from "../marks/path";
import { pathMark } from "../marks/path";

interface Props {
  readonly within: { readonly current: HTMLElement | null };
  readonly steps: readonly Step[];
  /** Changes whenever tiles may have moved. */
  readonly version: string;
}

export function PathOverlay({ within, steps, version }: Props): VNode | null {
  const [boxes, setBoxes] = useState<readonly (readonly [Step, Box])[]>([]);
  useLayoutEffect(() => {
    const root = within.current;
    if (root === null) return;
    const measure = (): void => setBoxes(steps.flatMap((step) => {
      const tile = root.querySelector(`[data-tile="${CSS.escape(step.id)}"]`);
      return tile instanceof HTMLElement ? [[step, boxOf(tile, root)] as const] : [];
    }));
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(root);
    return () => observer.disconnect();
  }, [steps, version]);
  const root = within.current;
  if (boxes.length === 0 || root === null) return null;
  return <svg class="path-overlay" width={root.scrollWidth} height={root.scrollHeight} aria-hidden="true">{pathMark(boxes)}</svg>;
}

function boxOf(tile: HTMLElement, root: HTMLElement): Box {
  const [mine, outer] = [tile.getBoundingClientRect(), root.getBoundingClientRect()];
  return { x: mine.left - outer.left + root.scrollLeft, y: mine.top - outer.top + root.scrollTop, width: mine.width, height: mine.height };
}
