/** What the views share: an answer with its states, the size of an element, a movement between two layouts. */

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, get } from "../api/client";
import type { Rings } from "../domain/rings";
import { between } from "../domain/rings";

export interface Answer<T> {
  readonly data: T | null;
  readonly error: ApiError | null;
  readonly loading: boolean;
}

/** Ask whenever path, query or `tick` changes; the last answer stays while the next is on its way. */
export function useAnswer<T>(path: string | null, query: string, tick: number): Answer<T> {
  const [answer, setAnswer] = useState<Answer<T> & { key: string }>({ data: null, error: null, loading: path !== null, key: "" });
  const key = `${path}?${query}`;
  useEffect(() => {
    if (path === null) return;
    const control = new AbortController();
    setAnswer((last) => (last.key.startsWith(`${path}?`) ? { ...last, loading: true } : { data: null, error: null, loading: true, key }));
    get<T>(path, new URLSearchParams(query), control.signal).then(
      (data) => setAnswer({ data, error: null, loading: false, key }),
      (error: unknown) => {
        if (control.signal.aborted) return;
        const known = error instanceof ApiError ? error : new ApiError(0, String(error));
        setAnswer((last) => ({ data: last.data, error: known, loading: false, key }));
      },
    );
    return () => control.abort();
  }, [key, tick]);
  return path === null ? { data: null, error: null, loading: false } : answer;
}

const MOVE_MS = 450;
/** Above this many flows a layout is drawn at once: moving it would cost more than it tells. */
const MOST_MOVED = 300;

/** The layout to draw now on the way to `target`; readers who ask for less motion get it at once. */
export function useMove(target: Rings): Rings {
  const [drawn, setDrawn] = useState(target);
  const shown = useRef(target);
  useEffect(() => {
    const from = shown.current;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches || target.chords.length > MOST_MOVED;
    if (still || from === target) {
      shown.current = target;
      setDrawn(target);
      return;
    }
    const began = performance.now();
    let frame = 0;
    const step = (now: number): void => {
      const t = Math.min(1, (now - began) / MOVE_MS);
      shown.current = t === 1 ? target : between(from, target, 1 - (1 - t) ** 3);
      setDrawn(shown.current);
      if (t < 1) frame = requestAnimationFrame(step);
    };
    frame = requestAnimationFrame(step);
    return () => cancelAnimationFrame(frame);
  }, [target]);
  return drawn;
}
