// A reply as bars, as a table, or as text.

import { element } from "./models.js";
import { compact } from "./shapes.js";

// Rows and columns that are shown.
const MOST = 200;
const MOST_BARS = 20;

const isNumber = (value) => typeof value === "number" || value === null;
const isRow = (value) => Array.isArray(value) && value.length > 0 && value.every((each) => each === null || typeof each !== "object");

// The rows of a reply; null if it has none.  A list of plain values is a column.
export function rowsOf(value) {
  if (isRow(value)) return value.map((each) => [each]);
  if (Array.isArray(value) && value.length && value.every(isRow)) return value;
  return null;
}

// CSV without quotes, as the server writes numbers.
function csvRows(text) {
  const lines = text.split(/\r?\n/).filter((line) => line !== "");
  return lines.map((line) => line.split(",").map((word) => (word.trim() !== "" && !Number.isNaN(Number(word)) ? Number(word) : word)));
}

export function parse(text, contentType) {
  if (/csv/.test(contentType)) return { rows: csvRows(text), pretty: text };
  try {
    if (/jsonlines|jsonl|ndjson/.test(contentType)) {
      return { rows: rowsOf(text.trim().split("\n").map((line) => JSON.parse(line))), pretty: text };
    }
    const value = JSON.parse(text);
    return { rows: rowsOf(value), pretty: text.length < 200000 ? compact(value) : text };
  } catch {
    return { rows: null, pretty: text };
  }
}

// The rows that bars can show: several numbers each.
export function scores(rows) {
  return rows && rows.every((row) => row.length > 1 && row.every(isNumber)) ? rows : null;
}

function shown(number) {
  if (typeof number !== "number" || Number.isInteger(number)) return String(number);
  const text = number.toPrecision(4);
  return Math.abs(number) >= 0.001 && Math.abs(number) < 1e6 ? String(Number(text)) : number.toExponential(2);
}

// A bar for each score; of many, those of the largest.
export function bars(row) {
  const indexed = row.map((value, i) => ({ value: value ?? NaN, i }));
  const sorted = [...indexed].sort((a, b) => b.value - a.value);
  const best = sorted[0].i;
  const kept = row.length > MOST_BARS ? sorted.slice(0, MOST_BARS) : indexed;
  const most = Math.max(...kept.map(({ value }) => Math.abs(value) || 0), 1e-12);
  const body = element("tbody");
  for (const { value, i } of kept) {
    const bar = element("div", { className: "bar" });
    bar.style.width = `${(100 * (Math.max(0, value) || 0)) / most}%`;
    const line = element(
      "tr",
      { className: i === best ? "best" : "" },
      element("th", { scope: "row", textContent: i }),
      element("td", {}, bar),
      element("td", { textContent: shown(value) }),
    );
    body.append(line);
  }
  const caption = row.length > MOST_BARS ? `The ${MOST_BARS} largest of ${row.length} values` : `${row.length} values; the largest is at ${best}`;
  return [element("p", { className: "note", textContent: caption }), element("table", { ariaLabel: "Values" }, body)];
}

export function table(rows) {
  const width = Math.max(...rows.map((row) => row.length));
  const columns = Math.min(width, MOST);
  const head = element("tr", {}, element("th", { scope: "col", textContent: "row" }));
  for (let i = 0; i < columns; i++) head.append(element("th", { scope: "col", textContent: i }));
  const body = element("tbody");
  rows.slice(0, MOST).forEach((row, i) => {
    const line = element("tr", {}, element("th", { scope: "row", textContent: i }));
    row.slice(0, columns).forEach((value) =>
      line.append(element("td", { textContent: typeof value === "string" ? value : shown(value), className: typeof value === "string" ? "words" : "" })),
    );
    body.append(line);
  });
  const made = [element("table", {}, element("thead", {}, head), body)];
  if (rows.length > MOST || width > MOST) {
    made.push(element("p", { className: "note", textContent: `The first ${MOST} of ${rows.length} rows and ${width} columns` }));
  }
  return made;
}
