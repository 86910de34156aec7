/** The mark of a policy that isn't enforced. */

import type { VNode } from "preact";

export function Staged(): VNode {
  return <span class="badge" title="Staged: not enforced. What stands beside it is what the policy would have done.">STAGED</span>;
}
