"use strict";

// Tables of a page can be sorted and copied; without this script they are tables all the same.

// Number in a cell: the first one, or for "< 1e-6" one below it; null where there is none.
function cellNumber(text) {
  const found = text.match(/^(<?)\s*(-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)/);
  return found && Number(found[2].replaceAll(",", "")) * (found[1] ? 0.5 : 1);
}

function sortTable(table, column, ascending) {
  const body = table.tBodies[0];
  const texts = new Map([...body.rows].map((row) => [row, row.cells[column].textContent.trim()]));
  const rows = [...body.rows];
  const known = rows.filter((row) => texts.get(row) !== "–"), missing = rows.filter((row) => texts.get(row) === "–");
  const numeric = known.every((row) => cellNumber(texts.get(row)) !== null);
  const compare = (a, b) => (numeric
    ? cellNumber(texts.get(a)) - cellNumber(texts.get(b))
    : texts.get(a).localeCompare(texts.get(b), "en", {numeric: true}));
  known.sort((a, b) => (ascending ? compare(a, b) : compare(b, a)));
  body.append(...known, ...missing);
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // where a page on disk may not use the clipboard itself
    const area = Object.assign(document.createElement("textarea"), {value: text});
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

// A button that copies what `text` gives, and says so for a moment.
function copyButton(label, text) {
  const button = Object.assign(document.createElement("button"), {type: "button", className: "copy", textContent: label});
  button.addEventListener("click", async () => {
    await copyText(text());
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  });
  return button;
}

function tableText(table) {
  const value = (cell) => (cell.querySelector("[data-name]") ? namesIn(cell) : cell.textContent.trim());
  return [...table.rows].map((row) => [...row.cells].map(value).join("\t")).join("\n");
}

// The text of a cell with all names in full.
function namesIn(cell) {
  const copy = cell.cloneNode(true);
  copy.querySelectorAll("[data-name]").forEach((name) => { name.textContent = name.dataset.name; });
  return copy.textContent.trim();
}

document.querySelectorAll("table").forEach((table) => {
  table.parentElement.before(copyButton("Copy table", () => tableText(table)));
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = Object.assign(document.createElement("button"), {type: "button", textContent: heading.textContent});
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      // Numbers the largest first, words from A on.
      const first = heading.classList.contains("text") ? "ascending" : "descending";
      const order = heading.ariaSort === first ? (first === "ascending" ? "descending" : "ascending") : first;
      table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order);
      sortTable(table, column, order === "ascending");
    });
  });
});
