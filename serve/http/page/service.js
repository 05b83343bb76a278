
"use strict";
// How the service is asked. The key, once given, lives in this variable and nowhere else.

let key = "";
let classifyIsThere = true;

// What the service said, as it said it; `status` is 0 where nothing was said.
class Fault extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const messageOf = (response, text) => {
  try {
    const { error } = JSON.parse(text);
    const message = typeof error === "string" ? error : error.message;
    if (message) return message;
  } catch {
    // Not ours: of a proxy before the service, say. Told as it came, below.
  }
  return `${response.status} ${response.statusText} ${text.slice(0, 300)}`.trim();
};

// The JSON of an answer with its headers and the time from asking to the last byte; a `Fault` otherwise.
const call = async (path, { body, model, signal } = {}) => {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (model) headers["X-Model"] = model;
  if (body) headers["Content-Type"] = "application/json";
  const begun = performance.now();
  let response;
  let text;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal, cache: "no-store",
    });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault(0, `The service does not answer: ${error.message}`);
  }
  const roundTrip = performance.now() - begun;
  if (response.status === 401) at("key").hidden = false;
  if (!response.ok) throw new Fault(response.status, messageOf(response, text));
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    throw new Fault(response.status, `The answer is no JSON: ${text.slice(0, 300)}`);
  }
  return { answer, headers: response.headers, phases: phasesOf(response.headers, roundTrip) };
};

// Milliseconds of each phase that the service measured, of all three, and from asking to the last byte.
const phasesOf = (headers, roundTrip) => {
  const read = (name) => Number(headers.get(`x-${name}-time`)) || 0;
  const phases = { tokenization: read("tokenization"), queue: read("queue"), inference: read("inference") };
  return { ...phases, inside: phases.tokenization + phases.queue + phases.inference, roundTrip };
};

// One row a text, of `/classify`, or of `/predict` where an older service has no other.
const classify = async (texts, model, topK, signal) => {
  const inputs = texts.map((text) => [text]);
  if (classifyIsThere) {
    try {
      const { answer, phases } = await call("classify", { body: { inputs, model, top_k: topK }, model, signal });
      return { rows: answer, phases };
    } catch (error) {
      if (error.status !== 404) throw error;
    }
  }
  const { answer, headers, phases } = await call("predict", { body: { inputs, model }, model, signal });
  classifyIsThere = false;
  const lists = ["x-answered-by", "x-confidence", "x-out-of-domain-score", "x-out-of-domain"]
    .map((name) => (headers.get(name) || "").split(",").map((each) => each.trim()));
  const rows = answer.map((scores, place) => {
    const [answeredBy, confidence, score, flag] = lists.map((list) => list[place]);
    return {
      model,
      label: scores[0].label,
      score: scores[0].score,
      scores: scores.slice(0, topK),
      answered_by: answeredBy || model,
      confidence: confidence ? Number(confidence) : undefined,
      out_of_domain: score ? { score: Number(score), flag: ["1", "true"].includes(flag) } : null,
    };
  });
  return { rows, phases };
};

// Shows the field when the service wants a key, and does `again` with the one given.
const takeKey = (again) => {
  at("key").addEventListener("submit", (event) => {
    event.preventDefault();
    key = at("key-text").value.trim();
    at("key").hidden = true;
    again();
  });
};
