/** Label selectors of one side: all or any must match; labels that occur are suggested. */

import type { VNode } from "preact";
import { useState } from "preact/hooks";
import type { Filter, Match } from "../domain/address";
import { icon } from "../marks/icons";
import { Suggestions, useFacets } from "./facets";

interface Props {
  readonly legend: string;
  readonly field: "source_labels.labels" | "dest_labels.labels";
  readonly filter: Filter;
  readonly labels: readonly string[];
  readonly match: Match;
  readonly onLabels: (labels: readonly string[], match: Match) => void;
}

export function Labels({ legend, field, filter, labels, match, onLabels }: Props): VNode {
  const [text, setText] = useState("");
  const known = useFacets(field, filter, text);
  const add = (): void => {
    const selector = asSelector(text.trim());
    if (selector !== "" && !labels.includes(selector)) onLabels([...labels, selector], match);
    setText("");
  };
  const list = `suggest-${field}`;
  return (
    <fieldset>
      <legend>{legend}</legend>
      <label class="matchall"><input type="checkbox" checked={match === "all"} onChange={() => onLabels(labels, match === "all" ? "any" : "all")} /> Match all <span class="soft">({match === "all" ? "each selector must match" : "any one is enough"})</span></label>
      {labels.length > 0 ? (
        <ul class="chips">
          {labels.map((label) => (
            <li key={label}><code>{label}</code><button type="button" aria-label={`Remove ${label}`} onClick={() => onLabels(labels.filter((each) => each !== label), match)}>{icon("close", 12)}</button></li>
          ))}
        </ul>
      ) : null}
      <div class="row">
        <input class="grow" aria-label={`${legend}: selector`} list={list} placeholder="key=value or selector, e.g. has(app)" value={text} onInput={(event) => setText(event.currentTarget.value)} onBlur={add} onKeyDown={(event) => event.key === "Enter" && text !== "" && (event.preventDefault(), add())} />
        <Suggestions id={list} values={known} />
        <button type="button" onClick={add}>Add</button>
      </div>
    </fieldset>
  );
}

/** `key=value` as a selector; anything else is one already. */
function asSelector(text: string): string {
  const plain = /^([\w./-]+)=([\w.-]*)$/.exec(text);
  return plain === null ? text : `${plain[1]} == "${plain[2]}"`;
}
