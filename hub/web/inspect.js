/**
 * The inspect page: channels with their events and states, runs, parked work, processes, connections, the rollout and figures.
 *
 * It reads; a button that changes something stands only where the token has the right to it. The address holds the view:
 * `#view=channels&kind=…&prefix=…`, `#channel=…&event=…&type=…&actor=…&text=…&from=…&to=…`, `#view=runs&in=…&run=…`, `#view=parked`,
 * `#view=processes`, `#view=connections&user=…`, `#view=rollout`, `#view=figures`; and `&tenant=…` where the token reads several.
 *
 * @module inspect
 */

import { Refused, address, claims, keepToken, token, view } from "./inspect_api.js";
import { ChannelView } from "./inspect_channel.js";
import { moreChannels, searched, showChannels } from "./inspect_channels.js";
import { showConnections } from "./inspect_connections.js";
import { showFigures, stopFigures } from "./inspect_figures.js";
import { showParked } from "./inspect_parked.js";
import { showProcesses } from "./inspect_processes.js";
import { showRollout } from "./inspect_rollout.js";
import { showRuns } from "./inspect_runs.js";
import { sentence, showText } from "./safe_text.js";

/** @param {string} id @returns {any} */
const at = (id) => document.getElementById(id);
const channel = new ChannelView(attempt);
/** The views, each in the section of its name. @type {Record<string, (wanted: URLSearchParams) => Promise<unknown>>} */
const VIEWS = {
  channels: showChannels,
  channel: (wanted) => channel.show(wanted),
  runs: (wanted) => showRuns(at("runs-body"), wanted, attempt),
  parked: (wanted) => showParked(at("parked-body"), wanted, attempt),
  processes: () => showProcesses(at("processes-body")),
  connections: (wanted) => showConnections(at("connections-body"), wanted, attempt),
  rollout: (wanted) => showRollout(at("rollout-body"), wanted, attempt),
  figures: (wanted) => showFigures(at("figures-body"), wanted, attempt),
};

/** Run a reading and show its refusal with what to do. @param {() => Promise<unknown>} work */
async function attempt(work) {
  at("problem").hidden = at("retry").hidden = at("other-token").hidden = true;
  try {
    await work();
  } catch (problem) {
    const status = problem instanceof Refused ? problem.status : 0;
    showText(at("problem"), problem instanceof Refused ? sentence(problem.message) : "The hub does not answer. Check that it runs, then try again.");
    at("problem").hidden = false;
    at("sign-in").hidden = status !== 401;
    at("other-token").hidden = status !== 403;
    at("retry").hidden = status === 401 || status === 403;
  }
}

/** Show what the address says. */
async function show() {
  const [wanted, isSignedIn] = [view(), token() !== ""];
  const name = wanted.get("channel") ? "channel" : (wanted.get("view") ?? "channels");
  const shown = name in VIEWS ? name : "channels";
  stopFigures();
  at("sign-in").hidden = isSignedIn;
  at("views").hidden = !isSignedIn;
  for (const one of Object.keys(VIEWS)) at(one).hidden = !isSignedIn || one !== shown;
  for (const one of at("views").querySelectorAll("a[data-view]")) {
    one.href = address({ view: one.dataset.view });
    one.setAttribute("aria-current", one.dataset.view === (shown === "channel" ? "channels" : shown) ? "page" : "false");
  }
  showTenants();
  at("run-channel").value = wanted.get("in") ?? "";
  at("user").value = wanted.get("user") ?? "";
  document.title = `${at(`${shown}-title`).textContent} · Realtime hub`;
  if (!isSignedIn) return at("token").focus();
  await attempt(() => VIEWS[shown](wanted));
}

/** Offer the tenants that the token reads. */
function showTenants() {
  const { tenant = "", tenants = [] } = token() ? claims() : {};
  at("tenants").hidden = tenants.length === 0;
  at("tenant").replaceChildren(...[tenant, ...tenants].map((/** @type {string} */ name) => new Option(name, name)));
  at("tenant").value = view().get("tenant") ?? tenant;
}

/** Show another view. @param {string} to */
function go(to) {
  if (to === location.hash) return void show();
  location.hash = to;
}

/** @param {string} id @param {string} type @param {() => void} act */
function on(id, type, act) {
  at(id).addEventListener(type, (/** @type {Event} */ event) => {
    if (type === "submit") event.preventDefault();
    act();
  });
}

on("sign-in", "submit", () => {
  keepToken(at("token").value.trim());
  at("token").value = "";
  void show();
});
on("search", "submit", () => go(searched()));
on("find-runs", "submit", () => go(address({ view: "runs", in: at("run-channel").value.trim() })));
on("find-user", "submit", () => go(address({ view: "connections", user: at("user").value.trim() })));
on("tenant", "change", () => (location.hash = new URLSearchParams({ ...Object.fromEntries(view()), tenant: at("tenant").value }).toString()));
on("filter", "submit", () => [channel.remember(null), attempt(() => channel.search())]);
on("verify", "click", () => attempt(() => channel.verify()));
on("filter", "input", () => [channel.remember(null), channel.filter(null)]);
on("more", "click", () => attempt(moreChannels));
on("older", "click", () => attempt(() => channel.older()));
on("time", "input", () => channel.choose(Number(at("time").value)));
on("copy", "click", () => attempt(() => navigator.clipboard.writeText(at("raw").textContent)));
on("retry", "click", () => [channel.forget(), show()]);
on("other-token", "click", () => [(at("sign-in").hidden = false), at("token").focus()]);
addEventListener("hashchange", () => void show());
void show();
