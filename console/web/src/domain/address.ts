/** The state that the address bar holds: which view, which range and filter, what is chosen in it. */

import { moment } from "./format";

export type ViewName = "flows" | "board" | "policy" | "logs";

export const TYPES = ["net", "ns", "wep", "hep"] as const;
export const TYPE_LABELS: Readonly<Record<string, string>> = { net: "Network", ns: "Network set", wep: "WEP", hep: "HEP" };
export const PRESETS: readonly (readonly [string, number])[] = [
  ["15m", 900],
  ["1h", 3600],
  ["3h", 10800],
  ["6h", 21600],
  ["12h", 43200],
  ["24h", 86400],
];

export type Match = "all" | "any";

/** One condition on a field of the flow log. */
export interface Condition {
  readonly field: string;
  readonly value: string;
  readonly exclude: boolean;
}

/** A range: relative ends are seconds before now and negative or zero; absolute ones are Unix seconds. */
export interface Filter {
  readonly from: number;
  readonly to: number;
  readonly sourceTypes: readonly string[];
  readonly destTypes: readonly string[];
  readonly sourceLabels: readonly string[];
  readonly destLabels: readonly string[];
  /** Whether all of the label selectors must match, or any. */
  readonly sourceMatch: Match;
  readonly destMatch: Match;
  readonly conditions: readonly Condition[];
}

export interface Place {
  readonly view: ViewName;
  readonly filter: Filter;
  /** Choices inside a view (mode, selection, zoom, shown columns), each a text. */
  readonly choice: Readonly<Record<string, string>>;
}

export const NO_FILTER: Filter = {
  from: -900,
  to: 0,
  sourceTypes: [],
  destTypes: [],
  sourceLabels: [],
  destLabels: [],
  sourceMatch: "all",
  destMatch: "all",
  conditions: [],
};

const VIEWS: readonly ViewName[] = ["flows", "board", "policy", "logs"];
const RESERVED = new Set(["from", "to", "source_type", "dest_type", "source_label", "dest_label", "source_label_match", "dest_label_match", "filter"]);

function number(text: string | null, otherwise: number): number {
  const value = text === null || text === "" ? Number.NaN : Number(text);
  return Number.isFinite(value) ? Math.trunc(value) : otherwise;
}

/** `field:value`, or `-field:value` to leave out; null if it is neither. */
export function readCondition(text: string): Condition | null {
  const exclude = text.startsWith("-");
  const rest = exclude ? text.slice(1) : text;
  const at = rest.indexOf(":");
  return at > 0 ? { field: rest.slice(0, at), value: rest.slice(at + 1), exclude } : null;
}

/** The query of the API and of the address bar for one filter: only what differs from no filter. */
export function filterQuery(filter: Filter): URLSearchParams {
  const query = new URLSearchParams();
  if (filter.from !== NO_FILTER.from) query.set("from", String(filter.from));
  if (filter.to !== NO_FILTER.to) query.set("to", String(filter.to));
  for (const type of filter.sourceTypes) query.append("source_type", type);
  for (const type of filter.destTypes) query.append("dest_type", type);
  for (const label of filter.sourceLabels) query.append("source_label", label);
  for (const label of filter.destLabels) query.append("dest_label", label);
  if (filter.sourceMatch === "any") query.set("source_label_match", "any");
  if (filter.destMatch === "any") query.set("dest_label_match", "any");
  for (const each of filter.conditions) query.append("filter", `${each.exclude ? "-" : ""}${each.field}:${each.value}`);
  return query;
}

