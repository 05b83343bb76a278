
"use strict";
// What can be asked, as a table: which models suit, and what a card of theirs shows. `batch` shows a table instead.

const isClassifier = ({ kind }) => kind === "classifier";

const MODES = {
  classify: {
    title: "One text",
    suits: isClassifier,
    async ask({ text }, model) {
      const { rows, phases } = await classify([text], model, 5);
      return { phases, said: rows[0].label, show: (card) => showLabels(card, { ...rows[0], model }) };
    },
  },
  batch: { title: "Many texts", suits: isClassifier },
  compare: {
    title: "Similarity",
    suits: ({ embedding_size: size }) => size > 0,
    async ask({ one, other }, model) {
      const body = { inputs: { source_sentence: one, sentences: [other] }, model };
      const { answer, phases } = await call("similarity", { body, model });
      return { phases, show: (card) => showCosine(card, answer[0]) };
    },
  },
  rank: {
    title: "Ranking",
    suits: ({ kind }) => kind === "reranker" || kind === "embedding",
    async ask({ query, texts }, model) {
      const candidates = linesOf(texts);
      const { answer, phases } = await call("rerank", { body: { query, texts: candidates, model }, model });
      return { phases, show: (card) => showRanks(card, answer, candidates) };
    },
  },
  tag: {
    title: "Tags",
    suits: ({ kind }) => kind === "tagger",
    async ask({ text }, model, tints) {
      const { answer, phases } = await call("tag", { body: { inputs: text, model }, model });
      return { phases, show: (card) => showSpans(card, text, Array.isArray(answer[0]) ? answer[0] : answer, tints) };
    },
  },
  answer: {
    title: "Questions",
    suits: ({ kind }) => kind === "reader",
    async ask({ question, context }, model) {
      const { answer, phases } = await call("answer", { body: { inputs: { question, context }, model }, model });
      const found = Array.isArray(answer) ? answer[0] : answer;
      return { phases, said: found.answer, show: (card) => showAnswer(card, context, found) };
    },
  },
};

// One sentence of how far the models agree; empty where they have nothing to agree on.
const summarize = (said) => {
  if (said.length < 2) return "";
  const voices = new Map();
  for (const { model, answer } of said) voices.set(answer, [...(voices.get(answer) || []), model]);
  if (voices.size === 1) return `All ${said.length} models say ${said[0].answer || "nothing"}.`;
  const parts = [...voices].sort(([, one], [, other]) => other.length - one.length)
    .map(([answer, models]) => `${answer || "nothing"} (${models.join(", ")})`);
  return `The models differ: ${parts.join(", ")}.`;
};
