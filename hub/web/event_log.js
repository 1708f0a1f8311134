/** The table of events: newest last, bounded, everything shown as text. @module event_log */

/** @typedef {import("../client_js/hub.js").HubEvent} HubEvent */

const ROWS_MAX = 500; // older events are still in the hub; thousands of rows would make the page slow
const TEXT_MAX = 2_000; // characters of one payload

/** Adds rows once per animation frame, so that a replay of thousands of events costs only a few layouts. */
export class EventLog {
  #body;
  #region;
  #count;
  #empty;
  #isStuck;
  /** @type {HTMLTableRowElement[]} */ #waiting = [];
  #total = 0;
  #isScheduled = false;

  /**
   * @param {{body: HTMLElement, region: HTMLElement, count: HTMLElement, empty: HTMLElement}} parts
   * @param {() => boolean} isStuck returns true if the newest row must stay visible
   */
  constructor({ body, region, count, empty }, isStuck) {
    this.#body = body;
    this.#region = region;
    this.#count = count;
    this.#empty = empty;
    this.#isStuck = isStuck;
  }

  /** @param {HubEvent} event @param {boolean} isReplayed */
  add(event, isReplayed) {
    const row = document.createElement("tr");
    const isText = typeof event.payload?.text === "string";
    row.className = isReplayed ? "replayed" : "";
    row.dataset.seq = String(event.seq);
    cell(row, "seq", String(event.seq));
    cell(row, "time", timeOf(event.id));
    cell(row, "actor", event.actor.id).title = event.actor.kind;
    cell(row, "type", event.type);
    cell(row, isText ? "payload" : "payload json", shortened(isText ? event.payload.text : JSON.stringify(event.payload)));
    cell(row, "id", event.id);
    this.#total += 1;
    this.#push(row);
  }

  /** Add a line between events. @param {string} text @param {"warn"|"good"|"bad"|"plain"} tone */
  mark(text, tone) {
    const row = document.createElement("tr");
    row.className = "mark";
    row.dataset.tone = tone;
    cell(row, "", text).colSpan = 6;
    this.#push(row);
  }

  /** Clear the table. */
  clear() {
    [this.#waiting, this.#total] = [[], 0];
    this.#body.replaceChildren();
    this.#tell();
  }

  /** @param {HTMLTableRowElement} row */
  #push(row) {
    this.#waiting.push(row);
    if (this.#waiting.length > ROWS_MAX) this.#waiting.shift();
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // A hidden page gets no animation frames: waiting rows are bounded, and drawn once the page is visible.
    requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#isScheduled = false;
    this.#body.append(...this.#waiting);
    this.#waiting = [];
    while (this.#body.children.length > ROWS_MAX) this.#body.firstElementChild?.remove();
    if (this.#isStuck()) this.#region.scrollTop = this.#region.scrollHeight;
    this.#tell();
  }

  #tell() {
    const shown = this.#body.querySelectorAll("tr:not(.mark)").length;
    this.#empty.hidden = this.#body.children.length > 0;
    const newest = shown < this.#total ? `, newest ${shown} shown` : "";
    this.#count.textContent = this.#total ? `${this.#total.toLocaleString("en")} received${newest}` : "";
  }
}

/** @param {HTMLTableRowElement} row @param {string} name @param {string} text */
function cell(row, name, text) {
  const made = row.insertCell();
  made.className = name;
  made.dir = "auto"; // a right-to-left text must not affect its neighbours
  made.textContent = text;
  return made;
}

/** The time at which the event was stored. @param {string} id Redis's "ms-n" */
function timeOf(id) {
  const at = new Date(Number(id.split("-")[0]));
  return `${at.toLocaleTimeString("en-GB")}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

/** @param {string} text */
function shortened(text) {
  return text.length <= TEXT_MAX ? text : `${text.slice(0, TEXT_MAX)}… (${text.length.toLocaleString("en")} characters)`;
}
