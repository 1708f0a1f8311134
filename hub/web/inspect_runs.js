/** The views of runs: the unfinished ones, those of a channel, and one as a timeline with cancel and another answer. @module inspect_runs */

import { address, append, may, read } from "./inspect_api.js";
import { asking, factList, idBefore, lengthText, link, note, refresher, table, timeText } from "./inspect_parts.js";
import { ENDED, TYPES, runsOf } from "./inspect_run_story.js";
import { button, showText, textElement } from "./safe_text.js";

/** @typedef {import("./inspect_run_story.js").Run} Run */
/** @typedef {(work: () => Promise<unknown>) => Promise<void>} Attempt */

const PAGE = "1000";
const PAGES_MAX = 20; // pages of events searched for one run
const BAR = { width: 600, height: 28 };
const END = "9999999999999-0";

/** @param {HTMLElement} place @param {URLSearchParams} wanted @param {Attempt} attempt */
export async function showRuns(place, wanted, attempt) {
  const [channel, run] = [wanted.get("in") ?? "", wanted.get("run") ?? ""];
  if (!channel) return showUnfinished(place);
  if (!run) return showChannel(place, channel, attempt);
  await showOne(place, channel, run, attempt);
}

/** @param {HTMLElement} place */
async function showUnfinished(place) {
  const { runs, complete } = await read("runs");
  const rows = runs.map((/** @type {any} */ one) => [
    link(one.run_id, address({ view: "runs", in: one.channel, run: one.run_id })),
    one.agent,
    one.cancel ? `${one.state}, to be stopped` : one.state,
    link(one.channel, address({ view: "runs", in: one.channel })),
    one.by,
    timeText(one.since),
    `${one.segment} / ${one.attempt}`,
    `${one.questions.asked - one.questions.answered} open of ${one.questions.asked}`,
  ]);
  place.replaceChildren(
    ...(rows.length ? [table("Unfinished runs", ["Run", "Agent", "State", "Channel", "By", "Since", "Segment / attempt", "Requests"], rows)] : [note("No run is under way. Name a channel to see those that have ended.", "empty")]),
    ...(complete ? [] : [note("There are more unfinished runs than are shown.", "note warn")]),
    refresher(),
  );
}

/** @param {HTMLElement} place @param {string} channel @param {Attempt} attempt */
async function showChannel(place, channel, attempt) {
  /** @type {any[]} */ let events = [];
  /** @type {string|null} */ let before = END;
  const older = async () => {
    const page = await eventsOf(channel, { before: before ?? END });
    [events, before] = [[...page.events, ...events], page.next];
    const rows = runsOf(events).map((run) => [
      link(run.run, address({ view: "runs", in: channel, run: run.run })),
      run.agent,
      run.state || "began earlier",
      timeText(run.began),
      run.ended === null ? "–" : lengthText(run.ended - run.began),
      `${run.segment} / ${run.attempt}`,
      String(run.open.length),
    ]);
    place.replaceChildren(
      heading(channel, address({ channel }), "Events"),
      ...(rows.length ? [table(`Runs of ${channel}`, ["Run", "Agent", "State", "Began", "Took", "Segment / attempt", "Open requests"], rows)] : [note("These events tell of no run.", "empty")]),
      ...(before === null ? [] : [button("", "Earlier runs", () => attempt(older))]),
    );
  };
  await older();
}

/** @param {HTMLElement} place @param {string} channel @param {string} id @param {Attempt} attempt */
async function showOne(place, channel, id, attempt) {
  const run = await find(channel, id);
  const back = heading(id, address({ view: "runs", in: channel }), `Runs of ${channel}`);
  if (!run) return place.replaceChildren(back, note("No stored event tells of this run. Check the address, or look for it among the channel's runs.", "note warn"));
  const again = () => attempt(() => showOne(place, channel, id, attempt));
  const facts = factList({
    Agent: run.agent, State: run.state, Began: timeText(run.began), Took: run.ended === null ? "" : lengthText(run.ended - run.began),
    Segments: String(run.segment), Attempts: String(run.attempt), "Asked for by": run.cause && link(`event ${run.cause}`, address({ channel, event: run.cause })),
  }); // prettier-ignore
  const waiting = run.open.map((request) => {
    const row = note(`Waits for ${request.kind}${request.expires_at ? ` until ${timeText(request.expires_at)}` : ""}: ${request.prompt} `, "note warn");
    row.append(link("Answer in the conversation", `../console#view=chat&channel=${encodeURIComponent(channel)}`));
    return row;
  });
  place.replaceChildren(back, facts, bar(run), ...waiting, deeds(run, channel, again, attempt), steps(run, channel));
}

