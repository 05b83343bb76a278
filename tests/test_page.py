"""The pages at `/` and `/docs`: what they may do, and, in Chromium, what a person sees.

The slow tests need Node 20, `npm ci --prefix tests/page --ignore-scripts`, and a Chromium on the path or named by
`UNDERSTUDY_CHROMIUM`; without them they are skipped.
"""

import base64
import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from serve_bundles import make_bundle
from serve_client import serving

from serve.http.pages import FOLDER, show_page

DRIVER = Path(__file__).parent / "page"
CHROMIUM = os.environ.get("UNDERSTUDY_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
MODELS = ["teacher/float32", "teacher/int8", "student/float32", "student/int8"]
PHASES = ["tokenization", "queue", "inference", "in the service", "round trip from here"]
OLDER = [["/classify", 404]]
"""What the page may be refused: a service without `/classify` is asked `/predict`."""

Seen = dict[str, Any]


class Reader(HTMLParser):
    """What a page holds that a policy or a browser has to allow."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.attributes: list[tuple[str, str | None]] = []
        self.addresses: list[str] = []
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self._open = tag
        self.attributes += attrs
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "action"}]

        if tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, tag):  # noqa: ARG002 - the parser calls it so
        self._open = ""

    def handle_data(self, data):
        if self._open in self.inside:
            self.inside[self._open][-1] += data


@pytest.mark.parametrize("name", ["page.html", "docs.html"])
def test_policy_allows_what_the_page_holds_and_nothing_else(name):
    """Oracle: the hashes of CSP level 3, of what a parser of HTML finds inside the elements."""
    answer = show_page(name)
    rules = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    page = Reader(bytes(answer.body).decode())
    for tag, contents in page.inside.items():
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in contents]
        assert digests
        assert rules.pop(f"{tag}-src") == " ".join(f"'sha256-{digest}'" for digest in digests)
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert not [found for found, _ in page.attributes if found == "style" or found.startswith("on")]
    assert set(page.addresses) <= {"data:,", "docs", "metrics", ".", "openapi.json"}


@pytest.mark.parametrize("name", ["page.html", "docs.html"])
def test_labels_name_fields_that_are_there(name):
    """Oracle: the ids of the page, each given once."""
    page = Reader(bytes(show_page(name).body).decode())
    ids = [value for found, value in page.attributes if found == "id"]
    assert len(ids) == len(set(ids))
    assert {value for found, value in page.attributes if found in {"for", "aria-labelledby"}} <= set(ids)


def test_nothing_makes_markup_of_text():
    """Oracle: the names in the DOM that parse text as HTML or run it."""
    for file in FOLDER.iterdir():
        text = file.read_text(encoding="utf-8")
        for parsing in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "://"):
            assert parsing not in text, file.name


def test_every_file_is_on_a_page():
    """Oracle: the folder; a file that no page names would still be shipped."""
    pages = "".join(bytes(show_page(name).body).decode() for name in ("page.html", "docs.html"))
    for file in FOLDER.iterdir():
        assert file.suffix == ".html" or file.read_text(encoding="utf-8") in pages, file.name


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[str]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium on the path, or its place in UNDERSTUDY_CHROMIUM")
    if shutil.which("node") is None or not (DRIVER / "node_modules").is_dir():
        pytest.skip("needs Node 20 and `npm ci --prefix tests/page --ignore-scripts`")
    folder = tmp_path_factory.mktemp("page")
    tasks = {"teacher": "classification", "student": "classification", "judge": "ranking", "vectors": "embedding"}
    made = [make_bundle(folder / name, name=name, seed=seed, task=tasks[name]) for seed, name in enumerate(tasks)]
    with serving(*map(str, made), "--default", "student/int8", log=folder / "log") as url:
        yield url


@pytest.fixture(scope="module")
def see(service) -> Callable[[str], Seen]:
    """What a scenario of drive.mjs sees; that nothing failed or left this machine is checked for all of them."""

    def see(scenario: str) -> Seen:
        command = ["node", str(DRIVER / "drive.mjs"), service, str(CHROMIUM), scenario]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        found: Seen = json.loads(done.stdout)
        assert found["seen"]["errors"] == []
        assert found["seen"]["elsewhere"] == []
        assert found.get("axe", []) == []
        return found

    return see


def predict(service: str, model: str, text: str) -> list[tuple[str, float]]:
    answer = httpx.post(f"{service}/predict", json={"inputs": text, "model": model}).json()
    return [(item["label"], item["score"]) for item in answer]


@pytest.mark.slow
def test_one_text_is_answered_by_all_models(see, service):
    """Oracle: the same requests without a browser; axe finds no fault in light or dark."""
    found = see("texts")
    assert found["tabs"] == ["One text", "Many texts", "Similarity", "Ranking"]
    assert [card["name"] for card in found["cards"]] == MODELS
    said: dict[str, list[str]] = {}
    for card in found["cards"]:
        expected = predict(service, card["name"], "wake me at seven")
        assert card["verdict"] == expected[0][0]
        assert card["scores"] == [[label, f"{100 * score:.1f} %"] for label, score in expected]
        assert card["phases"] == PHASES
        said.setdefault(card["verdict"], []).append(card["name"])
    groups = [f"{label} ({', '.join(models)})" for label, models in sorted(said.items(), key=lambda one: -len(one[1]))]
    assert found["status"] == f"The models differ: {', '.join(groups)}."
    assert found["tooLong"] == "a text has 50001 characters, at most 50000 are taken"
    assert {status for path, status in found["seen"]["refused"] if path != "/classify"} <= {413}


@pytest.mark.slow
def test_many_texts_become_a_table_and_a_file(see, service):
    """Oracle: the same requests without a browser; agreement counted here; the csv module reads the file."""
    found = see("batch")
    texts = ["wake me", "=will it rain", 'play some "jazz", me']
    answers = {model: [predict(service, model, text)[0] for text in texts] for model in MODELS}
    assert found["answers"][0] == ["line", "text", *MODELS, "together"]
    rows = list(csv.reader(io.StringIO(found["csv"].removeprefix("\ufeff"), newline="")))
    assert [row[0] for row in rows[1:]] == ["wake me", "'=will it rain", 'play some "jazz", me']
    differing = 0
    for place, (row, cells) in enumerate(zip(found["answers"][1:], rows[1:], strict=True)):
        given = [answers[model][place] for model in MODELS]
        same = len({label for label, _ in given}) == 1
        differing += not same
        shown = [f"{label} {100 * score:.1f} %" for label, score in given]
        assert row == [str(place + 1), texts[place], *shown, "agree" if same else "differ"]
        assert cells[1:-1:4] == [label for label, _ in given]
        assert [float(cell) for cell in cells[2:-1:4]] == pytest.approx([score for _, score in given], abs=1e-5)
        assert cells[-1] == str(same).lower()
    for column, (model, row) in enumerate(zip(MODELS, found["models"][1:], strict=True)):
        assert row[0] == model
        agreed = [sum(a[0] == b[0] for a, b in zip(answers[model], answers[each], strict=True)) for each in MODELS]
        expected = ["-" if place == column else f"{100 * count / 3:.1f} %" for place, count in enumerate(agreed)]
        assert row[4:] == expected
    assert found["shown"] == (differing or len(texts))
    assert all(refusal in OLDER for refusal in found["seen"]["refused"])


@pytest.mark.slow
def test_vectors_and_ranks(see, service):
    """Oracle: the same requests without a browser."""
    found = see("vectors")
    body = {"inputs": {"source_sentence": "wake me", "sentences": ["will it rain"]}}
    assert [card["name"] for card in found["cosines"]][:4] == MODELS
    for card in found["cosines"]:
        cosine = httpx.post(f"{service}/similarity", json=body | {"model": card["name"]}).json()[0]
        assert float(card["verdict"]) == pytest.approx(cosine, abs=1e-4)
    candidates = ["will it rain", "wake me at seven"]
    assert {card["name"].split("/")[0] for card in found["ranks"]} == {"judge", "vectors"}
    for card in found["ranks"]:
        body = {"query": "wake me", "texts": candidates, "model": card["name"]}
        ranks = httpx.post(f"{service}/rerank", json=body).json()
        assert [text for text, _ in card["scores"]] == [candidates[rank["index"]] for rank in ranks]
        assert [float(score) for _, score in card["scores"]] == pytest.approx([r["score"] for r in ranks], abs=1e-3)


@pytest.mark.slow
def test_fits_a_phone(see):
    """Oracle: nothing is wider than a screen of 320 pixels."""
    widths = see("phone")["widths"]
    assert widths == dict.fromkeys(("classify", "batch", "compare", "rank", "docs"), 320)


@pytest.mark.slow
def test_works_by_keyboard(see):
    """Oracle: the tab pattern of the ARIA practices guide; a model switched off by its space key is not asked."""
    found = see("keyboard")
    assert (found["right"], found["field"]) == ("Many texts", "classify-text")
    assert found["cards"] == MODELS[1:]


@pytest.mark.slow
def test_other_kinds_of_answer(see):
    """Oracle: answers that drive.mjs gives in the service's place, in the shapes of docs/serve.md.

    Their offsets count characters: the text has one before the spans that JavaScript counts twice.
    """
    found = see("kinds")
    teacher, student, cascade = found["labels"]
    assert (teacher["verdict"], student["verdict"], cascade["verdict"]) == ("flight", "travel", "flight")
    assert (teacher["notes"], student["notes"]) == (["distance from the domain 41.5"], ["⚠ out of domain 41.5"])
    assert cascade["notes"][1] == "passed on, answered by teacher/float32, 62.0 % sure"
    assert found["status"] == "The models differ: flight (teacher/float32, cascade), travel (student/int8)."
    assert found["tags"][0]["marked"] == ["Ada PER", "London LOC"]
    assert found["answers"][0]["marked"] == ["1833"]
    assert found["answers"][0]["scores"] == [["this answer", "90.0 %"], ["no answer", "2.0 %"]]


@pytest.mark.slow
def test_a_key_is_asked_for_and_sent(see):
    """Oracle: a stand-in that answers for one key; its refusal is shown as text, to the letter."""
    found = see("key")
    assert found["refusal"] == "send a key: <b>Authorization</b>"
    assert (found["tabs"], found["field"]) == (2, False)
    assert found["seen"]["refused"] == [["/info", 401], ["/info", 401]]


@pytest.mark.slow
def test_docs_show_every_route(see, service):
    """Oracle: the OpenAPI document; an address with a route's name opens it."""
    found = see("docs")
    paths = httpx.get(f"{service}/openapi.json").json()["paths"]
    expected = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert set(found["routes"]) == expected
    assert len(found["routes"]) == len(expected)
    assert "/rerank" in found["left"]
    assert len(found["left"]) < len(expected)
