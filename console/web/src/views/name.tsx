/** A name that may break over lines, but never just before what stands for its pods' own part. */

import type { VNode } from "preact";

const END = /[^-:]{1,16}-\*$/;

export function Name({ of }: { of: string }): VNode {
  const at = of.search(END);
  return at < 0 ? <>{of}</> : <>{of.slice(0, at)}<span class="whole">{of.slice(at)}</span></>;
}
