
"use strict";
// Many texts: a table of what each model answers, where they differ, and what it cost.

const linesOf = (text) => text.split(/\r?\n/).filter((line) => line.trim());

// Pieces that the service takes: of so many texts, and of as many characters as fit a body, four bytes each at most.
const cut = (texts, limits) => {
  const pieces = [[]];
  let characters = 0;
  for (const text of texts) {
    const isFull = pieces.at(-1).length >= limits.texts || 4 * (characters + text.length) > limits.body_bytes / 2;
    if (isFull && pieces.at(-1).length) {
      pieces.push([]);
      characters = 0;
    }
    pieces.at(-1).push(text);
    characters += text.length;
  }
  return pieces;
};

// Answers of one model to all texts; `tell` hears how many are done.
const classifyAll = async (texts, model, limits, signal, tell) => {
  const column = { model, rows: [], inside: 0, roundTrip: 0 };
  for (const piece of cut(texts, limits)) {
    tell(`Asking ${model}: ${column.rows.length} of ${texts.length} texts`);
    const { rows, phases } = await classify(piece, model, 1, signal);
    column.rows.push(...rows);
    column.inside += phases.inside;
    column.roundTrip += phases.roundTrip;
  }
  return column;
};

const isUnanimous = (columns, place) => new Set(columns.map(({ rows }) => rows[place].label)).size < 2;

const countAgreed = (one, other) => one.rows.filter((row, place) => row.label === other.rows[place].label).length;

const makeCell = (child, className) => make("td", className, child);

const makeHead = (text, scope) => {
  const head = make("th", "", text);
  head.scope = scope;
  return head;
};

const makeTable = (name, head, rows) => {
  const top = make("thead", "", make("tr", "", ...head.map((text) => makeHead(text, "col"))));
  const table = make("table", "", make("caption", "", name), top, make("tbody", "", ...rows));
  const frame = make("div", "frame", table);
  frame.tabIndex = 0;  // so that the arrow keys move it where it is wider than the screen
  frame.setAttribute("role", "region");
  frame.setAttribute("aria-label", name);
  return frame;
};

const showTotals = (columns) => {
  const texts = columns[0].rows.length;
  const share = (count) => `${((100 * count) / texts).toFixed(1)} %`;
  const head = ["model", "ms a text", "texts a second", "out of domain"];
  const agreement = columns.map(({ model }) => `agrees with ${model}`);
  const rows = columns.map((column) => {
    const judged = column.rows.filter((row) => (row.out_of_domain?.flag ?? null) !== null);
    const outside = judged.filter((row) => row.out_of_domain.flag).length;
    const numbers = [
      (column.inside / texts).toFixed(3),
      ((1000 * texts) / column.roundTrip).toFixed(0),
      judged.length ? `${outside} (${share(outside)})` : "-",
      ...columns.map((other) => (other === column ? "-" : share(countAgreed(column, other)))),
    ];
    return make("tr", "", makeHead(column.model, "row"), ...numbers.map((text) => makeCell(text, "number")));
  });
  // Milliseconds are the service's own, texts a second are what this page saw of it.
  return makeTable("Models", columns.length > 1 ? [...head, ...agreement] : head, rows);
};

const showRows = (texts, columns) => {
  const many = columns.length > 1;
  const head = ["line", "text", ...columns.map(({ model }) => model), ...(many ? ["together"] : [])];
  const rows = texts.map((text, place) => {
    const same = isUnanimous(columns, place);
    const cells = columns.map(({ rows: answers }) => {
      const { label, score, out_of_domain: domain } = answers[place];
      const word = make("span", "", label, make("span", "soft number", ` ${showScore(score)}`));
      if (domain?.flag) word.append(make("span", "out", " ⚠ out of domain"));
      return makeCell(word, "");
    });
    if (many) cells.push(makeCell(same ? "agree" : "differ", same ? "same" : "differ"));
    return make("tr", same ? "" : "differs", makeCell(String(place + 1), "number soft"), makeCell(text, ""), ...cells);
  });
  return makeTable("Answers", head, rows);
};

// A cell that a spreadsheet would take for a formula gets an apostrophe in front; numbers of ours stay numbers.
const quoteCell = (value) => {
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

// RFC 4180, with the mark by which spreadsheets know UTF-8.
const writeCsv = (texts, columns) => {
  const fields = ["label", "score", "answered by", "out of domain"];
  const head = ["text", ...columns.flatMap(({ model }) => fields.map((name) => `${model} ${name}`)), "agree"];
  const rows = texts.map((text, place) => [
    text,
    ...columns.flatMap(({ rows: answers }) => {
      const { label, score, answered_by: deputy, out_of_domain: domain } = answers[place];
      return [label, score, deputy || "", String(domain?.flag ?? "")];
    }),
    String(isUnanimous(columns, place)),
  ]);
  return `\ufeff${[head, ...rows].map((row) => row.map(quoteCell).join(",")).join("\r\n")}\r\n`;
};

let downloadAddress = "";

const makeDownload = (texts, columns) => {
  URL.revokeObjectURL(downloadAddress);  // the file of the last batch would stay in memory
  const link = make("a", "quiet", "Download as CSV");
  link.download = "answers.csv";
  link.href = downloadAddress = URL.createObjectURL(new Blob([writeCsv(texts, columns)], { type: "text/csv" }));
  return link;
};

const showBatch = (output, texts, columns) => {
  const differing = texts.filter((_, place) => !isUnanimous(columns, place)).length;
  const only = make("input");
  only.type = "checkbox";
  const rows = showRows(texts, columns);
  only.addEventListener("change", () => rows.classList.toggle("only", only.checked));
  const tools = make("div", "tools", makeDownload(texts, columns));
  if (differing) tools.append(make("label", "choice", only, `only the ${differing} that differ`));
  output.replaceChildren(showTotals(columns), tools, rows);
};
