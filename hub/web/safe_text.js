/** Shows untrusted texts: only as text, each in its own direction, with bidirectional control characters made visible. @module safe_text */

/** Embeddings, overrides and isolates: if left open, they change the direction of the text after them. */
const TURNS = /([\u202a-\u202e\u2066-\u2069])/;

/** Put a text into an element. @template {HTMLElement} E @param {E} element @param {string} text @returns {E} */
export function showText(element, text) {
  element.dir = "auto";
  if (!TURNS.test(text)) {
    if (element.childElementCount || element.textContent !== text) element.textContent = text;
    return element;
  }
  element.replaceChildren(...text.split(TURNS).map((part) => (TURNS.test(part) ? mark(part) : part)));
  return element;
}

/** Make an element with a text. @param {string} tag @param {string} name its class @param {string} text @returns {HTMLElement} */
export function textElement(tag, name, text) {
  const made = document.createElement(tag);
  made.className = name;
  return showText(made, text);
}

/** Make a button. @param {string} name its class @param {string} text @param {() => void} act @param {string} [label] its accessible name */
export function button(name, text, act, label) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = name;
  made.textContent = text;
  if (label) made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}

/** A text of the hub as a sentence. @param {string} text */
export const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.?!]$/.test(text) ? "" : "."}`;

/** Format a size in bytes for people. @param {number} bytes */
export function sizeText(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(1)} KB` : `${(bytes / 1024 ** 2).toFixed(1)} MB`;
}

/** @param {string} character */
function mark(character) {
  const made = document.createElement("span");
  made.className = "turn";
  made.title = "an invisible character that changes the direction of text";
  made.textContent = `U+${character.codePointAt(0)?.toString(16).toUpperCase()}`;
  return made;
}
