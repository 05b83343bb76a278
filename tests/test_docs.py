"""The documents say what the program does."""

import re
from pathlib import Path

import pytest

from pipeline.reference import render

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_reference_of_recipes_is_the_programs_own():
    """Oracle: what `make docs` writes."""
    assert (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8") == render()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Oracle: the file system."""
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_readme_names_targets_that_exist():
    """Oracle: the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert set(re.findall(r"`?make ([a-z-]+)", text)) - targets - {"and"} == set()
    assert {"demo", "test", "serve", "check", "help"} <= targets


def test_every_objective_and_start_is_described():
    """Oracle: the kinds in the configs."""
    from typing import get_args

    from distill.config_objectives import Objective
    from distill.config_starts import Start

    text = (ROOT / "docs" / "distill.md").read_text(encoding="utf-8")
    for kind in (*get_args(get_args(Objective)[0]), *get_args(get_args(Start)[0])):
        (name,) = kind.model_fields["kind"].annotation.__args__
        assert f"`{name}`" in text


def test_every_route_is_described(tmp_path):
    """Oracle: the application's own routes."""
    from serve_bundles import make_bundle

    from serve.config import ServiceConfig
    from serve.http.app import create_app
    from serve.runtime import Runtime

    engine = Runtime.open(make_bundle(tmp_path / "bundle"), threads=1)
    app = create_app({engine.name: engine}, engine.name, ServiceConfig())
    text = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    for route in app.router.routes:
        assert route.path in text


def test_every_threat_names_a_test_that_exists():
    """Oracle: the functions in tests/: each row of the table has one at least, and every name is one."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    assert all(re.search(r"`test_\w+`", row.rsplit("|", 2)[1]) for row in rows)
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    missing = {name for name in re.findall(r"`(test_\w+)`", text) if f"def {name}(" not in sources}
    assert not missing
