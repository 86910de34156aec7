/** Conditions on fields of the flow log: namespaces, names, ports, action and more, with the values that occur. */

import type { VNode } from "preact";
import { useRef, useState } from "preact/hooks";
import type { Condition, Filter } from "../domain/address";
import { withCondition } from "../domain/address";
import { icon } from "../marks/icons";
import { Suggestions, useFacets } from "./facets";

interface Field {
  readonly name: string;
  readonly label: string;
  /** Whether either end may have the value: then it can't be left out. */
  readonly either?: boolean;
}

const FIELDS: readonly [Field, ...Field[]] = [
  { name: "namespace", label: "Namespace, either end", either: true },
  { name: "source_namespace", label: "Source namespace" },
  { name: "dest_namespace", label: "Destination namespace" },
  { name: "name", label: "Name, either end", either: true },
  { name: "source_name_aggr", label: "Source name" },
  { name: "dest_name_aggr", label: "Destination name" },
  { name: "dest_port", label: "Destination port" },
  { name: "action", label: "Action" },
  { name: "proto", label: "Protocol" },
  { name: "reporter", label: "Reporter" },
  { name: "evidence", label: "Evidence" },
];

export function Conditions({ filter, onConditions }: { filter: Filter; onConditions: (conditions: readonly Condition[]) => void }): VNode {
  const [name, setName] = useState(FIELDS[0].name);
  const [exclude, setExclude] = useState(false);
  const [value, setValue] = useState("");
  const field = FIELDS.find((each) => each.name === name) ?? FIELDS[0];
  const known = useFacets(field.name, filter, value);
  const not = exclude && field.either !== true;
  const add = (): void => {
    if (value !== "") onConditions(withCondition(filter, { field: field.name, value, exclude: not }).conditions);
    setValue("");
  };
  return (
    <fieldset class="wide">
      <legend>Namespaces, names, ports, action</legend>
      <ConditionChips conditions={filter.conditions} onConditions={onConditions} />
      <div class="row">
        <select aria-label="Field" value={name} onChange={(event) => setName(event.currentTarget.value)}>
          {FIELDS.map((each) => <option key={each.name} value={each.name}>{each.label}</option>)}
        </select>
        <select aria-label="Is or is not" value={not ? "not" : "is"} disabled={field.either === true} onChange={(event) => setExclude(event.currentTarget.value === "not")}>
          <option value="is">is</option>
          <option value="not">is not</option>
        </select>
        <input class="grow" aria-label="Value" list="suggest-values" value={value} placeholder={known.length > 0 ? `${known[0]?.value ?? ""}, or prefix*` : "value, or prefix*"} onInput={(event) => setValue(event.currentTarget.value)} onBlur={add} onKeyDown={(event) => event.key === "Enter" && value !== "" && (event.preventDefault(), add())} />
        <Suggestions id="suggest-values" values={known} />
        <button type="button" disabled={value === ""} onClick={add}>Add</button>
      </div>
    </fieldset>
  );
}

/** Conditions in force, each with a way to take it out. */
export function ConditionChips({ conditions, onConditions }: { conditions: readonly Condition[]; onConditions: (conditions: readonly Condition[]) => void }): VNode | null {
  const list = useRef<HTMLUListElement>(null);
  if (conditions.length === 0) return null;
  // The button that was pressed goes with its condition: the focus would be lost with it.
  const remove = (at: number): void => (list.current?.focus(), onConditions(conditions.filter((_, other) => other !== at)));
  return (
    <ul class="chips" aria-label="Conditions" ref={list} tabIndex={-1}>
      {conditions.map((each, index) => (
        <li key={`${each.exclude}${each.field}:${each.value}`} class={each.exclude ? "excluded" : ""}>
          <span class="soft">{each.exclude ? "not " : ""}{each.field}:</span> {each.value}
          <button type="button" aria-label={`Remove ${each.field} ${each.value}`} onClick={() => remove(index)}>{icon("close", 12)}</button>
        </li>
      ))}
    </ul>
  );
}
