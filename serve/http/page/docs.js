
"use strict";
// The OpenAPI document as a page. Its descriptions mark `code` as Markdown does; nothing else of Markdown is read.

const makeWords = (tag, className, text) => {
  const parts = text.split("`");
  if (parts.length % 2 === 0) return make(tag, className, text);  // a mark without its other half
  return make(tag, className, ...parts.map((part, place) => (place % 2 ? make("code", "", part) : part)));
};

const nameOf = (schema) => schema.$ref.split("/").pop();

const showType = (schema) => {
  if (schema.$ref) return nameOf(schema);
  const union = schema.anyOf || schema.oneOf;
  if (union) return [...new Set(union.map(showType))].join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.type === "array") return `list of ${showType(schema.items || {})}`;
  return schema.type || "anything";
};

// Every object a schema leads to, by name, itself first.
const objectsOf = (schema, schemas, found = new Map()) => {
  if (schema.$ref) {
    const name = nameOf(schema);
    if (found.has(name)) return found;
    if (schemas[name].properties) found.set(name, schemas[name]);
    objectsOf(schemas[name], schemas, found);
  }
  for (const inner of [...(schema.anyOf || schema.oneOf || []), ...Object.values(schema.properties || {})]) {
    objectsOf(inner, schemas, found);
  }
  if (schema.items) objectsOf(schema.items, schemas, found);
  return found;
};

// Whether a field of a body may be left out; an answer has all of its fields.
const sayNeed = (name, field, object, isBody) => {
  if (!isBody) return "";
  return (object.required || []).includes(name) ? ", required" : `, default ${JSON.stringify(field.default)}`;
};

// What must be there comes first.
const showFields = (object, isBody) => {
  const isRequired = ([name]) => Number((object.required || []).includes(name));
  const list = make("dl", "fields");
  const fields = Object.entries(object.properties).sort((one, other) => isRequired(other) - isRequired(one));
  for (const [name, field] of fields) {
    const kind = make("dd", "kind", `${showType(field)}${sayNeed(name, field, object, isBody)}`);
    const row = make("div", "", make("dt", "", make("code", "", name)), kind);
    if (field.description) row.append(makeWords("dd", "words", field.description));
    list.append(row);
  }
  return list;
};

const showContent = (inside, title, content, schemas) => {
  const isBody = title === "Body";
  for (const [mediaType, { schema, example, examples }] of Object.entries(content || {})) {
    inside.append(make("h3", "", title), make("p", "", `${mediaType}: ${showType(schema)}`));
    for (const [name, object] of objectsOf(schema, schemas)) {
      inside.append(make("h4", "", name), showFields(object, isBody));
    }
    const shown = examples ? Object.values(examples).map((each) => each.value) : [example];
    for (const each of shown.filter((value) => value !== undefined)) {
      inside.append(make("pre", "", JSON.stringify(each, null, 1)));
    }
  }
};

// As a shell takes it: a quote in the body closes the quotes, comes escaped, and opens them again.
const writeCurl = (path, method, route) => {
  const address = new URL(path.slice(1), document.baseURI.split("#")[0]);
  const [content] = Object.values(route.requestBody?.content || {});
  const example = Object.values(content?.examples || {})[0]?.value ?? content?.example;
  const authorization = route.security ? " -H \"authorization: Bearer $UNDERSTUDY_KEY\"" : "";
  const verb = method === "get" || example !== undefined ? "" : ` -X ${method.toUpperCase()}`;
  if (example === undefined) return `curl -s${verb} ${address}${authorization}`;
  const body = JSON.stringify(example).replaceAll("'", "'\\''");
  return `curl -s ${address}${authorization} -H 'content-type: application/json' -d '${body}'`;
};

const makeCopy = (text) => {
  const button = make("button", "quiet copy", "Copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  });
  return button;
};

const showCommand = (inside, text) => {
  const head = make("div", "row", make("h3", "", "From a shell"));
  if (navigator.clipboard) head.append(makeCopy(text));  // only where the address is safe or this machine's own
  inside.append(head, make("pre", "", text));
};

const showHeaders = (inside, title, headers) => {
  if (!headers.length) return;
  const list = make("dl");
  for (const [name, { description }] of headers) {
    list.append(make("dt", "", make("code", "", name)), makeWords("dd", "", description || ""));
  }
  inside.append(make("h3", "", title), list);
};

const showFaults = (inside, responses) => {
  const list = make("dl", "faults");
  for (const [status, { description }] of Object.entries(responses)) {
    if (status >= 400) list.append(make("dt", "", make("code", "", status)), makeWords("dd", "", description));
  }
  if (list.children.length) inside.append(make("h3", "", "Faults"), list);
};

const showRoute = (path, method, route, schemas) => {
  const inside = make("div", "inside");
  if (route.security) inside.append(make("p", "", "Needs a key, as Authorization: Bearer."));
  showCommand(inside, writeCurl(path, method, route));
  if (route.requestBody) showContent(inside, "Body", route.requestBody.content, schemas);
  showHeaders(inside, "Headers it reads", (route.parameters || []).map((each) => [each.name, each]));
  const done = route.responses["200"];
  showContent(inside, "Answer", done?.content, schemas);
  showHeaders(inside, "Headers of the answer", Object.entries(done?.headers || {}));
  showFaults(inside, route.responses);
  const name = [make("span", "method", method.toUpperCase()), make("code", "", path)];
  const card = make("details", "", make("summary", "", ...name, makeWords("span", "soft", route.summary)), inside);
  card.id = `${method}-${path.replace(/[^a-z0-9]+/gi, "-").replace(/^-|-$/g, "") || "root"}`;
  return card;
};

const FAMILIES = [
  ["Ask a model", (path, method) => method === "post" && !path.startsWith("/v1/") && !path.startsWith("/admin/")],
  ["Ask as OpenAI's clients do", (path) => path.startsWith("/v1/")],
  ["Ask about the service", (path, method) => method === "get"],
  ["Run the service", () => true],
];

const showAll = ({ paths, components }) => {
  const families = new Map(FAMILIES.map(([title]) => [title, make("section", "", make("h2", "", title))]));
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, route] of Object.entries(methods)) {
      const [title] = FAMILIES.find(([, suits]) => suits(path, method));
      families.get(title).append(showRoute(path, method, route, components.schemas));
    }
  }
  at("routes").replaceChildren(...[...families.values()].filter((family) => family.children.length > 1));
};

const find = () => {
  const words = at("find").value.trim().toLowerCase();
  const cards = [...document.querySelectorAll("details")];
  for (const card of cards) card.hidden = !card.textContent.toLowerCase().includes(words);
  for (const family of document.querySelectorAll("section")) {
    family.hidden = !family.querySelector("details:not([hidden])");
  }
  at("found").textContent = words ? `${cards.filter((card) => !card.hidden).length} of ${cards.length} routes` : "";
};

const openNamed = () => {
  const card = at(location.hash.slice(1));
  if (card?.tagName !== "DETAILS") return;
  card.open = true;
  card.scrollIntoView();
};

const begin = async () => {
  try {
    const { answer } = await call("openapi.json");
    at("about").textContent = `Version ${answer.info.version}. ${answer.info.description}`;
    showTrouble();
    showAll(answer);
    at("tools").hidden = false;
    openNamed();
  } catch (error) {
    if (error.status !== 401 || key) showTrouble(error);
  }
};

at("find").addEventListener("input", find);
addEventListener("hashchange", openNamed);
takeKey(begin);
begin();
