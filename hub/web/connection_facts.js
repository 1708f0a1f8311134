/** A list of names and values that is updated in place. @module connection_facts */

/** @param {HTMLElement} list a `dl` @param {Record<string, unknown>} facts name → value; undefined means unknown */
export function showRows(list, facts) {
  for (const [index, [name, value]] of Object.entries(facts).entries()) {
    const row = list.children[index] ?? list.appendChild(emptyRow(name));
    const text = String(value ?? "–");
    if (row.lastElementChild && row.lastElementChild.textContent !== text) row.lastElementChild.textContent = text;
  }
}

/** @param {string} name */
function emptyRow(name) {
  const row = document.createElement("div");
  row.appendChild(document.createElement("dt")).textContent = name;
  row.appendChild(document.createElement("dd"));
  return row;
}
