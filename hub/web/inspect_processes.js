/** The view of the nodes and workers that run now. @module inspect_processes */

import { address, read } from "./inspect_api.js";
import { link, note, refresher, table, timeText } from "./inspect_parts.js";
import { textElement } from "./safe_text.js";

/** @param {HTMLElement} place */
export async function showProcesses(place) {
  const { answered_by, nodes, workers } = await read("processes");
  const nodeRows = nodes.map((/** @type {any} */ one) => [
    one.node + (one.node === answered_by ? " (this one)" : ""),
    timeText(one.lease_ends),
    one.node === answered_by ? link("Connections", address({ view: "connections" })) : "asked at its own address",
  ]);
  const workerRows = workers.map((/** @type {any} */ one) => [one.worker, String(one.partitions), one.agents.join(", ") || "none", timeText(one.lease_ends)]);
  place.replaceChildren(
    textElement("h3", "", "Nodes"),
    table("Nodes", ["Node", "Lease ends", "Connections"], nodeRows),
    textElement("h3", "", "Workers"),
    workerRows.length
      ? table("Workers", ["Worker", "Partitions", "Agents", "Lease ends"], workerRows)
      : note("No worker runs: agents do not answer. Start one with hub worker.", "note warn"),
    refresher(),
  );
}
