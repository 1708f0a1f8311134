/** The story of runs, read from the events of their channel. Pure. @module inspect_run_story */

import { timeOfId } from "./inspect_parts.js";

/** @typedef {{id: string, at: number, title: string, text: string, tone: ""|"good"|"warn"|"bad"}} Step */
/** @typedef {{state: string, from: number, to: number|null, segment: number, attempt: number}} Stretch A time that the run spent in one state; `to` is null for now. */
/** @typedef {{run: string, agent: string, state: string, began: number, ended: number|null, segment: number, attempt: number,
 *    steps: Step[], stretches: Stretch[], open: any[], message: string|null, cause: string|null}} Run */

/** The states in which a run has ended. */
export const ENDED = ["completed", "failed", "cancelled", "expired"];

/** The types of events that tell of runs. */
export const TYPES = "agent.status,agent.complete,agent.steer,agent.cancel,chat.cancel,tool.call.*,assistant.message.*,message.status";

/** The runs that these events tell of, newest first. @param {any[]} events of a channel, oldest first @returns {Run[]} */
export function runsOf(events) {
  /** @type {Map<string, Run>} */ const runs = new Map();
  /** @type {Map<string, string>} */ const ofCall = new Map(); // tool call or request → run
  for (const event of events) {
    const { payload } = event;
    const id = payload.run_id ?? ofCall.get(payload.request_id) ?? ofCall.get(payload.tool_call_id);
    if (!id) continue;
    for (const name of [payload.request_id, payload.tool_call_id]) if (name) ofCall.set(name, id);
    const run = runs.get(id) ?? begun(id, event);
    runs.set(id, run);
    fold(run, event);
  }
  return [...runs.values()].reverse();
}

/** @param {string} run @param {any} event @returns {Run} */
function begun(run, event) {
  return {
    run, agent: event.payload.agent ?? event.actor.id, state: "", began: timeOfId(event.id), ended: null, segment: 1, attempt: 1,
    steps: [], stretches: [], open: [], message: null, cause: event.meta?.causation ?? null,
  }; // prettier-ignore
}

/** @param {Run} run @param {any} event */
function fold(run, event) {
  const { type, payload, actor } = event;
  const at = timeOfId(event.id);
  const add = (/** @type {string} */ title, text = "", /** @type {Step["tone"]} */ tone = "") => run.steps.push({ id: event.id, at, title, text, tone });
  if (type === "agent.status") {
    const { state, segment, attempt, reason = "", step } = payload;
    if (run.stretches.length) run.stretches[run.stretches.length - 1].to = at;
    run.stretches.push({ state, segment, attempt, from: at, to: ENDED.includes(state) ? at : null });
    Object.assign(run, { state, segment, attempt, agent: payload.agent });
    return add(`${state} · segment ${segment}, attempt ${attempt}`, [step?.name, reason].filter(Boolean).join(": "), attempt > 1 || state === "waiting" ? "warn" : "");
  }
  if (type === "agent.complete") {
    const states = /** @type {Record<string, string>} */ ({ success: "completed" });
    if (run.stretches.length) run.stretches[run.stretches.length - 1].to = at;
    Object.assign(run, { state: states[payload.outcome] ?? payload.outcome, ended: at, open: [] });
    return add(`ended: ${payload.outcome}`, payload.error?.message ?? "", payload.outcome === "success" ? "good" : "bad");
  }
  if (type === "assistant.message.start") return [(run.message ??= payload.message_id), add("began to write")];
  if (type === "assistant.message.reset") return add("began the message again", "", "warn");
  if (type === "assistant.message.end") return add(`wrote ${(payload.text ?? "").length.toLocaleString("en")} characters`, (payload.text ?? "").slice(0, 200));
  if (type === "tool.call.start") return add(`called ${payload.title ?? payload.name}`, payload.args === undefined ? "" : JSON.stringify(payload.args).slice(0, 200));
  if (type === "tool.call.complete") return add(`tool: ${payload.outcome}`, "", payload.outcome === "ok" ? "good" : "warn");
  if (type === "tool.call.error") return add("tool failed", payload.message, "bad");
  if (type === "tool.call.request") return [run.open.push(payload), add(`asked for ${payload.kind}`, payload.prompt, "warn")];
  if (type === "tool.call.response") return add(`answered by ${actor.id}`);
  if (type === "tool.call.resolved") {
    run.open = run.open.filter((request) => request.request_id !== payload.request_id);
    return add(`request ${payload.resolution}`, payload.by ? `by ${payload.by}` : "");
  }
  if (type === "agent.steer") return add(`steered by ${actor.id}`, payload.text);
  if (type.endsWith(".cancel")) return add(`stopped by ${actor.id}`, payload.reason ?? "", "warn");
  if (type === "message.status") return add(`steering text ${payload.status}`, payload.reason ?? "");
}
