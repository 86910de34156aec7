/** The traffic table beside the rings: rates per source and its destinations, denied and allowed apart. */

import type { Flow, Status } from "./flow";
import { nameKey, STATUSES } from "./flow";

export interface Row {
  readonly key: string;
  readonly namespace: string;
  readonly cps: number;
  readonly pps: number;
  readonly bps: number;
  /** The worst states of the flows behind the row, for its marks. */
  readonly statuses: readonly Status[];
}

export interface SourceRow extends Row {
  readonly dests: readonly Row[];
}

export interface Block {
  readonly title: string;
  readonly blocked: boolean;
  readonly sources: readonly SourceRow[];
}

export type Level = "namespace" | "name";

interface Sum {
  key: string;
  namespace: string;
  connections: number;
  packets: number;
  bytes: number;
  statuses: Set<Status>;
  dests: Map<string, Sum>;
}

/** Sum flows into blocks; a source's row is the sum of its destinations'. Blocks without rows are left out. */
export function tabulate(flows: readonly Flow[], rangeS: number, level: Level): readonly Block[] {
  const seconds = Math.max(1, rangeS);
  const block = (title: string, blocked: boolean): Block => {
    const sources = new Map<string, Sum>();
    for (const flow of flows) {
      if (STATUSES[flow.status].blocked !== blocked) continue;
      const of = (end: Flow["source"]): string => (level === "name" ? nameKey(end) : end.namespace);
      const source = add(sources, of(flow.source), flow.source.namespace, flow);
      add(source.dests, of(flow.dest), flow.dest.namespace, flow);
    }
    return { title, blocked, sources: [...sources.values()].sort(byKey).map((sum) => withDests(sum, seconds)) };
  };
  return [block("Denied Traffic", true), block("Allowed Traffic", false)].filter((each) => each.sources.length > 0);
}

function add(into: Map<string, Sum>, key: string, namespace: string, flow: Flow): Sum {
  let sum = into.get(key);
  if (sum === undefined) {
    sum = { key, namespace, connections: 0, packets: 0, bytes: 0, statuses: new Set(), dests: new Map() };
    into.set(key, sum);
  }
  sum.connections += flow.connections;
  sum.packets += flow.packets;
  sum.bytes += flow.bytes;
  sum.statuses.add(flow.status);
  return sum;
}

function byKey(a: Sum, b: Sum): number {
  return a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
}

function row(sum: Sum, seconds: number): Row {
  return {
    key: sum.key,
    namespace: sum.namespace,
    cps: sum.connections / seconds,
    pps: sum.packets / seconds,
    bps: sum.bytes / seconds,
    statuses: [...sum.statuses].sort(),
  };
}

function withDests(sum: Sum, seconds: number): SourceRow {
  return { ...row(sum, seconds), dests: [...sum.dests.values()].sort(byKey).map((each) => row(each, seconds)) };
}

/** How many lines the blocks take: a source is one, each of its destinations another. */
export function lines(blocks: readonly Block[]): number {
  return blocks.reduce((sum, block) => sum + block.sources.reduce((inner, source) => inner + 1 + source.dests.length, 0), 0);
}

/** The blocks up to a number of lines; every block keeps its beginning, so that what is denied doesn't hide what isn't. */
export function firstLines(blocks: readonly Block[], most: number): readonly Block[] {
  const each = Math.ceil(most / Math.max(1, blocks.length));
  return blocks.map((block) => {
    let left = Math.max(each, most - lines(blocks.filter((other) => other !== block)));
    const sources = block.sources.flatMap((source) => {
      if (left <= 0) return [];
      const dests = source.dests.slice(0, Math.max(1, left - 1));
      left -= 1 + dests.length;
      return [{ ...source, dests }];
    });
    return { ...block, sources };
  });
}
