/** The time range: presets, so long ago, or from one moment to another. */

import type { VNode } from "preact";
import { useState } from "preact/hooks";
import { inUnits, PRESETS, UNITS } from "../domain/address";

interface Props {
  readonly from: number;
  readonly to: number;
  readonly onRange: (from: number, to: number) => void;
}

export function TimeRange({ from, to, onRange }: Props): VNode {
  const [absolute, setAbsolute] = useState(from > 0 || to > 0);
  return (
    <fieldset class="timerange">
      <legend>Time range</legend>
      <div class="row" role="group" aria-label="Presets">
        {PRESETS.map(([label, seconds]) => (
          <button type="button" key={label} aria-pressed={!absolute && from === -seconds && to === 0} onClick={() => (setAbsolute(false), onRange(-seconds, 0))}>{label}</button>
        ))}
        <button type="button" aria-pressed={absolute} onClick={() => setAbsolute(!absolute)}>Absolute</button>
      </div>
      {absolute ? (
        <div class="row">
          <label>From <input type="datetime-local" step="1" value={local(from)} onChange={(event) => onRange(seconds(event.currentTarget.value) ?? from, to)} /></label>
          <label>To <input type="datetime-local" step="1" value={local(to)} onChange={(event) => onRange(from, seconds(event.currentTarget.value) ?? to)} /></label>
        </div>
      ) : (
        <div class="row">
          <Ago label="From" seconds={Math.max(0, -from)} onSeconds={(next) => onRange(-next, to)} />
          <Ago label="To" seconds={Math.max(0, -to)} onSeconds={(next) => onRange(from, -next)} />
        </div>
      )}
    </fieldset>
  );
}

function Ago({ label, seconds: value, onSeconds }: { label: string; seconds: number; onSeconds: (seconds: number) => void }): VNode {
  const { amount, unit: natural } = inUnits(value);
  const [unit, setUnit] = useState(natural);
  const shown = value % unit === 0 ? { amount: value / unit, unit } : { amount, unit: natural };
  return (
    <span class="ago">
      <label>{label} <input type="number" min="0" step="1" value={shown.amount} onChange={(event) => onSeconds(Math.max(0, Math.trunc(Number(event.currentTarget.value))) * shown.unit)} /></label>
      <select aria-label={`${label}: unit`} value={shown.unit} onChange={(event) => { const next = Number(event.currentTarget.value); setUnit(next); onSeconds(shown.amount * next); }}>
        {UNITS.map(([name, each]) => <option key={name} value={each}>{name}</option>)}
      </select>
      <span class="soft">ago</span>
    </span>
  );
}

/** A moment for the browser's own field, in the reader's time zone; relative ends are told from now. */
function local(end: number): string {
  const at = new Date(end > 0 ? end * 1000 : Date.now() + end * 1000);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}

function seconds(text: string): number | null {
  const at = new Date(text).getTime();
  return Number.isNaN(at) ? null : Math.floor(at / 1000);
}
