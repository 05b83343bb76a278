
"use strict";
// What an answer looks like: one card a model, its times below.

const PHASES = ["tokenization", "queue", "inference"];

const makeCard = (model) => {
  const head = make("h2", "name", model.id);
  if (model.isDefault) head.append(" ", make("span", "badge", "default"));
  return make("article", "card", head);
};

// The best first, with its bar; `answer` is one row of `/classify`.
const showLabels = (card, answer) => {
  card.append(make("p", "verdict", answer.label));
  const list = make("ol", "scores");
  for (const { label, score } of answer.scores) {
    list.append(make("li", "", make("span", "", label), make("span", "number", showScore(score)), makeBar(score)));
  }
  card.append(list);
  const notes = make("ul", "notes");
  if (answer.out_of_domain) notes.append(makeDomainNote(answer.out_of_domain));
  if (answer.answered_by && answer.answered_by !== answer.model) notes.append(makeDeputyNote(answer));
  if (notes.children.length) card.append(notes);
};

// Without a threshold there is a distance and no verdict.
const makeDomainNote = ({ score, flag }) => {
  const words = { true: "⚠ out of domain", false: "in domain" }[flag] ?? "distance from the domain";
  const note = make("li", flag ? "note out" : "note", words);
  if (Number.isFinite(score)) note.append(make("span", "number", ` ${Number(score.toPrecision(3))}`));
  return note;
};

const makeDeputyNote = ({ answered_by: deputy, confidence, escalated }) => {
  const sure = Number.isFinite(confidence) ? `, ${showScore(confidence)} sure` : "";
  return make("li", "note", `${escalated ? "passed on, " : ""}answered by ${deputy}${sure}`);
};

// A cosine: from the middle, left where it is below nothing.
const showCosine = (card, cosine) => {
  const track = makeBar(Math.abs(cosine) / 2);
  track.firstChild.style.marginInlineStart = `${50 * (1 + Math.min(0, cosine))}%`;
  const ends = ["−1", "0", "1"].map((end) => make("span", "", end));
  card.append(make("p", "verdict number", cosine.toFixed(4)), track, make("p", "ends soft", ...ends));
};

// Candidates in the model's order. Cosines and numbers of a regression may lie outside nothing to one.
const showRanks = (card, ranks, texts) => {
  const largest = Math.max(1, ...ranks.map(({ score }) => Math.abs(score)));
  const list = make("ol", "scores");
  for (const { index, score } of ranks) {
    const number = make("span", "number", score.toFixed(3));
    list.append(make("li", "", make("span", "", texts[index]), number, makeBar(score / largest)));
  }
  card.append(list);
};

// The text with its spans marked; `tints` gives each label the same colour on every card.
const showSpans = (card, text, spans, tints) => {
  const characters = Array.from(text);
  const shown = make("p", "marked");
  let reached = 0;
  for (const { label, score, start, end } of [...spans].sort((one, other) => one.start - other.start)) {
    if (start < reached) continue;  // of two spans over one character, the first is shown
    const mark = make("mark", "", slice(characters, start, end), make("small", "", ` ${label}`));
    mark.style.backgroundColor = `var(--tint-${tints.of(label)})`;
    mark.title = `${label} ${showScore(score)}`;
    shown.append(slice(characters, reached, start), mark);
    reached = end;
  }
  shown.append(slice(characters, reached));
  card.append(shown);
  const list = make("ol", "scores");
  for (const { label, score, start, end } of spans) {
    const words = make("span", "", slice(characters, start, end), make("span", "soft", ` ${label}`));
    list.append(make("li", "", words, make("span", "number", showScore(score))));
  }
  card.append(spans.length ? list : make("p", "soft", "Nothing is marked."));
};

const makeTints = () => {
  const places = new Map();
  const of = (label) => {
    if (!places.has(label)) places.set(label, places.size % 6);
    return places.get(label);
  };
  return { of };
};

// The context with the answer marked, or the news that there is none.
const showAnswer = (card, context, found) => {
  const characters = Array.from(context);
  card.append(make("p", "verdict", found.answer || "No answer in this text"));
  if (found.answer) {
    const mark = make("mark", "", slice(characters, found.start, found.end));
    card.append(make("p", "marked", slice(characters, 0, found.start), mark, slice(characters, found.end)));
  }
  const list = make("ol", "scores");
  for (const [name, score] of [["this answer", found.score], ["no answer", found.no_answer_score]]) {
    if (!Number.isFinite(score)) continue;
    list.append(make("li", "", make("span", "", name), make("span", "number", showScore(score)), makeBar(score)));
  }
  card.append(list);
};

// Times in the service as one bar, cut by phase, and as numbers; `rescale` makes all bars of a panel comparable. The
// round trip is a number alone: browser and network take most of it, and would hide what tells the models apart.
const showPhases = (card, phases) => {
  const bar = make("div", "stack");
  bar.setAttribute("aria-hidden", "true");
  bar.dataset.milliseconds = phases.inside;
  const numbers = make("dl", "phases");
  for (const phase of PHASES) {
    const part = make("div", phase);
    part.style.flexGrow = phases[phase];
    bar.append(part);
    numbers.append(make("div", "", make("dt", phase, phase), make("dd", "number", milliseconds(phases[phase]))));
  }
  for (const [name, value] of [["in the service", phases.inside], ["round trip from here", phases.roundTrip]]) {
    numbers.append(make("div", "", make("dt", "", name), make("dd", "number", milliseconds(value))));
  }
  card.append(make("div", "times", make("div", "track", bar), numbers));
};

const rescale = (cards) => {
  const bars = [...cards.querySelectorAll(".stack")];
  const longest = Math.max(Number.MIN_VALUE, ...bars.map((bar) => Number(bar.dataset.milliseconds)));
  for (const bar of bars) bar.style.inlineSize = `${(100 * Number(bar.dataset.milliseconds)) / longest}%`;
};
