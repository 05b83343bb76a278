// Uses the page as a person would, in Chromium, and prints as JSON what was then to be seen.
//
//     node drive.mjs ADDRESS CHROMIUM SCENARIO [FOLDER-FOR-PICTURES]
//
// It judges nothing: tests/test_page.py does. Waits are for things to appear, never for time to pass.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const [address, executablePath, scenario, pictures] = process.argv.slice(2);
const DESKTOP = { width: 1280, height: 900 };
const PHONE = { width: 320, height: 640 };
const seen = { errors: [], refused: [], elsewhere: [] };

const openPage = async (browser, options = {}) => {
  const context = await browser.newContext({ viewport: DESKTOP, acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("console", (message) => {
    const known = message.text().startsWith("Failed to load resource");  // is in `refused`, with its path
    if (["error", "warning"].includes(message.type()) && !known) seen.errors.push(message.text());
  });
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (origin !== address && !["data:", "blob:"].includes(protocol)) seen.elsewhere.push(request.url());
  });
  page.on("response", (response) => {
    const path = new URL(response.url()).pathname;
    if (response.status() >= 400) seen.refused.push([path, response.status()]);
  });
  return page;
};

const ask = async (panel) => {
  await panel.getByRole("button", { name: "Ask" }).click();
  await settle(panel);
};

// The button is disabled within the very event that asks, and enabled when all is shown.
const settle = (panel) => panel.locator(".go button:enabled", { hasText: "Ask" }).waitFor();

const panelOf = async (page, id) => {
  await page.locator(`#tab-${id}`).click();
  return page.locator(`#${id}`);
};

const cardsOf = (panel) => panel.locator("article").evaluateAll((cards) => cards.map((card) => ({
  name: card.querySelector("h2").firstChild.textContent,
  verdict: card.querySelector(".verdict")?.textContent,
  scores: [...card.querySelectorAll(".scores li")].map((row) => [...row.querySelectorAll(":scope > span")]
    .map((cell) => cell.textContent)),
  notes: [...card.querySelectorAll(".note")].map((note) => note.textContent),
  marked: [...card.querySelectorAll(".marked mark")].map((mark) => mark.textContent),
  phases: [...card.querySelectorAll(".phases dt")].map((name) => name.textContent),
  fault: card.querySelector(".fault")?.textContent,
})));

const tableOf = (panel, name) => panel.getByRole("region", { name }).locator("tr").evaluateAll(
  (rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)),
);

const judge = async (page) => {
  const found = [];
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.evaluate(`${AXE}; undefined`);
    const { violations } = await page.evaluate(() => window.axe.run(document));
    found.push(...violations.map(({ id, nodes }) => `${colorScheme} ${id}: ${nodes.map(({ html }) => html)}`));
  }
  return found;
};

const widthOf = (page) => page.evaluate(() => document.documentElement.scrollWidth);

const picture = async (page, name, colorScheme = "light") => {
  if (!pictures) return;
  await page.emulateMedia({ colorScheme });
  await page.screenshot({ path: `${pictures}/${name}.png`, fullPage: true });
};

// Answers `path` in the service's place: `answer` gives the body for a request, and the status unless it is 200.
const fulfil = (page, path, answer, headers = {}) => page.route(`${address}/${path}`, (route) => {
  const { status = 200, body } = answer(route.request());
  return route.fulfill({ status, headers, contentType: "application/json", body: JSON.stringify(body) });
});

const TIMES = { "x-tokenization-time": "0.12", "x-queue-time": "0.03", "x-inference-time": "1.5" };

