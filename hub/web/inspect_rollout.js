/** The view of the tenant's rollout: who may use WebSocket, the variants, the last change, and a form that changes them. @module inspect_rollout */

import { address, call, mayOperate, read } from "./inspect_api.js";
import { asking, factList, link, note, refresher, table, timeOfId, timeText } from "./inspect_parts.js";
import { button, textElement } from "./safe_text.js";

/** @typedef {(work: () => Promise<unknown>) => Promise<void>} Attempt */
/** @typedef {{name: string, percent: number}} Variant */

const STORED = "system:rollout"; // the channel, and the name of the provider that reads it
const VARIANTS_MAX = 8;
const NAME = /^[A-Za-z0-9_.-]{1,32}$/;

/** @param {HTMLElement} place @param {URLSearchParams} _wanted @param {Attempt} attempt */
export async function showRollout(place, _wanted, attempt) {
  const status = note("");
  status.setAttribute("role", "status");
  status.tabIndex = -1;

  /** @param {any} found */
  const draw = (found) => {
    const form = found.provider === STORED && mayOperate() ? changing(found, attempt, saved) : note(readOnly(found.provider));
    place.replaceChildren(status, ...shown(found), form, refresher());
  };
  /** @param {any} found */
  const saved = (found) => {
    draw(found);
    status.textContent = "Changed. Every node applies it within 2 seconds.";
    status.focus();
  };
  draw(await read("rollout"));
}

/** @param {string} provider */
const readOnly = (provider) =>
  provider === STORED
    ? "To change the rollout, use a token with the scope operator, in the tenant that it was issued for."
    : "HUB_ROLLOUT_PROVIDER decides on this hub; change the rollout there.";

/** @param {any} found */
function shown(found) {
  const { websocket_percent, variants, revision, changed_by, changed_id, provider } = found;
  const rows = variants.map((/** @type {Variant} */ one) => [one.name, `${one.percent} %`]);
  return [
    factList({
      WebSocket: `${websocket_percent} % of the users`,
      Changes: String(revision),
      "Last change": revision ? link(`${timeText(timeOfId(changed_id))} by ${changed_by}`, address({ channel: STORED, event: changed_id })) : "none yet",
      "Decided by": provider,
    }),
    rows.length ? table("Variants", ["Variant", "Users"], rows) : note("There are no variants.", "empty"),
  ];
}

/** The form that changes the rollout. @param {any} found @param {Attempt} attempt @param {(found: any) => void} saved */
function changing(found, attempt, saved) {
  const form = document.createElement("form");
  const problem = note("", "note bad");
  const percent = field("Users with WebSocket, %", "rollout-percent", String(found.websocket_percent), { inputMode: "decimal" });
  const reason = field("Note: the reason, kept with the change", "rollout-note", "", { maxLength: 500 });
  const [variants, apply] = [document.createElement("div"), document.createElement("div")];
  /** @type {[HTMLInputElement, HTMLInputElement][]} */ let rows = [];
  let made = 0;

  /** @param {string} name @param {string} share */
  const addVariant = (name, share) => {
    const row = document.createElement("div");
    const number = ++made;
    const called = field(`Variant ${number}`, `rollout-variant-${number}`, name, { maxLength: 32 });
    const part = field(`Users of variant ${number}, %`, `rollout-share-${number}`, share, { inputMode: "decimal" });
    /** @type {[HTMLInputElement, HTMLInputElement]} */ const pair = [called.input, part.input];
    const remove = () => {
      rows = rows.filter((one) => one !== pair);
      row.remove();
      more.disabled = false;
      more.focus();
    };
    rows.push(pair);
    row.className = "toolbar";
    row.append(called.place, part.place, button("quiet", "Remove", remove, `remove variant ${number}`));
    variants.append(row);
    more.disabled = rows.length >= VARIANTS_MAX;
    called.input.focus();
  };

  const change = async () => {
    problem.textContent = "";
    await attempt(async () => {
      const body = changeOf(found, percent.input.value, rows.map(([name, share]) => ({ name: name.value.trim(), share: share.value })), reason.input.value.trim()); // prettier-ignore
      if (typeof body === "string") problem.textContent = body;
      else saved(await call("PUT", "rollout", {}, body));
    });
    offer(); // after a refusal the form keeps what was entered
    apply.querySelector("button")?.focus();
  };
  const offer = () => apply.replaceChildren(asking("Change", "Change it now", change, "change the rollout"));

  const more = button("quiet", "Add a variant", () => addVariant("", ""));
  problem.setAttribute("role", "alert");
  variants.className = form.className = "view";
  for (const one of found.variants) addVariant(one.name, String(one.percent));
  offer();
  form.append(textElement("h3", "", "Change it"), percent.place, variants, more, reason.place, problem, apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  return form;
}

/** @param {string} text @param {string} id @param {string} value @param {Partial<HTMLInputElement>} more */
function field(text, id, value, more) {
  const place = document.createElement("div");
  const label = textElement("label", "", text);
  const input = Object.assign(document.createElement("input"), { id, value, autocomplete: "off", ...more });
  /** @type {HTMLLabelElement} */ (label).htmlFor = id;
  place.className = "field";
  place.append(label, input);
  return { place, input };
}

/**
 * The body of the change: what differs from what is stored, or a sentence that says what to enter instead.
 *
 * @param {any} found @param {string} percent @param {{name: string, share: string}[]} entered @param {string} reason
 * @returns {object|string}
 */
function changeOf(found, percent, entered, reason) {
  /** @type {Record<string, unknown>} */ const body = {};
  const websocket = percentOf(percent);
  if (websocket === null) return "Enter a percentage from 0 to 100 for WebSocket.";
  /** @type {Variant[]} */ const variants = [];
  for (const { name, share } of entered) {
    const part = percentOf(share);
    if (!NAME.test(name)) return "Enter a name of 1 to 32 letters, digits, _, . or - for each variant, or remove it.";
    if (part === null) return `Enter a percentage from 0 to 100 for the variant ${name}.`;
    if (variants.some((one) => one.name === name)) return `The variant ${name} stands there twice; remove one.`;
    variants.push({ name, percent: part });
  }
  if (variants.reduce((sum, one) => sum + one.percent, 0) > 100) return "The variants have more than 100 % together; lower one.";
  if (websocket !== found.websocket_percent) body.websocket_percent = websocket;
  if (JSON.stringify(variants) !== JSON.stringify(found.variants)) body.variants = variants;
  if (Object.keys(body).length === 0) return "Nothing would change; enter another percentage or other variants.";
  return reason ? { ...body, note: reason } : body;
}

/** @param {string} text */
function percentOf(text) {
  const found = Number(text.trim().replace(/\s*%$/, "").replace(",", ".") || NaN);
  return found >= 0 && found <= 100 ? found : null;
}
