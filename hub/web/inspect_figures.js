/** The view of throughput and latency: plots of this node's /metrics, read every two seconds while they are shown. @module inspect_figures */

import { Refused } from "./inspect_api.js";
import { latencyMs, rate, readingOf } from "./inspect_metrics.js";
import { note } from "./inspect_parts.js";
import { textElement } from "./safe_text.js";

/** @typedef {import("./inspect_metrics.js").Reading} Reading */
/** @typedef {{name: string, values: (number|null)[]}} Line */

const EVERY_MS = 2_000;
const KEPT = 60; // points: two minutes
const SIZE = { width: 480, height: 120 };
const NS = "http://www.w3.org/2000/svg";
/** @type {{title: string, unit: string, lines: [string, (before: Reading, now: Reading) => number|null][]}[]} */
const PLOTS = [
  { title: "Events a second", unit: "/s", lines: [
    ["appended", (before, now) => rate(before, now, "hub_events_appended_total")],
    ["delivered", (before, now) => rate(before, now, "hub_events_delivered_total")],
  ] },
  { title: "From store to socket", unit: " ms", lines: [
    ["half within", (before, now) => latencyMs(before, now, 0.5)],
    ["99 % within", (before, now) => latencyMs(before, now, 0.99)],
  ] },
  { title: "Commands and errors a second", unit: "/s", lines: [
    ["commands", (before, now) => rate(before, now, "hub_commands_total")],
    ["errors", (before, now) => rate(before, now, "hub_errors_total")],
  ] },
  { title: "Open now", unit: "", lines: [
    ["connections", (_, now) => now.sums.get("hub_connections") ?? 0],
    ["channels", (_, now) => now.sums.get("hub_channels") ?? 0],
  ] },
]; // prettier-ignore

let metricsToken = ""; // in the page only; it is not the tab's token
/** @type {Reading[]} */ let readings = [];
/** @type {any} */ let timer = 0;

/** @param {HTMLElement} place @param {URLSearchParams} _wanted @param {(work: () => Promise<unknown>) => Promise<void>} attempt */
export async function showFigures(place, _wanted, attempt) {
  stopFigures();
  await tick(place);
  timer = setInterval(() => attempt(() => tick(place)), EVERY_MS);
}

/** Stop reading. */
export function stopFigures() {
  clearInterval(timer);
}

/** @param {HTMLElement} place */
async function tick(place) {
  const url = new URL("../metrics", location.href.split("#")[0]);
  const answer = await fetch(url, { headers: metricsToken ? { Authorization: `Bearer ${metricsToken}` } : {} });
  if (answer.status === 401) return ask(place);
  if (!answer.ok) throw new Refused(answer.status, `The metrics cannot be read now (${answer.status}). They are read again in two seconds.`);
  readings = [...readings, readingOf(await answer.text(), performance.now())].slice(-KEPT - 1);
  place.replaceChildren(
    note("Of this node and the processes that share its port, for the last two minutes. For workers and other nodes use hub top --url."),
    ...PLOTS.map((plot) => {
      const lines = plot.lines.map(([name, of]) => ({ name, values: readings.slice(1).map((now, index) => of(readings[index], now)) }));
      return figure(plot.title, plot.unit, lines);
    }),
  );
}

/** @param {HTMLElement} place */
function ask(place) {
  stopFigures();
  const form = document.createElement("form");
  const label = textElement("label", "", "Metrics token");
  const field = Object.assign(document.createElement("input"), { type: "password", autocomplete: "off", id: "metrics-token" });
  /** @type {HTMLLabelElement} */ (label).htmlFor = field.id;
  const submit = Object.assign(document.createElement("button"), { className: "primary", textContent: "Show the figures" });
  form.className = "toolbar";
  form.append(label, field, submit);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    metricsToken = field.value.trim();
    dispatchEvent(new Event("hashchange"));
  });
  place.replaceChildren(note("This hub shows its metrics to those who have the token of HUB_METRICS_TOKEN. It stays in this page."), form);
}

/** @param {string} title @param {string} unit @param {Line[]} lines */
function figure(title, unit, lines) {
  const highest = Math.max(1, ...lines.flatMap(({ values }) => values.filter((value) => value !== null)));
  const made = document.createElement("figure");
  const svg = document.createElementNS(NS, "svg");
  svg.setAttribute("viewBox", `0 0 ${SIZE.width} ${SIZE.height}`);
  svg.setAttribute("class", "plot");
  svg.setAttribute("role", "img");
  lines.forEach((line, index) => {
    for (const points of stretches(line.values, highest)) {
      const path = document.createElementNS(NS, "polyline");
      path.setAttribute("points", points);
      path.setAttribute("class", `line-${index}`);
      svg.append(path);
    }
  });
  const now = lines.map(({ name, values }) => `${name} ${shown(values.at(-1) ?? null, unit)}`);
  svg.setAttribute("aria-label", `${title}: ${now.join(", ")}; highest ${shown(highest, unit)}`);
  const caption = document.createElement("figcaption");
  caption.append(textElement("strong", "", title), ...now.map((text, index) => textElement("span", `key key-${index}`, text)), textElement("span", "note", `scale to ${shown(highest, unit)}`));
  made.append(caption, svg);
  return made;
}

/** The points of a line, in pieces where there is no value. @param {(number|null)[]} values @param {number} highest */
function stretches(values, highest) {
  /** @type {string[][]} */ const pieces = [[]];
  values.forEach((value, index) => {
    if (value === null) return void (pieces.at(-1)?.length && pieces.push([]));
    const x = SIZE.width - (values.length - 1 - index) * (SIZE.width / (KEPT - 1));
    pieces.at(-1)?.push(`${x.toFixed(1)},${(SIZE.height - 2 - (value / highest) * (SIZE.height - 4)).toFixed(1)}`);
  });
  return pieces.filter((piece) => piece.length).map((piece) => (piece.length === 1 ? [piece[0], `${Number(piece[0].split(",")[0]) - 3},${piece[0].split(",")[1]}`] : piece).join(" "));
}

/** @param {number|null} value @param {string} unit */
const shown = (value, unit) => (value === null ? "–" : `${value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 })}${unit}`);
