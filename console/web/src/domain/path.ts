/** The way of one flow across the board: which tiles judged it, in order, and what each did. */

export interface Step {
  readonly id: string;
  readonly action: string;
  readonly direction: "egress" | "ingress";
  /** From 1, over both directions. */
  readonly turn: number;
  readonly words: string;
}

interface Side {
  readonly direction: "egress" | "ingress";
  readonly hits: readonly { readonly id: string | null; readonly tier: string; readonly action: string; readonly words: string }[];
}

/** The tile that stands for what no tier decided. */
export const NO_POLICY = "no-policy";

/** Steps in the order that packets meet them: out of the source, then into the destination; each side once. */
export function pathOf(sides: readonly Side[]): readonly Step[] {
  const steps: Step[] = [];
  for (const direction of ["egress", "ingress"] as const) {
    const mine = sides.filter((side) => side.direction === direction);
    const side = mine.find((each) => each.hits.some((hit) => hit.action === "deny")) ?? mine[0];
    for (const hit of side?.hits ?? []) {
      const id = hit.id ?? (hit.tier === "__PROFILE__" ? NO_POLICY : null);
      if (id !== null) steps.push({ id, action: hit.action, direction, turn: steps.length + 1, words: hit.words });
    }
  }
  return steps;
}
