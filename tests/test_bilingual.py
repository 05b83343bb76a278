"""The bilingual recipes: that they load, and that the small one finds names in a language it was not told them in."""

import json
from pathlib import Path

import pytest

from artifact.dataset import Example, read_info, read_split, write_dataset
from artifact.manifest import Request, read_manifest, seal
from benchmarks.bilingual.__main__ import write
from benchmarks.bilingual.record import main as write_record
from benchmarks.systems.records import read_systems
from pipeline.__main__ import main

ROOT = Path(__file__).parent.parent
SMOKE = ROOT / "recipes" / "gigabert" / "smoke.yaml"


def settings(folder: Path, *more: str) -> list[str]:
    """The small recipe, on text in `folder`."""
    corpora = ("english", "arabic", "pairs", "switched_english")
    lexicon = folder / "lexicon.tsv"
    return [
        str(SMOKE), f"data.source.directory={folder}",
        *(f"corpora.{name}.source.directory={folder}" for name in corpora),
        f"corpora.switched_english.code_switch.lexicon={lexicon}", f"models.bilingual.start.lexicon={lexicon}", *more,
    ]  # fmt: skip


def test_the_generated_text_is_the_same_every_time(tmp_path):
    """Oracle: itself; tags and words are as many, and no test name is in a labelled training sentence."""
    write(tmp_path / "one")
    write(tmp_path / "two")
    names = dict[str, set[str]]()
    for path in sorted((tmp_path / "one").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
        for line in path.read_text("utf-8").splitlines() if path.parent.name in ("en", "ar") else ():
            row = json.loads(line)
            tagged = {word for word, tag in zip(row["tokens"], row["ner_tags"], strict=True) if tag != "O"}
            names.setdefault(path.stem, set()).update(tagged)
    assert names["train"] == names["validation"]
    assert not names["train"] & names["test"]


@pytest.mark.slow
def test_an_encoder_is_made_step_by_step(tmp_path):
    """Oracle: the manifests. A few steps each; the second run finds everything fresh."""
    write(tmp_path / "text")
    fewer = [
        f"models.{model}.phases.{phase}.steps=3"
        for model, phases in {"english": 1, "bilingual": 2, "student": 2}.items()
        for phase in range(phases)
    ]
    command = [
        *settings(tmp_path / "text", *fewer, "models.teacher.phases.0.epochs=0.2"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(["distill", *command]) == 0
    facts = read_manifest(tmp_path / "out" / "models" / "bilingual").facts
    pieces = read_manifest(tmp_path / "out" / "vocabularies" / "joint").facts["pieces"]
    assert sum(facts["transplant"].values()) == pieces
    assert facts["transplant"]["copied"] > facts["transplant"]["neither"]
    assert {entry["phase"] for entry in facts["evaluations"]} == {"mlm", "code_switch"}
    before = (tmp_path / "out" / "models" / "student" / "manifest.json").stat().st_mtime_ns
    assert main(["distill", *command]) == 0
    assert (tmp_path / "out" / "models" / "student" / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.long
def test_names_are_found_in_a_language_they_were_never_told_in(tmp_path):
    """Oracle: the generated tags. Words of the other language are half of the test; new names, in both."""
    write(tmp_path / "text")
    assert main(["run", *settings(tmp_path / "text"), "--out", str(tmp_path / "out")]) == 0
    assert read_info(tmp_path / "out" / "data").groups == ("en", "ar")
    rows: list[Example] = list(read_split(tmp_path / "out" / "data", "train"))
    assert {row.group for row in rows} == {"en"}
    quality = read_manifest(tmp_path / "out" / "evaluation").facts["quality"]
    assert quality["teacher/float32"]["value"] > 0.95
    assert quality["student/int8"]["low"] > 0.85


def write_run(run, rows):
    """A run that is evaluated by hand: four words of Arabic and one of English, and what each row said of them."""
    examples = [
        Example(text=text, words=((0, 1),), tags=(1,), group=group) for text, group in zip("abcde", GROUPS, strict=True)
    ]
    (run / "data").mkdir(parents=True)
    write_dataset(run / "data", ["X", "Y"], {"test": examples}, task="token-classification", metric="tag_accuracy")
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    answers = {
        name: {
            "quality": interval, "ratio": interval, "agreement": interval,
            "groups": {"ar": interval | {"value": value}}, "predictions": [[tag] for tag in said],
        }
        for name, (value, said) in rows.items()
    }  # fmt: skip
    tree = {
        "task": "token-classification", "metric": "tag_accuracy", "reference": "monolingual/float32",
        "labels": ["X", "Y"], "truths": [[1]] * 5, "rows": answers,
    }  # fmt: skip
    request = Request(stage="x", version=1, config={}, inputs={})
    for folder, kind, facts in (("evaluation", "evaluation", {}), ("models/a", "model", {"training_seconds": 1800.0})):
        (run / folder).mkdir(parents=True)
        (run / folder / f"{kind}.json").write_text(json.dumps(tree))
        seal(run / folder, kind=kind, request=request, lineage={}, facts=facts)


GROUPS = ("en", "ar", "ar", "ar", "ar")


def test_a_record_holds_what_bundles_said_of_arabic_and_what_each_step_brought(tmp_path):
    """Oracle: answers written by hand. In Arabic 0, 0, 4, 4 and 3 of four words are right, in English always one."""
    out = tmp_path / "records" / "gigabert.json"
    write_run(tmp_path / "gigabert-pos-dev", {
        "monolingual/pytorch": (0.0, [1, 0, 0, 0, 0]), "monolingual/int8": (0.0, [1, 0, 0, 0, 0]),
        "transplanted/int8": (0.0, [1, 0, 0, 0, 0]), "bilingual/int8": (1.0, [1] * 5),
        "teacher/int8": (1.0, [1] * 5), "student/int8": (0.55, [1, 1, 1, 1, 0]),
    })  # fmt: skip
    command = [f"POS=dev={tmp_path / 'gigabert-pos-dev'}", "--encoder", str(tmp_path / "none"), "--out", str(out)]
    assert write_record([*command, "--failure", "too small"]) == 0
    (system,) = read_systems(out.parent).values()
    names = ("monolingual", "transplanted", "bilingual", "teacher", "student")
    assert [figure.name for figure in system.rows] == [f"POS=dev, {name}/int8, ar" for name in names]
    assert system.hours == 0.5
    assert system.commands == tuple(
        f"understudy {command}.yaml" for command in ("distill recipes/gigabert/encoder", "run recipes/gigabert/pos")
    )
    assert system.headline.startswith("POS=dev: student/int8 has 55.0 % (40.0 to 60.0) in Arabic (")
    assert "masked words of both languages +100.0 points (+100.0 to +100.0)" in system.headline
    assert "half of the layers -25.0 points (-" in system.headline
    assert [line.partition(":")[0] for line in system.failures] == [
        "too small",
        "POS=dev, in Arabic",
        "POS=dev, in Arabic",
        "POS=dev, in Arabic",
    ]
    assert "a joint vocabulary, untrained, not told from no change: +0.0 points" in system.failures[1]


def test_a_record_of_a_run_that_is_not_evaluated_is_refused(tmp_path):
    """Oracle: exit code 2, and nothing is written."""
    assert write_record([f"POS={tmp_path}", "--out", str(tmp_path / "gigabert.json")]) == 2
    assert not (tmp_path / "gigabert.json").exists()
