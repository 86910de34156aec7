/** Loading, empty, error and stale, in words that say what to do. */

import type { ComponentChildren, VNode } from "preact";
import type { ApiError, Range } from "../api/client";
import { span } from "../domain/format";

export function Loading({ what }: { what: string }): VNode {
  return <p class="state loading" role="status"><span class="spinner" aria-hidden="true" /> Loading {what} …</p>;
}

export function Empty({ children }: { children: ComponentChildren }): VNode {
  return <div class="state empty" role="status">{children}</div>;
}

/** No flow log to show, and what to do about it. */
export function Nothing({ what, newestS, conditions }: { what: string; newestS: number | null; conditions: number }): VNode {
  return (
    <Empty>
      <h2>{newestS === null ? "No flow logs are stored yet" : `No ${what} in this range`}</h2>
      <p>{newestS === null ? "The first come when the first window closes, within a minute of the start. If none come, see whether collector, stream and sink run." : conditions > 0 ? "Take a condition out of the filter, or widen its time range." : "Widen the time range."}</p>
    </Empty>
  );
}

export function Fault({ error }: { error: ApiError }): VNode {
  return (
    <div class="state fault" role="alert">
      <strong>{error.status === 401 ? "This session has ended." : "That didn't work."}</strong> {error.message}
      {error.status === 401 ? <> The file <code>console.url</code> in the state folder holds a fresh address; so does a restart of <code>tierflow console</code>.</> : null}
    </div>
  );
}

/** Said where rates are over less than the range that was asked for. */
export function Covered({ range, coveredS }: { range: Range; coveredS: number }): VNode | null {
  return coveredS >= (range.to_s - range.from_s) * 0.9 ? null : <span class="soft covered" title="Rates are over what is stored of the chosen range">over the {span(coveredS)} stored</span>;
}

const STALE_S = 120;

/** Shown when the newest flow log is old although the range reaches to now. */
export function Stale({ newestS, toS }: { newestS: number | null; toS: number }): VNode | null {
  if (newestS === null || toS - newestS < STALE_S || Date.now() / 1000 - toS > STALE_S) return null;
  return (
    <p class="stale" role="status">
      <strong>Not up to date.</strong> The newest flow log is {span(toS - newestS)} old. See whether collector, stream and sink still run.
    </p>
  );
}
