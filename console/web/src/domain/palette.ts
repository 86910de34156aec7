/** Colours of namespaces and names: steady for a set of keys, and far apart for neighbours. */

const HUES = ["#6f3fa6", "#e07b39", "#0e9fb5", "#3f62cf", "#c2378a", "#b8860b", "#7c6fd6", "#8a4b2a", "#2f8f7a", "#d46aa3", "#4f7f93", "#a0522d"] as const;

/** A colour per key, by its place in the sorted keys. */
export function palette(keys: Iterable<string>): (key: string) => string {
  const sorted = [...new Set(keys)].sort();
  const colours = new Map(sorted.map((key, index) => [key, HUES[index % HUES.length] ?? HUES[0]]));
  return (key) => colours.get(key) ?? "#888888";
}