// Models of kinds that have no tiny bundle to serve here, answering as docs/serve.md says they do.
const standIn = async (page) => {
  const model = (id, kind) => ({ id, kind, labels: [], embedding_size: 0, max_tokens: 128 });
  const models = [
    ...["teacher/float32", "student/int8", "cascade"].map((id) => model(id, "classifier")),
    model("names/int8", "tagger"),
    model("squad/int8", "reader"),
  ];
  const info = { default: "student/int8", limits: { texts: 128 }, models };
  const entry = (request, [text]) => {
    const { model: id } = request.postDataJSON();
    const outside = text.includes("zebra");
    const deputy = id === "cascade" ? "teacher/float32" : id;
    const label = id === "student/int8" && text.includes("unsure") ? "travel" : "flight";
    const scores = [{ label, score: 0.62 }, { label: "weather", score: 0.2 }, { label: "music", score: 0.1 }];
    return {
      model: id, label, score: 0.62, scores, answered_by: deputy, confidence: 0.62, escalated: deputy !== id,
      out_of_domain: { score: outside ? 41.5 : 3.25, flag: id === "teacher/float32" ? null : outside },
    };
  };
  const spans = [
    { label: "PER", score: 0.98, start: 3, end: 6, text: "Ada" },
    { label: "LOC", score: 0.8, start: 10, end: 16, text: "London" },
  ];
  const found = { answer: "1833", score: 0.9, start: 5, end: 9, no_answer_score: 0.02 };
  const classified = (request) => ({ body: request.postDataJSON().inputs.map((each) => entry(request, each)) });
  await fulfil(page, "info", () => ({ body: info }));
  await fulfil(page, "classify", classified, TIMES);
  await fulfil(page, "tag", () => ({ body: spans }), TIMES);
  await fulfil(page, "answer", () => ({ body: found }), TIMES);
};

