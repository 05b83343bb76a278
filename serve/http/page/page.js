
"use strict";
// Puts the page together: a tab for each thing that some model of this service can do.

let info;

const chosenIn = (panel) => [...panel.querySelectorAll(".models input:checked")].map(({ value }) => value);

const makeChoice = (model, only) => {
  const box = make("input");
  box.type = "checkbox";
  box.value = model.id;
  box.checked = true;
  box.disabled = only;
  return make("label", "choice", box, model.id);
};

// Models, button, and the places where answers go: the same below every form.
const furnish = (name) => {
  const panel = at(name);
  const models = info.models.filter(MODES[name].suits);
  const choices = models.map((model) => makeChoice(model, models.length === 1));
  const stop = make("button", "quiet", "Stop");
  stop.type = "button";
  stop.hidden = true;
  panel.querySelector(".go").replaceChildren(
    make("fieldset", "models", make("legend", "", "Models"), ...choices), make("button", "", "Ask"), stop,
  );
  const status = make("p", "status soft");
  status.setAttribute("role", "status");
  panel.querySelectorAll(".status, .output").forEach((old) => old.remove());
  panel.append(status, make("div", name === "batch" ? "output" : "output cards"));
};

// One after the other: at once, the models would share the cores and each would look slow.
const askEach = async (name, panel, fields, ids, tell) => {
  const output = panel.querySelector(".output");
  const tints = makeTints();
  const said = [];
  output.replaceChildren();
  for (const id of ids) {
    tell(`Asking ${id}`);
    const card = makeCard({ id, isDefault: id === info.default });
    output.append(card);
    try {
      const result = await MODES[name].ask(fields, id, tints);
      result.show(card);
      showPhases(card, result.phases);
      rescale(output);
      if (result.said !== undefined) said.push({ model: id, answer: result.said });
    } catch (error) {
      card.append(makeFault(error));
    }
  }
  const missing = output.querySelectorAll(".fault").length;
  return summarize(said) || `${ids.length - missing} of ${ids.length} model${ids.length === 1 ? "" : "s"} answered.`;
};

const askBatch = async (panel, fields, ids, tell, signal) => {
  const output = panel.querySelector(".output");
  const texts = linesOf(fields.texts);
  const columns = [];
  const faults = [];
  output.replaceChildren();
  for (const id of ids) {
    try {
      columns.push(await classifyAll(texts, id, info.limits, signal, tell));
    } catch (error) {
      if (error.name === "AbortError") return "Stopped.";
      faults.push(make("p", "fault", `${id}: ${error.message}`));
    }
  }
  if (columns.length) showBatch(output, texts, columns);
  output.prepend(...faults);
  const differing = columns.length ? texts.filter((_, place) => !isUnanimous(columns, place)).length : 0;
  return `${texts.length} texts, ${columns.length} models, ${differing} answered differently.`;
};

const ask = async (name) => {
  const panel = at(name);
  const [button, stop] = panel.querySelectorAll(".go button");
  const status = panel.querySelector(".status");
  const tell = (words) => { status.textContent = words; };
  const fields = Object.fromEntries(new FormData(panel.querySelector("form")));
  const ids = chosenIn(panel);
  if (!ids.length) return tell("Choose a model first.");
  const controller = new AbortController();
  stop.onclick = () => controller.abort();
  stop.hidden = name !== "batch";
  button.disabled = true;
  showTrouble();
  try {
    if (name === "batch") tell(await askBatch(panel, fields, ids, tell, controller.signal));
    else tell(await askEach(name, panel, fields, ids, tell));
  } finally {
    button.disabled = false;
    stop.hidden = true;
  }
};

const open = (name, names) => {
  for (const each of names) {
    at(each).hidden = each !== name;
    at(`tab-${each}`).setAttribute("aria-selected", String(each === name));
    at(`tab-${each}`).tabIndex = each === name ? 0 : -1;
  }
  at(`tab-${name}`).scrollIntoView({ block: "nearest", inline: "nearest" });
};

const makeTab = (name, names) => {
  const tab = make("button", "tab", MODES[name].title);
  tab.id = `tab-${name}`;
  tab.type = "button";
  tab.setAttribute("role", "tab");
  tab.setAttribute("aria-controls", name);
  tab.addEventListener("click", () => {
    open(name, names);
    history.replaceState(null, "", `#${name}`);
  });
  at(name).setAttribute("role", "tabpanel");
  at(name).setAttribute("aria-labelledby", tab.id);
  return tab;
};

const moveAmongTabs = (event, names) => {
  const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
  if (!(event.key in steps)) return;
  event.preventDefault();
  const here = names.findIndex((name) => event.target.id === `tab-${name}`);
  const last = names.length - 1;
  const there = { Home: 0, End: last }[event.key] ?? (here + steps[event.key] + names.length) % names.length;
  at(`tab-${names[there]}`).click();
  at(`tab-${names[there]}`).focus();
};

const begin = async () => {
  try {
    ({ answer: info } = await call("info"));
  } catch (error) {
    if (error.status !== 401 || key) showTrouble(error);
    if (error.status === 401) at("key-text").focus();
    return;
  }
  showTrouble();
  const names = Object.keys(MODES).filter((name) => info.models.some(MODES[name].suits));
  names.forEach(furnish);
  at("tabs").replaceChildren(...names.map((name) => makeTab(name, names)));
  at("tabs").onkeydown = (event) => moveAmongTabs(event, names);
  at("tabs").hidden = false;
  const wanted = location.hash.slice(1);
  if (names.length) open(names.includes(wanted) ? wanted : names[0], names);
  else showTrouble(new Error("No model of this service answers anything this page can ask."));
  const count = `${info.models.length} model${info.models.length === 1 ? "" : "s"}`;
  at("about").textContent = `${count}, asked the same; ${info.default} answers when none is named.`;
};

for (const name of Object.keys(MODES)) {
  const form = at(name).querySelector("form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(name);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}
takeKey(begin);
begin();
