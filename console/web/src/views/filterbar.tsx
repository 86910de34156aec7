/** The top filter bar: one line when folded; types, labels, range and conditions when open. */

import type { VNode } from "preact";
import { useState } from "preact/hooks";
import type { Filter } from "../domain/address";
import { NO_FILTER, PRESETS, summary, TYPE_LABELS, TYPES } from "../domain/address";

const FIELDS: readonly (readonly [string, string])[] = [
  ["namespace", "Namespace, either end"],
  ["source_namespace", "Source namespace"],
  ["dest_namespace", "Destination namespace"],
  ["source_name_aggr", "Source name"],
  ["dest_name_aggr", "Destination name"],
  ["dest_port", "Destination port"],
  ["action", "Action"],
  ["proto", "Protocol"],
  ["reporter", "Reporter"],
  ["evidence", "Evidence"],
];

interface Props {
  readonly filter: Filter;
  readonly onFilter: (filter: Filter) => void;
}

export function FilterBar({ filter, onFilter }: Props): VNode {
  const [open, setOpen] = useState(false);
  const same = JSON.stringify(filter) === JSON.stringify(NO_FILTER);
  return (
    <section class="filterbar" aria-label="Filter">
      <div class="filterline">
        <button class="summary" aria-expanded={open} aria-controls="filter-form" onClick={() => setOpen(!open)}>
          <span>{summary(filter)}</span>
          <span aria-hidden="true">▾</span>
        </button>
        <button class="solid" disabled={same} onClick={() => onFilter(NO_FILTER)} aria-label="Clear the filter">✕</button>
      </div>
      {open ? <Form filter={filter} onFilter={(next) => (onFilter(next), setOpen(false))} /> : null}
    </section>
  );
}

function Form({ filter, onFilter }: Props): VNode {
  const [draft, setDraft] = useState(filter);
  const [field, setField] = useState("namespace");
  const [value, setValue] = useState("");
  const absolute = draft.from > 0;
  const added = (): Filter =>
    value === "" ? draft : { ...draft, conditions: [...draft.conditions, { field, value, exclude: false }] };
  return (
    <form id="filter-form" class="filterform" onSubmit={(event) => (event.preventDefault(), onFilter(added()))}>
      <Types legend="Source type" chosen={draft.sourceTypes} onChosen={(sourceTypes) => setDraft({ ...draft, sourceTypes })} />
      <Labels legend="Source labels" labels={draft.sourceLabels} onLabels={(sourceLabels) => setDraft({ ...draft, sourceLabels })} />
      <Types legend="Destination type" chosen={draft.destTypes} onChosen={(destTypes) => setDraft({ ...draft, destTypes })} />
      <Labels legend="Destination labels" labels={draft.destLabels} onLabels={(destLabels) => setDraft({ ...draft, destLabels })} />
      <fieldset>
        <legend>Time range</legend>
        <div class="row" role="group" aria-label="Presets">
          {PRESETS.map(([label, seconds]) => (
            <button type="button" key={label} aria-pressed={draft.from === -seconds && draft.to === 0} onClick={() => setDraft({ ...draft, from: -seconds, to: 0 })}>{label}</button>
          ))}
        </div>
        <div class="row">
          <label>From <input type="datetime-local" step="1" value={absolute ? local(draft.from) : ""} onChange={(event) => setDraft({ ...draft, from: seconds(event.currentTarget.value) ?? -900 })} /></label>
          <label>To <input type="datetime-local" step="1" value={draft.to > 0 ? local(draft.to) : ""} onChange={(event) => setDraft({ ...draft, to: seconds(event.currentTarget.value) ?? 0 })} /></label>
        </div>
      </fieldset>
      <fieldset>
        <legend>Namespaces, names, ports, action</legend>
        <ul class="chips">
          {draft.conditions.map((each, index) => (
            <li key={`${each.field}:${each.value}`}>
              {each.exclude ? "not " : ""}{each.field}: {each.value}
              <button type="button" aria-label={`Remove ${each.field} ${each.value}`} onClick={() => setDraft({ ...draft, conditions: draft.conditions.filter((_, other) => other !== index) })}>✕</button>
            </li>
          ))}
        </ul>
        <div class="row">
          <select aria-label="Field" value={field} onChange={(event) => setField(event.currentTarget.value)}>
            {FIELDS.map(([name, label]) => <option key={name} value={name}>{label}</option>)}
          </select>
          <input aria-label="Value" value={value} onInput={(event) => setValue(event.currentTarget.value)} placeholder="value, or prefix*" />
          <button type="button" disabled={value === ""} onClick={() => (setDraft(added()), setValue(""))}>Add</button>
        </div>
      </fieldset>
      <div class="row">
        <button class="solid" type="submit">Filter</button>
        <button type="button" onClick={() => onFilter(NO_FILTER)}>Clear</button>
      </div>
    </form>
  );
}

function Types({ legend, chosen, onChosen }: { legend: string; chosen: readonly string[]; onChosen: (types: readonly string[]) => void }): VNode {
  const on = (type: string): boolean => chosen.length === 0 || chosen.includes(type);
  const flip = (type: string): void => {
    const next = TYPES.filter((each) => (each === type ? !on(each) : on(each)));
    onChosen(next.length === TYPES.length || next.length === 0 ? [] : next);
  };
  return (
    <fieldset class="types">
      <legend>{legend}</legend>
      {TYPES.map((type) => (
        <label key={type}><input type="checkbox" checked={on(type)} onChange={() => flip(type)} /> {TYPE_LABELS[type]}</label>
      ))}
    </fieldset>
  );
}

function Labels({ legend, labels, onLabels }: { legend: string; labels: readonly string[]; onLabels: (labels: readonly string[]) => void }): VNode {
  const [text, setText] = useState("");
  const add = (): void => {
    if (text.trim() !== "") onLabels([...labels, asSelector(text.trim())]);
    setText("");
  };
  return (
    <fieldset>
      <legend>{legend} (all must match)</legend>
      <ul class="chips">
        {labels.map((label) => (
          <li key={label}>{label}<button type="button" aria-label={`Remove ${label}`} onClick={() => onLabels(labels.filter((each) => each !== label))}>✕</button></li>
        ))}
      </ul>
      <div class="row">
        <input aria-label={`${legend}: selector`} placeholder={'key=value, or a selector: has(app)'} value={text} onInput={(event) => setText(event.currentTarget.value)} onBlur={add} onKeyDown={(event) => event.key === "Enter" && (event.preventDefault(), add())} />
        <button type="button" onClick={add}>+ Add label selector</button>
      </div>
    </fieldset>
  );
}

function local(unixS: number): string {
  const at = new Date(unixS * 1000);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
}

function seconds(text: string): number | null {
  const at = new Date(text).getTime();
  return Number.isNaN(at) ? null : Math.floor(at / 1000);
}

/** `key=value` as a selector; anything else is one already. */
function asSelector(text: string): string {
  const plain = /^([\w./-]+)=([\w.-]*)$/.exec(text);
  return plain === null ? text : `${plain[1]} == "${plain[2]}"`;
}
