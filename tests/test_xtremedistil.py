"""XtremeDistil: sentences with names, the best tagger kept, equal budgets, the smoke recipe, and the page."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
import yaml

from artifact.errors import ConfigError, DataError
from benchmarks.systems.records import System
from benchmarks.xtremedistil.__main__ import main
from distill.evaluation import Names, score_of
from distill.heads import Head
from pipeline.grammar_tags import cut_words, generate_tagged
from pipeline.recipe import load_recipe

ROOT = Path(__file__).parents[1]
NAMES = ROOT / "recipes/data/names.yaml"
SMALL = {
    "sizes": {"train": 4, "validation": 2, "test": 2},
    "slots": {"person": {"tag": "PER", "seen": ["Anna Berg", "Tom", "Nina", "Omar"], "unseen": ["Mira"]}},
    "train": ["{person} left."], "validation": ["did {person} leave?"], "test": ["{person} came, and {person} left"],
}  # fmt: skip


@pytest.fixture(scope="module")
def generated():
    return generate_tagged(NAMES, seed=1)


def write(tmp_path, **changes):
    path = tmp_path / "grammar.yaml"
    path.write_text(yaml.safe_dump(SMALL | changes), encoding="utf-8")
    return path


def test_names_carry_their_tags():
    """Oracle: a sentence cut by hand; a name may stand before a comma or a full stop."""
    mark = "\ue000"
    text = f"The Berg{mark}B-PER Hansen{mark}I-PER, of Oslo{mark}B-LOC."
    words, tags = cut_words(text)
    assert words == ("The", "Berg", "Hansen", ",", "of", "Oslo", ".")
    assert tags == ("O", "B-PER", "I-PER", "O", "O", "B-LOC", "O")


def test_sentences_are_distinct_and_as_many_as_asked(generated):
    """Oracle: the sizes in the file; a set of all sentences."""
    sizes = yaml.safe_load(NAMES.read_text(encoding="utf-8"))["sizes"]
    assert {split: len(rows) for split, rows in generated.items()} == sizes
    sentences = [tuple(word.casefold() for word in words) for rows in generated.values() for words, _ in rows]
    assert len(set(sentences)) == len(sentences)


def test_tags_are_iob2_and_the_test_split_has_names_of_its_own(generated):
    """Oracle: what may come before an `I-`; the unseen values of the file."""
    for words, tags in (row for rows in generated.values() for row in rows):
        assert len(words) == len(tags)
        for before, tag in zip(("O", *tags), tags, strict=False):
            assert not tag.startswith("I-") or before[2:] == tag[2:]
    unseen = set(yaml.safe_load(NAMES.read_text(encoding="utf-8"))["slots"]["person"]["unseen"])
    spoken = {split: {word for words, _ in rows for word in words} for split, rows in generated.items()}
    alone = {name for name in unseen if " " not in name}
    assert alone & spoken["test"]
    assert not alone & (spoken["train"] | spoken["validation"])


def test_the_seed_alone_decides(generated):
    """Oracle: an identity between two runs, and a difference between two seeds."""
    assert generate_tagged(NAMES, seed=1) == generated
    assert generate_tagged(NAMES, seed=2) != generated


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"test": ["{nobody} left"]}, ConfigError, "nobody"),
        ({"test": ["{person} left."]}, ConfigError, "two places"),
        ({"sizes": {"train": 40, "validation": 2, "test": 2}}, DataError, "of 40 distinct sentences for train"),
        ({"slots": {"person": {"tag": "PER", "seen": ["St. John"]}}}, ConfigError, "St. John"),
    ],
)
def test_what_is_wrong_with_a_grammar_is_said(tmp_path, changes, error, said):
    """Oracle: the message names what is at fault."""
    with pytest.raises(error, match=said):
        generate_tagged(write(tmp_path, **changes), seed=1)


def test_the_best_weights_are_those_that_find_names():
    """Oracle: F1 by scikit-learn over the labels that are names; a tagger that says O everywhere scores 0."""
    from sklearn.metrics import f1_score

    generator = torch.Generator().manual_seed(1)
    labels, said = (torch.randint(-1, 4, (200,), generator=generator) for _ in range(2))
    said = said.clamp(min=0)
    counts = Names(outside=0)
    for part in range(0, 200, 50):
        counts.add(said[part : part + 50], labels[part : part + 50])
    known = labels >= 0
    expected = f1_score(labels[known], said[known], labels=[1, 2, 3], average="micro")
    assert counts.f1()["validation_f1"] == pytest.approx(expected)
    silent = Names(outside=0)
    silent.add(torch.zeros_like(labels), labels)
    assert silent.f1() == {"validation_f1": 0.0}
    assert score_of({"validation_loss": 9.0, "validation_accuracy": 0.1, "validation_f1": 0.7}) == 0.7
    assert score_of({"validation_loss": 9.0, "validation_accuracy": 0.1}) == 0.1
    assert score_of({"validation_loss": 9.0}) == -9.0


def test_parts_of_speech_have_no_outside():
    """Oracle: the label lists; without an O, and for texts, accuracy decides."""
    assert Head.of("token-classification", ("O", "B-PER")).outside == 0
    assert Head.of("token-classification", ("NOUN", "VERB")).outside is None
    assert Head.of("classification", ("O", "other")).outside is None


def test_all_students_take_as_many_steps():
    """Oracle: their sum; a phase that unfreezes from the top down is gone through for head, 3 layers and embeddings."""
    recipe = load_recipe(ROOT / "recipes/xtremedistil/ner.yaml")
    parts = {"top-down": 5, None: 1}
    steps = {
        name: sum(parts[phase.unfreeze_gradually] * (phase.steps or 0) for phase in model.phases)
        for name, model in recipe.models.items()
        if name != "teacher"
    }
    assert len(steps) == 7
    assert set(steps.values()) == {3000}


def record(rows, **more):
    interval = lambda value: {"value": value, "low": value - 0.02, "high": value + 0.02}  # noqa: E731 - shorter so
    return {
        "metric": "span_f1", "reference": "teacher/float32",
        "examples": {"train": 4000, "validation": 400, "test": 3000}, "rows": {
            name: {
                "quality": interval(value), "kept": interval(value / 0.6), "size_bytes": 2**20,
                "groups": {"en": interval(value), "zh": interval(value - 0.1)},
            }
            for name, value in rows.items()
        },
        "models": {
            name: {
                "parameters": {"total": total, "token_embedding": total // 2}, "steps": 9, "training_seconds": 1800.0,
                "validation_f1": {"staged": 0.5, "labels": 0.4}.get(name),
                "digest": "b" * 64,
            }
            for name, total in {"base": 1, "teacher": 16_000_000, "staged": 4_000_000, "labels": 4_000_000}.items()
        },
        "manifests": {"evaluation": "e" * 64}, "machine": {"processor": "a processor", "usable_cores": 2},
    } | more  # fmt: skip


def test_the_page_has_every_figure(tmp_path):
    """Oracle: the record's own numbers, and the paper's; the record for the overview is of its form."""
    results, pages = tmp_path / "results", tmp_path / "pages"
    results.mkdir()
    gap = {"value": 0.05, "low": 0.01, "high": 0.09}
    ner = record(
        {"teacher/float32": 0.6, "teacher/int8": 0.59, "staged/int8": 0.5, "labels/int8": 0.45},
        differences={"staged - labels": gap, "staged - random": gap | {"low": -0.01}},
    )
    transfer = record({"direct/int8": 0.55, "transferred/int8": 0.57}, differences={"transferred - direct": gap})
    transfer["models"] = dict.fromkeys(("direct", "transferred"), ner["models"]["staged"])
    (results / "ner.json").write_text(json.dumps(ner), encoding="utf-8")
    (results / "transfer.json").write_text(json.dumps(transfer), encoding="utf-8")
    again = transfer | {"differences": {"transferred - direct": {"value": -0.01, "low": -0.06, "high": 0.04}}}
    (results / "transfer-2.json").write_text(json.dumps(again), encoding="utf-8")
    assert main(["--results", str(results), "--pages", str(pages)]) == 0
    page = (pages / "xtremedistil.md").read_text(encoding="utf-8")
    for text in (
        "best on validation, `staged`", "for two languages", "4.0 times fewer parameters", "84.82", "| zh |", "+5.0",
        "not decided", "transferred/int8", "Latency is not on this page", "`eeeeeeeeeeee`",
    ):  # fmt: skip
        assert text in page
    system = System.model_validate_json((pages / "systems" / "xtremedistil.json").read_bytes())
    assert {"staged/int8, zh": 40.0, "transfer: transferred/int8": 57.0}.items() <= {
        row.name: row.value for row in system.rows
    }.items()
    assert any("`staged` is not shown to be better than `random`" in each for each in system.failures)
    assert any("transfer-2: the source task is not shown to help RTE: -1.0" in each for each in system.failures)
    ET.parse(pages / "xtremedistil.svg")  # noqa: S314 - our own file


def test_no_record_is_an_error(tmp_path, capsys):
    """Oracle: exit 2 and one message; nothing is written."""
    assert main(["--results", str(tmp_path), "--pages", str(tmp_path / "pages")]) == 2
    assert "there is no record" in capsys.readouterr().err
    assert not (tmp_path / "pages").exists()


@pytest.mark.long
def test_the_smoke_recipe_passes_its_gates(tmp_path, monkeypatch):
    """Oracle: the recipe's gates: span F1 against its teacher and size; and the page, made from the same folder."""
    from pipeline.__main__ import main as understudy

    monkeypatch.chdir(ROOT)
    out = tmp_path / "xtremedistil-ner"
    assert understudy(["run", "recipes/xtremedistil/smoke.yaml", "--out", str(out)]) == 0
    assert main([str(out), "--results", str(tmp_path / "results"), "--pages", str(tmp_path / "pages")]) == 0
    assert "student/int8" in (tmp_path / "pages" / "xtremedistil.md").read_text(encoding="utf-8")
