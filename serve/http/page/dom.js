
"use strict";
// Everything shown goes in as text, never as markup: labels, texts and errors are written by others.

const at = (id) => document.getElementById(id);

// An element with its children; a string among them becomes text.
const make = (tag, className, ...children) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
};

const makeFault = (error) => make("p", "fault", error.message);

const showTrouble = (error) => at("trouble").replaceChildren(...(error ? [makeFault(error)] : []));

const milliseconds = (value) => `${value.toFixed(value < 10 ? 2 : 1)} ms`;

// A share of one in percent; the number itself where it is none, as of a regression.
const showScore = (score) => (score >= 0 && score <= 1 ? `${(100 * score).toFixed(1)} %` : score.toFixed(3));

// A bar from nothing to `share` of its row, for the eye alone: the number stands beside it.
const makeBar = (share, className = "bar") => {
  const bar = make("div", className);
  bar.setAttribute("aria-hidden", "true");
  bar.style.inlineSize = `${100 * Math.min(1, Math.max(0.004, share))}%`;
  return make("div", "track", bar);
};

// Offsets of the service count characters, those of JavaScript's strings halves of surrogate pairs.
const slice = (characters, start, end) => characters.slice(start, end).join("");
