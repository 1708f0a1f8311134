/** The card of a tool call or a question: arguments, progress, result, and the form for an answer. @module tool_card */

import { button, showText, textElement } from "./safe_text.js";

/** @typedef {import("./chat_store.js").Tool} Tool */
/** @typedef {import("./chat_store.js").Request} Request */

const SHOWN_MAX = 4_000; // characters of arguments and results
/** @type {Record<string, string>} */
const STATES = { running: "running", ok: "done", denied: "denied", failed: "failed" };
/** @type {Record<string, string>} */
const RESOLUTIONS = { approved: "Approved", denied: "Denied", answered: "Answered", expired: "Nobody answered in time", cancelled: "Cancelled" };

/** One card, built once and then updated, so that what the user is typing into it is kept. */
export class ToolCard {
  element = document.createElement("section");
  #title = textElement("p", "tool-title", "");
  #state = textElement("span", "tool-state", "");
  #bar = document.createElement("progress");
  #note = textElement("p", "note", "");
  #args = folded("Arguments");
  #result = folded("Result");
  #answer;
  /** @type {HTMLElement|null} */ #form = null;
  #isAsked = false;

  /** @param {(request: Request, response: object) => Promise<unknown>} answer sends a response */
  constructor(answer) {
    this.#answer = answer;
    this.element.className = "tool";
    const head = document.createElement("div");
    head.className = "tool-head";
    head.append(this.#title, this.#state);
    this.element.append(head, this.#bar, this.#note, this.#args, this.#result);
  }

  /** @param {Tool|null} tool @param {Request|null} request */
  show(tool, request) {
    const isOpen = request !== null && !request.resolution;
    const state = isOpen ? "waiting" : (tool?.state ?? (request?.resolution ? "ok" : "running"));
    this.element.dataset.state = state;
    this.element.setAttribute("aria-label", `tool ${tool?.name ?? request?.name ?? "question"}`);
    showText(this.#title, tool?.title || tool?.name || request?.name || "Question");
    showText(this.#state, isOpen ? "waiting for you" : (STATES[state] ?? state));
    this.#showProgress(tool);
    showText(this.#note, noteOf(tool, request));
    this.#note.hidden = !this.#note.textContent;
    fill(this.#args, tool?.args ?? request?.args);
    fill(this.#result, tool?.output);
    if (isOpen && !this.#isAsked) this.element.append((this.#form = this.#ask(request)));
    this.#isAsked = isOpen;
    if (!isOpen) [this.#form?.remove(), (this.#form = null)];
  }

  /** @param {Tool|null} tool */
  #showProgress(tool) {
    this.#bar.hidden = tool?.state !== "running" || tool.progress === null;
    if (tool?.progress == null) return;
    this.#bar.setAttribute("aria-label", "progress");
    if (tool.total) Object.assign(this.#bar, { max: tool.total, value: tool.progress });
    else this.#bar.removeAttribute("value");
  }

  /** @param {Request} request @returns {HTMLElement} */
  #ask(request) {
    const form = document.createElement("form");
    form.className = "ask";
    form.append(textElement("p", "prompt", request.prompt));
    const isChoice = request.kind === "approval" || request.kind === "confirmation";
    if (isChoice) this.#choices(form, request);
    else this.#input(form, request);
    const problem = form.appendChild(textElement("p", "note bad", ""));
    problem.setAttribute("role", "alert");
    return form;
  }

  /** @param {HTMLElement} form @param {Request} request */
  #choices(form, request) {
    const buttons = form.appendChild(document.createElement("div"));
    buttons.className = "buttons";
    buttons.append(button("primary", "Approve", () => this.#send(form, request, { decision: "approve" })));
    if (request.allow_edit && request.args !== undefined) buttons.append(button("", "Edit", () => this.#edit(form, request)));
    buttons.append(button("", "Deny", () => this.#send(form, request, { decision: "deny" })));
  }

  /** @param {HTMLElement} form @param {Request} request */
  #edit(form, request) {
    if (form.querySelector("textarea")) return;
    const area = field(form, "Arguments (JSON)", "textarea");
    area.value = JSON.stringify(request.args, null, 2);
    const approve = button("primary", "Approve as edited", () => {
      try {
        void this.#send(form, request, { decision: "approve", edited_args: JSON.parse(area.value) });
      } catch {
        tell(form, "This is not JSON. Correct it, or approve without an edit.");
      }
    });
    form.insertBefore(approve, form.lastElementChild);
    area.focus();
  }

  /** @param {HTMLElement} form @param {Request} request */
  #input(form, request) {
    const area = field(form, "Your answer", "input");
    const isText = !request.response_schema || request.response_schema.type === "string";
    const send = () => {
      try {
        void this.#send(form, request, { result: isText ? area.value : JSON.parse(area.value) });
      } catch {
        tell(form, "The answer must be JSON, for example 3 or \"text\".");
      }
    };
    const submit = form.appendChild(button("primary", "Answer", send));
    submit.type = "submit";
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  /** @param {HTMLElement} form @param {Request} request @param {object} response */
  async #send(form, request, response) {
    const controls = /** @type {NodeListOf<HTMLButtonElement>} */ (form.querySelectorAll("button, input, textarea"));
    for (const control of controls) control.disabled = true;
    tell(form, "");
    try {
      await this.#answer(request, response);
    } catch (refused) {
      tell(form, `Not accepted: ${/** @type {Error} */ (refused).message}`);
      for (const control of controls) control.disabled = false;
    }
  }
}

/** @param {Tool|null} tool @param {Request|null} request */
function noteOf(tool, request) {
  const parts = [];
  if (request?.resolution) parts.push(`${RESOLUTIONS[request.resolution] ?? request.resolution}${request.by ? ` by ${request.by}` : ""}${request.edited ? ", with changes" : ""}.`);
  if (tool?.note) parts.push(tool.note);
  return parts.join(" ");
}

/** @param {string} title */
function folded(title) {
  const made = document.createElement("details");
  made.append(textElement("summary", "", title), textElement("pre", "mono", ""));
  made.hidden = true;
  return made;
}

/** @param {HTMLDetailsElement} details @param {unknown} value */
export function fill(details, value) {
  const isEmpty = value === undefined || value === null || (typeof value === "object" && Object.keys(value).length === 0);
  details.hidden = isEmpty;
  if (isEmpty) return;
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  showText(/** @type {HTMLElement} */ (details.lastElementChild), text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}…` : text);
}

/** @param {HTMLElement} form @param {string} text @param {"input"|"textarea"} tag @returns {any} */
function field(form, text, tag) {
  const label = document.createElement("label");
  label.textContent = text;
  const made = document.createElement(tag);
  label.append(made);
  form.insertBefore(label, form.querySelector(".note"));
  return made;
}

/** @param {HTMLElement} form @param {string} text */
function tell(form, text) {
  showText(/** @type {HTMLElement} */ (form.querySelector(".note")), text);
}
