"use strict";
// Sorting, filtering and the choice of light or dark. All else of the page works without it.
(() => {
  // What a cell is sorted by: its whole number, or its text; an empty one comes last either way.
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    const text = cell.textContent.trim();
    return text === "-" ? null : text;
  };

  const before = (a, b) => {
    const numbers = [typeof a === "number", typeof b === "number"];
    if (numbers[0] && numbers[1]) return a - b;
    if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1;
    return a < b ? -1 : a > b ? 1 : 0;
  };

  const sort = (table, column, header) => {
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) {
      if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    }
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = Array.from(table.tBodies[0].rows, (row) => [keyOf(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return down ? before(b, a) : before(a, b);
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  };

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    Array.from(table.tHead.rows[0].cells).forEach((header, column) => {
      const button = header.querySelector("button");
      if (button) button.addEventListener("click", () => sort(table, column, header));
    });
  }

  for (const input of document.querySelectorAll("input[data-filters]")) {
    const rows = Array.from(document.querySelectorAll(`#${CSS.escape(input.dataset.filters)} tbody tr`));
    const count = document.querySelector(`[data-counts="${CSS.escape(input.dataset.filters)}"]`);
    // The words of a row, and no number: "1" would find nearly all.
    const textOf = (row) => Array.from(row.querySelectorAll("td.words"), (cell) => cell.textContent).join(" ").toLowerCase();
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      let left = 0;
      for (const row of rows) {
        row.hidden = !textOf(row).includes(wanted);
        left += !row.hidden;
      }
      count.textContent = wanted ? `${left} of ${rows.length} rows` : "";
    });
  }

  const theme = document.getElementById("theme");
  const dark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  theme.hidden = false;
  theme.setAttribute("aria-pressed", String(dark()));
  theme.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    theme.setAttribute("aria-pressed", String(dark()));
  });

  // A narrow window begins with the page, not with its contents.
  if (matchMedia("(max-width: 70rem)").matches) document.querySelector("nav details").open = false;
})();
