/** Numbers and times as text. */

const UNITS: readonly (readonly [number, string])[] = [
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];

/** Three significant digits with a decimal suffix, `0` for nothing: 12345 is `12.3k`, 0.00123 is `0.001`. */
export function rate(value: number): string {
  if (!Number.isFinite(value) || value === 0) return "0";
  const [scale, suffix] = UNITS.find(([least]) => Math.abs(value) >= least * 0.9995) ?? [1, ""];
  const scaled = value / scale;
  if (Math.abs(scaled) < 0.0005) return "<0.001";
  const digits = Math.abs(scaled) >= 99.95 ? 0 : Math.abs(scaled) >= 9.995 ? 1 : Math.abs(scaled) >= 0.9995 ? 2 : 3;
  return scaled.toFixed(digits) + suffix;
}

export function count(value: number): string {
  return value.toLocaleString("en-US");
}

/** `1 flow`, `1,200 flows`. */
export function counted(value: number, thing: string): string {
  return `${count(value)} ${thing}${value === 1 ? "" : "s"}`;
}

/** `2026-01-31 12:00:05` in the reader's own time zone. */
export function moment(seconds: number): string {
  const at = new Date(seconds * 1000);
  const two = (part: number): string => String(part).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return `${day} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** `45 s`, `15 minutes`, `3 hours` from a number of seconds. */
export function span(seconds: number): string {
  const say = (value: number, unit: string): string => `${value} ${unit}${value === 1 ? "" : "s"}`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return say(Math.round(seconds / 60), "minute");
  if (seconds < 172800) return say(Math.round(seconds / 360) / 10, "hour");
  return say(Math.round(seconds / 8640) / 10, "day");
}

/** `12:00:05` in the reader's own time zone. */
export function timeOfDay(seconds: number): string {
  return moment(seconds).slice(11);
}

/** Which of a range's buckets lie wholly in what is stored, the last not included: others would show nought, or a part,
 * falsely. At least two of them, which a line takes. */
export function storedBuckets(range: { readonly from_s: number; readonly to_s: number }, newestS: number | null, coveredS: number, buckets: number): readonly [number, number] {
  if (newestS === null) return [0, buckets];
  const width = (range.to_s - range.from_s) / buckets;
  const until = Math.min(newestS, range.to_s);
  const end = Math.max(2, Math.min(buckets, Math.floor((until - range.from_s) / width)));
  return [Math.max(0, Math.min(end - 2, Math.ceil((until - coveredS - range.from_s) / width))), end];
}
