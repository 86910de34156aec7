/** Arrow keys among the controls of a table's rows: a row is one stop of the tabulator key, however many filters its cells have. */

type RowEvent = KeyboardEvent & { readonly currentTarget: HTMLTableRowElement };

/** Left and right, Home and End lead along the row; up and down to the same place of the next row that has controls. */
export function moveAmongRows(event: RowEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const here = controls(event.currentTarget);
  const at = here.findIndex((each) => each === document.activeElement);
  if (at < 0) return;
  const moves: Readonly<Record<string, () => HTMLElement | undefined>> = {
    ArrowRight: () => here[at + 1],
    ArrowLeft: () => here[at - 1],
    Home: () => here[0],
    End: () => here.at(-1),
    ArrowDown: () => beside(event.currentTarget, "nextElementSibling", at),
    ArrowUp: () => beside(event.currentTarget, "previousElementSibling", at),
  };
  const move = moves[event.key];
  if (move === undefined) return;
  event.preventDefault();
  move()?.focus();
}

function controls(row: Element): readonly HTMLElement[] {
  return [...row.querySelectorAll<HTMLElement>(":scope > td > button, :scope > td > .cellfilters > button")];
}

function beside(row: Element, way: "nextElementSibling" | "previousElementSibling", at: number): HTMLElement | undefined {
  for (let next = row[way]; next !== null; next = next[way]) {
    const found = controls(next);
    if (found.length > 0) return found[Math.min(at, found.length - 1)];
  }
  return undefined;
}
