/** The drop-downs beside the rings: what is chosen, or for the moment what is pointed at. */

import type { VNode } from "preact";
import { useMemo } from "preact/hooks";
import type { Flow } from "../domain/flow";
import { flowKey, flowTitle, nameKey, namespaceOf, STATUSES, STATUS_ORDER, statusMatches } from "../domain/flow";
import type { Selection } from "../domain/rings";
import { isEmpty, NOTHING, selects } from "../domain/rings";
import { icon } from "../marks/icons";
import type { Hover } from "./circle";
import type { Watched } from "./hooks";
import { useWatched } from "./hooks";

interface Props {
  readonly flows: readonly Flow[];
  readonly selection: Selection;
  readonly hover: Watched<Hover>;
  readonly onSelect: (next: Selection) => void;
}

type Option = readonly [string, string];

const STATUS_OPTIONS: readonly Option[] = STATUS_ORDER.map((status) => [status, STATUSES[status].label]);
/** Names and flows in the drop-downs; a namespace, the drawing or the filter leads to the others. */
const MOST_LISTED = 500;

export function Choosers({ flows, selection, hover, onSelect }: Props): VNode {
  const { selection: pointed } = useWatched(hover);
  const { spaces, names, listed } = useMemo(() => choices(flows, selection), [flows, selection]);
  const shown = isEmpty(pointed) ? selection : { ...pointed, status: pointed.status || selection.status };
  const titles = useMemo(() => new Map(flows.map((flow) => [flowKey(flow), flowTitle(flow)])), [flows]);
  const title = (key: string): string => titles.get(key) ?? key;
  return (
    <div class="choosers">
      <Chooser label="Status" none="Any status" value={shown.status} options={STATUS_OPTIONS} text={plain} onChosen={(status) => onSelect({ ...selection, status, flow: "" })} />
      <Chooser label="Namespace" none="All Namespaces" value={shown.namespace} options={spaces} text={plain} onChosen={(namespace) => onSelect({ ...NOTHING, status: selection.status, namespace })} />
      <Chooser label="Name" none="All Names" value={shown.name} options={names} text={(key) => nameWithin(shown.namespace, key)} onChosen={(name) => onSelect({ ...selection, ...(name === "" ? {} : { namespace: namespaceOf(name) }), name, flow: "" })} />
      <Chooser label="Flow" none="All Flows" value={shown.flow} options={listed} text={title} onChosen={(key) => onSelect({ ...selection, flow: key })} />
    </div>
  );
}

function plain(key: string): string {
  return key;
}

/** A name's key without the namespace that is told beside it. */
function nameWithin(namespace: string, key: string): string {
  return namespace !== "" && namespaceOf(key) === namespace ? key.slice(namespace.length + 1) : key;
}

function choices(flows: readonly Flow[], selection: Selection): Readonly<Record<"spaces" | "names" | "listed", readonly Option[]>> {
  const within = flows.filter((flow) => selection.status === "" || statusMatches(selection.status, flow.status));
  const ends = within.flatMap((flow) => [flow.source, flow.dest]).filter((end) => selection.namespace === "" || end.namespace === selection.namespace);
  const spaces = [...new Set(flows.flatMap((flow) => [flow.source.namespace, flow.dest.namespace]))].sort();
  const names = [...new Set(ends.map(nameKey))].sort();
  const listed = within.filter((flow) => selects({ ...selection, flow: "" }, flow)).slice(0, MOST_LISTED);
  return {
    spaces: spaces.map((each) => [each, each === "-" ? "- (no namespace)" : each]),
    names: names.slice(0, MOST_LISTED).map((each) => [each, nameWithin(selection.namespace, each)]),
    listed: listed.map((flow) => [flowKey(flow), flowTitle(flow)]),
  };
}

interface ChooserProps {
  readonly label: string;
  readonly none: string;
  readonly value: string;
  readonly options: readonly Option[];
  readonly text: (key: string) => string;
  readonly onChosen: (value: string) => void;
}

function Chooser({ label, none, value, options, text, onChosen }: ChooserProps): VNode {
  // One node that stays the same, so that pointing compares one and not hundreds.
  const listed = useMemo(() => <>{options.map(([key, words]) => <option key={key} value={key}>{words}</option>)}</>, [options]);
  const known = useMemo(() => new Set(options.map(([key]) => key)), [options]);
  const extra = value !== "" && !known.has(value);
  return (
    <div class="chooser">
      <select aria-label={label} value={value} onChange={(event) => onChosen(event.currentTarget.value)} class={value === "" ? "none" : ""}>
        <option value="">{none}</option>
        {listed}
        {extra ? <option value={value}>{text(value)}</option> : null}
      </select>
      <button aria-label={`Clear ${label.toLowerCase()}`} disabled={value === ""} onClick={() => onChosen("")}>{icon("close", 14)}</button>
    </div>
  );
}
