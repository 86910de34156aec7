/** What the views share: an answer with its states, an element's size, a value watched by few, a movement of the rings. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ApiError, get } from "../api/client";
import type { Rings } from "../domain/rings";
import { between } from "../domain/rings";
import { MOST_SHAPES } from "../marks/rings";

export interface Answer<T> {
  readonly data: T | null;
  readonly error: ApiError | null;
  readonly loading: boolean;
}

/** Ask whenever path, query or `tick` changes; the last answer stays while the next is on its way, and where the same
 * question isn't answered again. A refused question never stands over the answer to another one. */
export function useAnswer<T>(path: string | null, query: string, tick: number): Answer<T> {
  // `key` is the question that `data` answers.
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
        setAnswer((last) => ({ data: last.key === key ? last.data : null, error: known, loading: false, key }));
      },
    );
    return () => control.abort();
  }, [key, tick]);
  return path === null ? { data: null, error: null, loading: false } : answer;
}

/** The size of an element in whole pixels, 0 by 0 before it stands on the page. */
export function useSize<E extends HTMLElement>(): readonly [{ current: E | null }, { readonly width: number; readonly height: number }] {
  const ref = useRef<E | null>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  useLayoutEffect(() => {
    const element = ref.current;
    if (element === null) return;
    const read = (): void => {
      const [width, height] = [element.clientWidth, element.clientHeight];
      setSize((last) => (last.width === width && last.height === height ? last : { width, height }));
    };
    read();
    const observer = new ResizeObserver(read);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  return [ref, size];
}

/** A value that changes often: only what watches it is drawn again, never the whole view. */
export class Watched<T> {
  private readonly watchers = new Set<() => void>();

  constructor(private held: T) {}

  get(): T {
    return this.held;
  }

  set(next: T): void {
    if (next === this.held) return;
    this.held = next;
    for (const each of this.watchers) each();
  }

  watch(watcher: () => void): () => void {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  }
}

export function useWatched<T>(watched: Watched<T>): T {
  const [value, setValue] = useState(watched.get());
  useEffect(() => {
    const read = (): void => setValue(() => watched.get());
    read();
    return watched.watch(read);
  }, [watched]);
  return value;
}

const MOVE_MS = 450;

/** The layout to draw now on the way to `target`. Readers who ask for less motion get it at once, and so does everyone
 * above the number of flows whose movement would cost more than it tells. */
export function useMove(target: Rings): Rings {
  const [drawn, setDrawn] = useState(target);
  const shown = useRef(target);
  const still = target.chords.length > MOST_SHAPES || matchMedia("(prefers-reduced-motion: reduce)").matches;
  useEffect(() => {
    const from = shown.current;
    if (still || from === target) {
      shown.current = target;
      setDrawn(target);
      return;
    }
    const began = performance.now();
    let frame = 0;
    const step = (now: number): void => {
      const t = Math.max(0, Math.min(1, (now - began) / MOVE_MS));
      shown.current = t === 1 ? target : between(from, target, 1 - (1 - t) ** 3);
      setDrawn(shown.current);
      if (t < 1) frame = requestAnimationFrame(step);
    };
    frame = requestAnimationFrame(step);
    return () => cancelAnimationFrame(frame);
  }, [target, still]);
  return still ? target : drawn;
}
