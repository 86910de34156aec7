/** Values that a field has in the range, to suggest while the reader types. */

import type { VNode } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { FacetAnswer } from "../api/client";
import type { Filter } from "../domain/address";
import { filterQuery, NO_FILTER } from "../domain/address";
import { counted } from "../domain/format";
import { useAnswer } from "./hooks";

export type Facet = FacetAnswer["values"][number];

const SETTLE_MS = 200;

/** The most frequent values of a field in the range, those alone that begin with what has been typed. */
export function useFacets(field: string, filter: Filter, typed: string): readonly Facet[] {
  const [prefix, setPrefix] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => setPrefix(typed.trim().replace(/\*$/, "")), SETTLE_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  const query = filterQuery({ ...NO_FILTER, from: filter.from, to: filter.to });
  query.set("field", field);
  if (prefix !== "") query.set("prefix", prefix);
  return useAnswer<FacetAnswer>("facets", query.toString(), 0).data?.values ?? [];
}

export function Suggestions({ id, values }: { id: string; values: readonly Facet[] }): VNode {
  return <datalist id={id}>{values.map((each) => <option key={each.value} value={each.value}>{counted(each.logs, "flow log")}</option>)}</datalist>;
}