const SCENARIOS = {
  async texts(browser) {
    const page = await openPage(browser);
    await page.goto(`${address}/`);
    const tabs = await page.getByRole("tab").allTextContents();
    const one = await panelOf(page, "classify");
    await one.getByLabel("Text", { exact: true }).fill("wake me at seven");
    await page.keyboard.press("Control+Enter");
    await settle(one);
    const cards = await cardsOf(one);
    const status = await one.locator(".status").textContent();
    const axe = await judge(page);
    await picture(page, "tiny");
    await one.getByLabel("Text", { exact: true }).fill("x".repeat(50_001));
    await ask(one);
    return { tabs, cards, status, axe, tooLong: (await cardsOf(one))[0].fault };
  },

  async batch(browser) {
    const page = await openPage(browser);
    await page.goto(`${address}/#batch`);
    const panel = page.locator("#batch");
    await panel.getByLabel("Texts, one a line").fill("wake me\n\n=will it rain\r\nplay some \"jazz\", me");
    await ask(panel);
    const [download] = await Promise.all([page.waitForEvent("download"), panel.getByRole("link").click()]);
    const csv = await readFile(await download.path(), "utf8");
    const [answers, models] = [await tableOf(panel, "Answers"), await tableOf(panel, "Models")];
    const axe = await judge(page);
    const only = panel.getByText("that differ");
    if (await only.count()) await only.click();
    const shown = await panel.getByRole("region", { name: "Answers" }).locator("tbody tr:visible").count();
    return { answers, models, csv, axe, shown };
  },

  async vectors(browser) {
    const page = await openPage(browser);
    await page.goto(`${address}/`);
    const compare = await panelOf(page, "compare");
    await compare.getByLabel("One text").fill("wake me");
    await compare.getByLabel("The other").fill("will it rain");
    await ask(compare);
    const cosines = await cardsOf(compare);
    const rank = await panelOf(page, "rank");
    await rank.getByLabel("Query").fill("wake me");
    await rank.getByLabel("Candidates").fill("will it rain\nwake me at seven");
    await ask(rank);
    return { cosines, ranks: await cardsOf(rank), axe: await judge(page) };
  },

  async phone(browser) {
    const page = await openPage(browser, { viewport: PHONE, hasTouch: true, isMobile: true });
    await page.goto(`${address}/`);
    const widths = {};
    for (const id of ["classify", "batch", "compare", "rank"]) {
      const panel = await panelOf(page, id);
      if (id === "batch") await panel.locator("textarea").fill("wake me\nsome jazz\nwill it rain tomorrow");
      await ask(panel);
      widths[id] = await widthOf(page);
      await picture(page, `phone-${id}`);
    }
    await page.goto(`${address}/docs`);
    await page.locator("details").first().waitFor();
    await page.locator("summary").first().click();
    return { widths: { ...widths, docs: await widthOf(page) } };
  },

  async keyboard(browser) {
    const page = await openPage(browser);
    await page.goto(`${address}/`);
    await page.locator("#tab-classify").focus();
    await page.keyboard.press("ArrowRight");
    const right = await page.evaluate(() => document.activeElement.textContent);
    await page.keyboard.press("ArrowLeft");
    await page.keyboard.press("Tab");
    const field = await page.evaluate(() => document.activeElement.id);
    await page.keyboard.press("Tab");
    await page.keyboard.press("Space");
    const panel = page.locator("#classify");
    for (let steps = 0; steps < 20; steps += 1) {
      await page.keyboard.press("Tab");
      if (await page.evaluate(() => document.activeElement.textContent === "Ask")) break;
    }
    await page.keyboard.press("Enter");
    await settle(panel);
    return { right, field, cards: (await cardsOf(panel)).map(({ name }) => name) };
  },

  async kinds(browser) {
    const page = await openPage(browser, { viewport: { width: 1100, height: 900 } });
    await standIn(page);
    await page.goto(`${address}/`);
    const one = await panelOf(page, "classify");
    await one.getByLabel("Text", { exact: true }).fill("unsure of this zebra");
    await ask(one);
    const found = { labels: await cardsOf(one), axe: await judge(page) };
    found.status = await one.locator(".status").textContent();
    await picture(page, "kinds", "dark");
    const tag = await panelOf(page, "tag");
    await tag.getByLabel("Text").fill("😀: Ada in London");
    await ask(tag);
    found.tags = await cardsOf(tag);
    found.axe.push(...await judge(page));
    await picture(page, "tags", "dark");
    const answer = await panelOf(page, "answer");
    await answer.getByLabel("Where").fill("😀 in 1833");
    await ask(answer);
    found.axe.push(...await judge(page));
    await picture(page, "answer");
    return { ...found, answers: await cardsOf(answer) };
  },

  async key(browser) {
    const page = await openPage(browser);
    await standIn(page);
    const refusal401 = { error: "send a key: <b>Authorization</b>", error_type: "Unauthorized" };
    const models = [{ id: "student/int8", kind: "classifier", labels: [], embedding_size: 0 }];
    const info = { default: "student/int8", limits: { texts: 128 }, models };
    const guarded = (request) => request.headers().authorization === "Bearer s3cret";
    await fulfil(page, "info", (request) => (guarded(request) ? { body: info } : { status: 401, body: refusal401 }));
    await page.goto(`${address}/`);
    await page.getByLabel("API key").fill("wrong");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").locator(".fault").waitFor();
    const refusal = await page.getByRole("alert").textContent();
    const axe = await judge(page);
    await page.getByLabel("API key").fill("s3cret");
    await page.keyboard.press("Enter");
    await page.getByRole("tab").first().waitFor();
    const tabs = await page.getByRole("tab").count();
    return { refusal, axe, tabs, field: await page.getByLabel("API key").isVisible() };
  },

  // The picture in docs/images, of a service of real models; asked twice, since the first answer pays for the connection.
  async portrait(browser) {
    const page = await openPage(browser, { viewport: { width: 1240, height: 700 } });
    await page.goto(`${address}/`);
    const panel = await panelOf(page, "classify");
    await ask(panel);
    await ask(panel);
    await page.evaluate(() => document.activeElement.blur());
    await picture(page, "page");
    return { cards: await cardsOf(panel) };
  },

  async docs(browser) {
    const page = await openPage(browser);
    await page.goto(`${address}/docs`);
    await page.locator("details").first().waitFor();
    const routes = await page.locator("summary").evaluateAll((rows) => rows.map((row) => {
      const [method, path] = [".method", "code"].map((part) => row.querySelector(part).textContent);
      return `${method} ${path}`;
    }));
    for (const summary of await page.locator("summary").all()) await summary.click();
    const axe = await judge(page);
    await picture(page, "docs");
    await page.getByLabel("Find").fill("rerank");
    const left = await page.locator("summary:visible code:first-of-type").allTextContents();
    await page.goto("about:blank");
    await page.goto(`${address}/docs#post-embed`);
    await page.locator("#post-embed[open]").waitFor();
    return { routes, axe, left };
  },
};

// Root in a container has no sandbox to give, and /dev/shm may be small there.
const args = ["--no-sandbox", "--disable-dev-shm-usage"];
const browser = await chromium.launch({ executablePath, args, timeout: 60_000 });
try {
  console.log(JSON.stringify({ ...await SCENARIOS[scenario](browser), seen }));
} finally {
  await browser.close();
}
