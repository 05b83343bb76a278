"""The report and the comparison in Chromium: what a person sees at a desk, on a phone and on paper.

They need Node 20, `npm ci --prefix tests/page --ignore-scripts`, and a Chromium on the path or named by
`UNDERSTUDY_CHROMIUM`; without them they are skipped. `UNDERSTUDY_PICTURES=DIR` keeps pictures of what was seen.
"""

import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from report_example import make_full_report, make_hostile_texts, make_report
from task_reports import make_task_report

from pipeline.comparison import compare_reports
from pipeline.comparison_page import render_comparison_page
from pipeline.page import render_page

DRIVER = Path(__file__).parent / "page"
CHROMIUM = os.environ.get("UNDERSTUDY_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def make_pages():
    full = make_full_report()
    other = make_report().model_copy(
        update={
            "machine": {"processor": "Other", "usable_cores": 64},
            "verdict": "fail",
            "recipe": "a-recipe-of-" + "very" * 30 + "-long-name",
        }
    )
    reports = {"out/demo/report": full, "/home/someone/" + "folder/" * 20 + "report": other}
    return {
        "report": render_page(full, make_hostile_texts()),
        "comparison": render_comparison_page(compare_reports(reports)),
        "tags": render_page(make_task_report("token-classification"), make_hostile_texts()),
        "answers": render_page(make_task_report("question-answering"), make_hostile_texts()),
    }


@pytest.fixture(scope="module")
def pages():
    return make_pages()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")
@pytest.mark.skipif(shutil.which("node") is None, reason="no Node on the path")
@pytest.mark.skipif(
    not (DRIVER / "node_modules").is_dir(), reason="needs `npm ci --prefix tests/page --ignore-scripts`"
)
@pytest.mark.parametrize("name", ["report", "comparison", "tags", "answers"])
def test_page_as_a_person_sees_it(name, pages, tmp_path):
    """Oracle: the browser. No error, no request beside the file itself, nothing wider than the screen or the sheet,
    no finding of axe in light or dark, headings that skip no level, and nothing folded away on paper."""
    page = tmp_path / f"{name}.html"
    page.write_text(pages[name], encoding="utf-8")
    command = ["node", str(DRIVER / "report.mjs"), str(page), str(CHROMIUM)]
    if kept := os.environ.get("UNDERSTUDY_PICTURES"):
        folder = Path(kept) / name
        folder.mkdir(parents=True, exist_ok=True)
        command.append(str(folder))
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["errors"] == []
    assert seen["requests"] == []
    assert seen["widths"] == {"phone": 360, "desktop": 1280}
    assert seen["cut"] == {"phone": [], "desktop": [], "paper": []}
    assert seen["axe"] == []
    assert seen["active"] == 0
    assert seen["folded"] == 0
    levels = seen["headings"]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
