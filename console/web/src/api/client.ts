/** The console's own API: typed answers, errors in words, live updates. */

import type { Flow } from "../domain/flow";

export interface Range {
  readonly from_s: number;
  readonly to_s: number;
}

export interface FlowsAnswer {
  readonly range: Range;
  /** How much of the range is stored: what rates are over. */
  readonly covered_s: number;
  readonly flows: readonly Flow[];
  readonly smaller: { readonly flows: number; readonly connections: number; readonly packets: number; readonly bytes: number };
  readonly newest_s: number | null;
}

export interface PairOfRates {
  readonly in: number;
  readonly out: number;
}

export interface Rates {
  readonly connections: PairOfRates;
  readonly allowed: Traffic;
  readonly denied: Traffic;
  readonly passed: Traffic;
}

export interface Traffic {
  readonly packets: PairOfRates;
  readonly bytes: PairOfRates;
}

export interface Tile {
  readonly id: string;
  readonly name: string;
  readonly namespace: string | null;
  readonly kind: string;
  readonly staged: boolean;
  readonly order: number | null;
  readonly selector: string;
  readonly endpoints: number | null;
  readonly rates: Rates;
  readonly spark: readonly number[];
}

export interface BoardTier {
  readonly name: string;
  readonly order: number | null;
  readonly default_action: string;
  readonly policies: readonly Tile[];
}

export interface BoardAnswer {
  readonly range: Range;
  readonly covered_s: number;
  readonly tiers: readonly BoardTier[];
  readonly no_policy: { readonly connections: number; readonly packets: number; readonly bytes: number };
  readonly newest_s: number | null;
}

export interface RuleAnswer {
  readonly index: number;
  readonly action: string;
  readonly sentence: readonly { readonly text: string; readonly strong: boolean }[];
  readonly endpoints: { readonly in: number | null; readonly out: number | null };
  readonly rates: Rates;
  readonly last_evaluated_s: number | null;
}

export interface DenialAnswer {
  readonly direction: "ingress" | "egress";
  readonly rule_index: number;
  readonly source: string;
  readonly dest: string;
  readonly packets: number;
  readonly connections: number;
  readonly filter: readonly string[];
}

export interface PolicyAnswer {
  readonly range: Range;
  readonly covered_s: number;
  readonly id: string;
  readonly name: string;
  readonly namespace: string | null;
  readonly tier: string;
  readonly kind: string;
  readonly staged: boolean;
  readonly order: number | null;
  readonly selector: string;
  readonly ingress: readonly RuleAnswer[];
  readonly egress: readonly RuleAnswer[];
  readonly denials: readonly DenialAnswer[];
  readonly selected: readonly { readonly namespace: string; readonly name: string; readonly type: string }[];
  readonly last_evaluated_s: number | null;
  readonly newest_s: number | null;
  readonly yaml: string;
}

export interface EndpointAnswer {
  readonly endpoints: number;
  readonly labels: readonly string[];
  readonly policies: readonly { readonly id: string; readonly name: string; readonly tier: string; readonly staged: boolean; readonly directions: readonly string[] }[];
}

export interface LossesAnswer {
  readonly losses: readonly { readonly host: string; readonly reason: string; readonly losses: number; readonly uncounted: number; readonly records: number; readonly packets: number; readonly start_s: number; readonly end_s: number }[];
}

export interface FacetAnswer {
  readonly field: string;
  readonly values: readonly { readonly value: string; readonly logs: number }[];
}

export interface HitAnswer {
  readonly tier: string;
  readonly policy: string;
  readonly id: string | null;
  readonly action: string;
  readonly rule_index: number;
  readonly staged: boolean;
  readonly words: string;
}

export interface ExplainAnswer {
  readonly sides: readonly {
    readonly reporter: string;
    readonly direction: "egress" | "ingress";
    readonly action: string;
    readonly evidence: string;
    readonly derived: boolean;
    readonly hits: readonly HitAnswer[];
    readonly pending: readonly HitAnswer[];
  }[];
  readonly words: string;
  readonly policies: number;
}

export type LogValue = string | number | boolean | null | readonly (string | number)[];
export type FlowLog = Readonly<Record<string, LogValue>>;

export interface LogsAnswer {
  readonly range: Range;
  readonly logs: readonly FlowLog[];
  readonly cursor: string | null;
  readonly total: number | null;
  readonly newest_s: number | null;
}

export interface FieldAnswer {
  readonly name: string;
  readonly type: string;
  readonly about: string;
  readonly collected: boolean;
}

/** What went wrong, in words for the reader; `status` 0 is a server that can't be reached. */
export class ApiError extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

export async function get<T>(path: string, query: URLSearchParams, signal: AbortSignal): Promise<T> {
  const text = query.toString();
  let response: Response;
  try {
    response = await fetch(`/api/v1/${path}${text === "" ? "" : `?${text}`}`, { signal, headers: { accept: "application/json" } });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError(0, "The console's server can't be reached. Is `tierflow console` still running?");
  }
  const body: unknown = await response.json().catch(() => null);
  if (!response.ok) throw new ApiError(response.status, problem(body) ?? `The server answered ${response.status}.`);
  return body as T;
}

function problem(body: unknown): string | null {
  if (typeof body !== "object" || body === null || !("detail" in body)) return null;
  return typeof body.detail === "string" ? body.detail : null;
}

const AGAIN_MS = 5000;

/**
 * Call back whenever newer flow logs are stored than when it was called, and whenever the server answers again or refuses,
 * so that the view asks anew and says what it is told; returns what ends it.
 */
export function live(onNewer: () => void, onState: (connected: boolean) => void): () => void {
  let known: string | null = null;
  let lost = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let events: EventSource;
  const open = (): void => {
    events = new EventSource("/api/v1/live");
    events.addEventListener("newest", (event: MessageEvent<string>) => {
      // The first event says what the page has just asked for.
      if (known !== null && event.data !== known) onNewer();
      known = event.data;
    });
    events.onopen = () => {
      onState(true);
      if (lost) onNewer();
      lost = false;
    };
    events.onerror = () => {
      onState(false);
      const refused = events.readyState === EventSource.CLOSED;
      if (refused && !lost) onNewer();
      lost = true;
      // A browser tries again by itself when a connection breaks, but not when the server refuses.
      if (refused) timer = setTimeout(open, AGAIN_MS);
    };
  };
  open();
  return () => {
    clearTimeout(timer);
    events.close();
  };
}
