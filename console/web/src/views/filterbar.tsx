/** The top filter bar: one line when folded; types, labels, range and conditions when open. */

import type { VNode } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Filter } from "../domain/address";
import { NO_FILTER, rangeProblem, summary, TYPE_LABELS, TYPES } from "../domain/address";
import { icon } from "../marks/icons";
import { Conditions } from "./conditions";
import { Labels } from "./labels";
import { TimeRange } from "./timerange";

interface Props {
  readonly filter: Filter;
  readonly onFilter: (filter: Filter) => void;
}

export function FilterBar({ filter, onFilter }: Props): VNode {
  const [open, setOpen] = useState(false);
  const toggle = useRef<HTMLButtonElement>(null);
  const same = JSON.stringify(filter) === JSON.stringify(NO_FILTER);
  const close = (): void => {
    setOpen(false);
    toggle.current?.focus();
  };
  return (
    <section class="filterbar" aria-label="Filter" onKeyDown={(event) => event.key === "Escape" && open && close()}>
      <div class="filterline">
        <button ref={toggle} class="summary" aria-expanded={open} aria-controls="filter-form" onClick={() => setOpen(!open)} title={summary(filter)}>
          <span>{summary(filter)}</span>
          {icon("down", 16)}
        </button>
        <button class="solid" disabled={same} onClick={() => onFilter(NO_FILTER)} aria-label="Clear the filter" title="Clear the filter">{icon("close", 16)}</button>
      </div>
      {open ? <Form filter={filter} onFilter={(next) => (onFilter(next), close())} /> : null}
    </section>
  );
}

function Form({ filter, onFilter }: Props): VNode {
  const [draft, setDraft] = useState(filter);
  const form = useRef<HTMLFormElement>(null);
  const problem = rangeProblem(draft.from, draft.to, Date.now() / 1000);
  useEffect(() => form.current?.querySelector("input")?.focus(), []);
  return (
    <form id="filter-form" ref={form} class="filterform" onSubmit={(event) => (event.preventDefault(), onFilter(draft))}>
      <Types legend="Source type" chosen={draft.sourceTypes} onChosen={(sourceTypes) => setDraft((last) => ({ ...last, sourceTypes }))} />
      <Labels legend="Source labels" field="source_labels.labels" filter={draft} labels={draft.sourceLabels} match={draft.sourceMatch} onLabels={(sourceLabels, sourceMatch) => setDraft((last) => ({ ...last, sourceLabels, sourceMatch }))} />
      <Types legend="Destination type" chosen={draft.destTypes} onChosen={(destTypes) => setDraft((last) => ({ ...last, destTypes }))} />
      <Labels legend="Destination labels" field="dest_labels.labels" filter={draft} labels={draft.destLabels} match={draft.destMatch} onLabels={(destLabels, destMatch) => setDraft((last) => ({ ...last, destLabels, destMatch }))} />
      <TimeRange from={draft.from} to={draft.to} onRange={(from, to) => setDraft((last) => ({ ...last, from, to }))} />
      <Conditions filter={draft} onConditions={(conditions) => setDraft((last) => ({ ...last, conditions }))} />
      <div class="row actions">
        <button class="solid" type="submit" disabled={problem !== null}>Filter</button>
        <button type="button" onClick={() => onFilter(NO_FILTER)}>Clear</button>
        <span class="problem" role="alert">{problem}</span>
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
