/** Colours of namespaces and names: steady for a set of keys, and far apart for neighbours. */

const HUES = ["#6f3fa6", "#e8623a", "#0e9fb5", "#5a9e2f", "#c2378a", "#3f62cf", "#b8860b", "#13a37f", "#8a4b2a", "#7c6fd6", "#d1495b", "#4f7f93"] as const;

/** A colour per key, by its place in the sorted keys. */
export function palette(keys: Iterable<string>): (key: string) => string {
  const sorted = [...new Set(keys)].sort();
  const colours = new Map(sorted.map((key, index) => [key, HUES[index % HUES.length] ?? HUES[0]]));
  return (key) => colours.get(key) ?? "#888888";
}
