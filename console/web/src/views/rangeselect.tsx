/** The presets of a time range as one drop-down, for views whose rates are over it. */

import type { VNode } from "preact";
import type { Filter } from "../domain/address";
import { PRESETS } from "../domain/address";

export function RangeSelect({ filter, onFilter }: { filter: Filter; onFilter: (filter: Filter) => void }): VNode {
  const preset = filter.to === 0 && PRESETS.some(([, seconds]) => seconds === -filter.from);
  return (
    <label class="rates">Rates over{" "}
      <select value={preset ? String(-filter.from) : "other"} onChange={(event) => onFilter({ ...filter, from: -Number(event.currentTarget.value), to: 0 })}>
        {preset ? null : <option value="other" disabled>chosen range</option>}
        {PRESETS.map(([label, seconds]) => <option key={label} value={seconds}>{label}</option>)}
      </select>
    </label>
  );
}