export function read(path: string, search: string): Place {
  const name = path.replace(/^\/+/, "").split("/")[0] ?? "";
  const query = new URLSearchParams(search);
  const choice: Record<string, string> = {};
  for (const [key, value] of query) if (!RESERVED.has(key)) choice[key] = value;
  return {
    view: VIEWS.find((view) => view === name) ?? "flows",
    filter: {
      from: number(query.get("from"), NO_FILTER.from),
      to: number(query.get("to"), NO_FILTER.to),
      sourceTypes: query.getAll("source_type"),
      destTypes: query.getAll("dest_type"),
      sourceLabels: query.getAll("source_label"),
      destLabels: query.getAll("dest_label"),
      sourceMatch: query.get("source_label_match") === "any" ? "any" : "all",
      destMatch: query.get("dest_label_match") === "any" ? "any" : "all",
      conditions: query.getAll("filter").flatMap((text) => readCondition(text) ?? []),
    },
    choice,
  };
}

export function write(place: Place): string {
  const query = filterQuery(place.filter);
  for (const [key, value] of Object.entries(place.choice)) if (value !== "") query.set(key, value);
  const text = query.toString();
  return `/${place.view}${text === "" ? "" : `?${text}`}`;
}

/** The filter with one more condition; its opposite is taken out. */
export function withCondition(filter: Filter, added: Condition): Filter {
  const others = filter.conditions.filter((each) => each.field !== added.field || each.value !== added.value);
  return { ...filter, conditions: [...others, added] };
}

/** How many conditions other than the time range are in force. */
export function conditionCount(filter: Filter): number {
  return [filter.sourceTypes, filter.destTypes, filter.sourceLabels, filter.destLabels, filter.conditions].reduce((sum, each) => sum + each.length, 0);
}

/** The folded filter bar's line. */
export function summary(filter: Filter): string {
  const list = (values: readonly string[], none: string): string => (values.length ? `[ ${values.join(", ")} ]` : none);
  const labels = (values: readonly string[], match: Match): string =>
    values.length === 0 ? "None" : `[ ${values.join(match === "all" ? " and " : " or ")} ]`;
  const all = TYPES.join(",");
  const end = (value: number): string =>
    value === 0 ? "now" : value < 0 ? ago(-value) : moment(value);
  // On a narrow page only the beginning can be read: what the reader has set comes first.
  const parts = [
    `Time range: [ From: ${end(filter.from)}${filter.to === 0 ? "" : ` To: ${end(filter.to)}`} ]`,
    ...filter.conditions.map((each) => `${each.exclude ? "not " : ""}${each.field}: ${each.value}`),
    `Source type: ${list(filter.sourceTypes, `[ ${all} ]`)}`,
    `Source label selector: ${labels(filter.sourceLabels, filter.sourceMatch)}`,
    `Destination type: ${list(filter.destTypes, `[ ${all} ]`)}`,
    `Destination label selector: ${labels(filter.destLabels, filter.destMatch)}`,
  ];
  return `Filter: ${parts.join(", ")}`;
}

const LONGEST_S = 31 * 86400;

/** What keeps a range from being asked for, in words; null if nothing does. */
export function rangeProblem(from: number, to: number, nowS: number): string | null {
  const at = (value: number): number => (value > 0 ? value : nowS + value);
  const [start, end] = [at(from), at(to)];
  if (start >= end) return "From must come before To.";
  if (start >= nowS) return "The range begins in the future.";
  return end - start > LONGEST_S ? "The range is longer than 31 days." : null;
}

export const UNITS = [["seconds", 1], ["minutes", 60], ["hours", 3600], ["days", 86400]] as const;

/** A number of seconds in the largest unit that holds it whole. */
export function inUnits(seconds: number): { readonly amount: number; readonly unit: number } {
  const unit = [...UNITS].reverse().find(([, each]) => seconds !== 0 && seconds % each === 0)?.[1] ?? 60;
  return { amount: seconds / unit, unit };
}

function ago(seconds: number): string {
  if (seconds % 3600 === 0) return `${seconds / 3600} hour${seconds === 3600 ? "" : "s"} ago`;
  if (seconds % 60 === 0) return `${seconds / 60} minute${seconds === 60 ? "" : "s"} ago`;
  return `${seconds} seconds ago`;
}
