// Opens a report as a file in Chromium, at a desk, on a phone and on paper, and prints as JSON what was then to be seen.
//
//     node report.mjs PAGE.html CHROMIUM [FOLDER-FOR-PICTURES]
//
// It judges nothing: tests/test_report_page.py does.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const [file, executablePath, pictures] = process.argv.slice(2);
const address = pathToFileURL(file).href;
const SCREENS = { phone: { width: 360, height: 740 }, desktop: { width: 1280, height: 900 } };
const seen = { errors: [], requests: [], axe: [], widths: {}, cut: {} };

// What lies beyond the right edge and is not inside a part that scrolls by itself, as nothing does on paper.
const cutOff = (scrolling) => {
  const edge = document.documentElement.clientWidth + 1;
  return [...document.body.querySelectorAll("*")]
    .filter((element) => element.getBoundingClientRect().right > edge && !element.closest(scrolling))
    .map((element) => `${element.tagName} ${element.textContent.trim().slice(0, 60)}`);
};

const look = async (browser, name, colorScheme, scripts) => {
  const context = await browser.newContext({ viewport: SCREENS[name], colorScheme, javaScriptEnabled: scripts });
  const page = await context.newPage();
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) seen.errors.push(message.text());
  });
  page.on("request", (request) => {
    if (request.url() !== address) seen.requests.push(request.url());
  });
  await page.goto(address);
  if (pictures) await page.screenshot({ path: `${pictures}/${name}-${colorScheme}.png`, fullPage: true });
  return page;
};

const judge = async (page, name) => {
  await page.evaluate(`${AXE}; undefined`);
  const { violations } = await page.evaluate(() => window.axe.run(document));
  seen.axe.push(...violations.map(({ id, impact, nodes }) => `${name} ${impact} ${id}: ${nodes[0].html}`));
};

// Root in a container has no sandbox to give, and /dev/shm may be small there.
const args = ["--no-sandbox", "--disable-dev-shm-usage"];
const browser = await chromium.launch({ executablePath, args, timeout: 60_000 });
try {
  for (const name of Object.keys(SCREENS)) {
    for (const colorScheme of ["light", "dark"]) {
      const page = await look(browser, name, colorScheme, true);
      seen.widths[name] = await page.evaluate(() => document.documentElement.scrollWidth);
      seen.cut[name] = await page.evaluate(cutOff, ".scroll, pre, svg");
      seen.active = await page.evaluate(() => document.querySelectorAll("script, iframe, object").length);
      seen.headings = await page.locator("h1, h2, h3, h4").evaluateAll((all) => all.map((each) => Number(each.tagName[1])));
      await judge(page, `${name} ${colorScheme}`);
      await page.close();
    }
  }
  const paper = await look(browser, "desktop", "light", true);
  await paper.setViewportSize({ width: 718, height: 1000 });  // A4 less its margins, at 96 pixels an inch
  await paper.emulateMedia({ media: "print" });
  seen.cut.paper = await paper.evaluate(cutOff, "svg");
  seen.folded = await paper.locator("details").evaluateAll(
    (all) => all.filter((each) => each.getBoundingClientRect().height < 40).length,
  );
  if (pictures) {
    await paper.screenshot({ path: `${pictures}/paper.png`, fullPage: true });
    await paper.pdf({ path: `${pictures}/paper.pdf`, format: "A4", margin: { top: "1cm", bottom: "1cm", left: "1cm", right: "1cm" } });
  }
  await paper.close();
} finally {
  await browser.close();
}
console.log(JSON.stringify(seen));