/** The run with all its events; null if none is found. @param {string} channel @param {string} id @returns {Promise<Run|null>} */
async function find(channel, id) {
  const cause = /^r[0-9a-f]{10}-(\d{1,15}-\d{1,10})$/.exec(id)?.[1]; // an ID that the hub derived from the event that began it
  /** @type {any[]} */ let events = [];
  /** @type {string|null} */ let position = cause ? idBefore(cause) : END;
  for (let pages = 0; position !== null && pages < PAGES_MAX; pages += 1) {
    const page = await eventsOf(channel, cause ? { after: position } : { before: position });
    events = cause ? [...events, ...page.events] : [...page.events, ...events];
    position = page.next;
    const run = runsOf(events).find((one) => one.run === id);
    const isWhole = cause ? run?.ended : run?.steps.some(({ title }) => title.startsWith("queued"));
    if (isWhole || (cause && !page.events.length)) break;
  }
  return runsOf(events).find((one) => one.run === id) ?? null;
}

/** @param {string} channel @param {Record<string, string>} range */
const eventsOf = (channel, range) => read(`channels/${encodeURIComponent(channel)}/events`, { ...range, types: TYPES, limit: PAGE });

/** The buttons that the token has the right to. @param {Run} run @param {string} channel @param {() => Promise<void>} again @param {Attempt} attempt */
function deeds(run, channel, again, attempt) {
  const made = document.createElement("div");
  made.className = "buttons";
  const mayAct = may(channel, "invoke");
  const isOver = ENDED.includes(run.state);
  const does = (/** @type {string} */ type, /** @type {object} */ payload, /** @type {string} */ told) =>
    attempt(async () => {
      await append(channel, type, payload);
      made.replaceChildren(note(told), button("quiet", "Refresh", () => again()));
    });
  made.append(button("quiet", "Refresh", () => again()));
  if (mayAct && !isOver) made.append(asking("Cancel the run", "Cancel it", () => does("agent.cancel", { run_id: run.run, mode: "graceful" }, "The run is asked to stop."), "cancel the run"));
  if (mayAct && isOver && run.message && channel.startsWith("conversation:")) {
    made.append(asking("Answer again", "Answer again", () => does("chat.regenerate", { message_id: run.message }, "Another answer begins beside this one."), "let the agent answer again"));
  }
  if (!mayAct) made.append(note("To cancel a run or have it answer again, the token needs invoke on the channel."));
  return made;
}

/** The states over time. @param {Run} run */
function bar(run) {
  const [from, to] = [run.stretches[0]?.from ?? run.began, run.ended ?? Date.now()];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${BAR.width} ${BAR.height}`);
  svg.setAttribute("class", "states");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  const scale = BAR.width / Math.max(1, to - from);
  const told = run.stretches.filter(({ state }) => !ENDED.includes(state)).map((stretch) => {
    const rect = document.createElementNS(svg.namespaceURI, "rect");
    const [left, right] = [(stretch.from - from) * scale, ((stretch.to ?? to) - from) * scale];
    for (const [name, value] of Object.entries({ x: left, y: 0, width: Math.max(1, right - left), height: BAR.height })) rect.setAttribute(name, String(value));
    rect.setAttribute("class", `state-${stretch.state}`);
    svg.append(rect);
    return `${stretch.state} ${lengthText((stretch.to ?? to) - stretch.from)}`;
  }); // prettier-ignore
  svg.setAttribute("aria-label", `Time in each state: ${told.join(", ")}`);
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  showText(caption, told.join(" → "));
  figure.append(svg, caption);
  return figure;
}

/** @param {Run} run @param {string} channel */
function steps(run, channel) {
  const made = document.createElement("ol");
  made.className = "steps";
  for (const { id, at, title, text, tone } of run.steps) {
    const row = made.appendChild(document.createElement("li"));
    row.dataset.tone = tone;
    const time = link(`+${lengthText(at - run.began)}`, address({ channel, event: id }));
    time.title = "The event";
    row.append(time, textElement("strong", "", title), textElement("span", "note", text));
  }
  return made;
}

/** @param {string} text @param {string} href @param {string} linked */
function heading(text, href, linked) {
  const made = document.createElement("div");
  made.className = "heading";
  made.append(textElement("h3", "mono", text), link(linked, href));
  return made;
}
