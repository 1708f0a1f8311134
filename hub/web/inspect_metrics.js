/** Reads the text of /metrics: sums of families, and quantiles of a histogram between two readings. Pure. @module inspect_metrics */

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LATENCY = "hub_publish_to_deliver_seconds_bucket";

/** @typedef {{at: number, sums: Map<string, number>, buckets: Map<number, number>}} Reading `buckets`: limit in seconds → batches up to it */

/** @param {string} text @param {number} at milliseconds @returns {Reading} */
export function readingOf(text, at) {
  /** @type {Reading} */ const reading = { at, sums: new Map(), buckets: new Map() };
  for (const line of text.split("\n")) {
    const found = SAMPLE.exec(line);
    if (!found) continue;
    const [, name, labels = "", value] = found;
    if (name === LATENCY) {
      const limit = /le="([^"]+)"/.exec(labels)?.[1] ?? "+Inf";
      add(reading.buckets, limit === "+Inf" ? Infinity : Number(limit), Number(value));
    } else add(reading.sums, name, Number(value));
  }
  return reading;
}

/** The increase a second. @param {Reading} before @param {Reading} now @param {string} name */
export function rate(before, now, name) {
  return (Math.max(0, (now.sums.get(name) ?? 0) - (before.sums.get(name) ?? 0)) * 1000) / Math.max(1, now.at - before.at);
}

/** A quantile of the time from store to socket in milliseconds; null if nothing was delivered. @param {Reading} before @param {Reading} now @param {number} part */
export function latencyMs(before, now, part) {
  const limits = [...now.buckets.keys()].sort((one, other) => one - other);
  const counts = limits.map((limit) => (now.buckets.get(limit) ?? 0) - (before.buckets.get(limit) ?? 0));
  const total = counts.at(-1) ?? 0;
  if (total <= 0) return null;
  const at = counts.findIndex((count) => count >= part * total);
  const [low, below] = at > 0 ? [limits[at - 1], counts[at - 1]] : [0, 0];
  if (limits[at] === Infinity) return low * 1000;
  return (low + (limits[at] - low) * ((part * total - below) / (counts[at] - below))) * 1000;
}

/** @template K @param {Map<K, number>} map @param {K} name @param {number} value */
function add(map, name, value) {
  map.set(name, (map.get(name) ?? 0) + value);
}
