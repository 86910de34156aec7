/** A button that opens a small panel; Escape, a click elsewhere or leaving it by keyboard closes it. */

import type { ComponentChildren, VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

interface Props {
  readonly label: string;
  readonly face: ComponentChildren;
  readonly tall?: boolean;
  readonly children: ComponentChildren;
}

export function Menu({ label, face, tall = false, children }: Props): VNode {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const elsewhere = (event: Event): void => {
      if (event.target instanceof Node && !root.current?.contains(event.target)) setOpen(false);
    };
    addEventListener("pointerdown", elsewhere);
    addEventListener("focusin", elsewhere);
    return () => (removeEventListener("pointerdown", elsewhere), removeEventListener("focusin", elsewhere));
  }, [open]);
  const onKeyDown = (event: KeyboardEvent): void => {
    if (event.key !== "Escape" || !open) return;
    event.stopPropagation();
    setOpen(false);
    root.current?.querySelector("button")?.focus();
  };
  return (
    <div class="menu" ref={root} onKeyDown={onKeyDown}>
      <button aria-expanded={open} aria-label={label} title={label} onClick={() => setOpen(!open)}>{face}</button>
      {open ? <fieldset class={`popup ${tall ? "tall" : ""}`}><legend class="visually-hidden">{label}</legend>{children}</fieldset> : null}
    </div>
  );
}
