/** What the API says of flows, and the states a flow can be in. */

import type { Condition } from "./address";

export type EndpointType = "wep" | "hep" | "ns" | "net";

export type Status = "allowed" | "denied" | "denied_by_destination" | "leak" | "unanswered" | "unknown";

export interface End {
  readonly namespace: string;
  readonly name: string;
  readonly type: EndpointType;
}

/** One flow: all connections of a source and a destination over one protocol and port, in one state, in the range. */
export interface Flow {
  readonly source: End;
  readonly dest: End;
  readonly proto: string;
  readonly dest_port: number | null;
  readonly service: string | null;
  readonly status: Status;
  readonly connections: number;
  readonly packets: number;
  readonly bytes: number;
}

export type Measure = "connections" | "packets" | "bytes";

export interface StatusWords {
  readonly label: string;
  readonly about: string;
  readonly blocked: boolean;
}

export const STATUSES: Readonly<Record<Status, StatusWords>> = {
  allowed: { label: "Allowed", about: "Allowed on every side that was judged, and answered.", blocked: false },
  unanswered: { label: "Allowed, unanswered", about: "Allowed by policy, and yet nothing came back.", blocked: false },
  denied: { label: "Denied", about: "Denied by the source's policies, or by a destination whose source is not ours.", blocked: true },
  denied_by_destination: {
    label: "Denied by destination",
    about: "The source may send; the destination's policies deny.",
    blocked: true,
  },
  leak: { label: "Leak", about: "Denied by policy, and yet a packet arrived or was answered: not enforced.", blocked: true },
  unknown: { label: "Unknown", about: "No packet in the range could tell.", blocked: false },
};

export const STATUS_ORDER = Object.keys(STATUSES) as readonly Status[];

/** Whether a chosen status takes in a flow's: "denied" takes in what its destination denied. */
export function statusMatches(chosen: string, status: Status): boolean {
  return chosen === status || (chosen === "denied" && status === "denied_by_destination");
}

/** `namespace:name`, as the product's own table has it; `-` stands for no namespace. */
export function nameKey(end: Pick<End, "namespace" | "name">): string {
  return `${end.namespace}:${end.name}`;
}

/** The namespace in a name's key. */
export function namespaceOf(key: string): string {
  return key.slice(0, key.indexOf(":"));
}

export function flowKey(flow: Flow): string {
  return [nameKey(flow.source), nameKey(flow.dest), flow.proto, flow.dest_port ?? "-", flow.status].join("|");
}

export function flowTitle(flow: Flow): string {
  const port = flow.dest_port === null ? flow.proto : `${flow.proto}/${flow.dest_port}`;
  return `${nameKey(flow.source)} → ${nameKey(flow.dest)} ${port}`;
}

/** The conditions on flow logs that a flow of the drawing stands for. */
export function conditionsOf(flow: Flow | FollowedFlow): readonly Condition[] {
  const all: readonly (readonly [string, string | number | null])[] = [
    ["source_namespace", flow.source.namespace],
    ["source_name_aggr", flow.source.name],
    ["dest_namespace", flow.dest.namespace],
    ["dest_name_aggr", flow.dest.name],
    ["proto", flow.proto],
    ["dest_port", flow.dest_port],
  ];
  return all.flatMap(([field, value]) => (value === null ? [] : [{ field, value: String(value), exclude: false }]));
}

export interface FollowedFlow {
  readonly source: { readonly namespace: string; readonly name: string };
  readonly dest: { readonly namespace: string; readonly name: string };
  readonly proto: string;
  readonly dest_port: number | null;
  readonly status: Status;
}

/** What a flow's key says, so that a link can follow a flow without asking for all of them; null if it is no key. */
export function readFlowKey(key: string): FollowedFlow | null {
  const [source, dest, proto, port, status] = key.split("|");
  const known = STATUS_ORDER.find((each) => each === status);
  if (source === undefined || dest === undefined || proto === undefined || port === undefined || known === undefined) return null;
  const end = (text: string): FollowedFlow["source"] => ({ namespace: namespaceOf(text), name: text.slice(text.indexOf(":") + 1) });
  return { source: end(source), dest: end(dest), proto, dest_port: port === "-" ? null : Number(port), status: known };
}
