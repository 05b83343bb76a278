"""Exports of every task on a data set of that task: what the graphs are asked, and that the whole stage runs."""

from pathlib import Path
from typing import Any

import pytest
from export_models import MAX_TOKENS, make_model

from artifact.dataset import Answer, Example, Task, write_dataset
from export.config import CalibrationConfig, ExportConfig, InvarianceConfig, Parity
from export.run import run_export
from export.source import load_source
from export.texts import Text, encode, read_texts

FAST = ExportConfig(
    precisions=("float32", "int8"),
    parity=Parity(batch_sizes=(1, 2), lengths=(2, 9), int8_min_cosine=0.3),
    target="avx2",
    min_quality=None,
    calibration=CalibrationConfig(texts=8, judged_texts=8),
    invariance=InvarianceConfig(texts=8, batch_size=4, compositions=1, strict=()),
)
ALL = CalibrationConfig(texts=64, judged_texts=64)
LONG = " ".join(f"w{n}" for n in range(40))
ROWS: dict[str, tuple[Task, list[Example]]] = {
    "pair": ("classification", [Example(text=f"w{n}", pair="w1 w2", label=n % 3) for n in range(9)]),
    "regression": ("regression", [Example(text=f"w{n}", pair="w1", value=n / 9) for n in range(9)]),
    "tags": ("token-classification", [Example(text=f"w{n} w1", words=((0, 2), (3, 5)), tags=(0, 1)) for n in range(9)]),
    "answers": (
        "question-answering",
        [Example(text=f"w{n} w2", pair=LONG, answers=(Answer(start=0, text="w0"),)) for n in range(9)],
    ),
    "ranking": ("response-selection", [Example(text=f"w{n}", candidates=("w1", "w2 w3"), label=0) for n in range(9)]),
}
MODELS = {"pair": "classification", "regression": "classification", "tags": "token-classification",
          "answers": "question-answering", "ranking": "ranking"}  # fmt: skip


def make(root: Path, what: str) -> tuple[Path, Path]:
    """A tiny model, and a data set of its task; training rows of a ranking have the right utterance alone."""
    task, rows = ROWS[what]
    train = [Example(text=row.text, pair="w5") for row in rows] if what == "ranking" else rows
    (root / "data").mkdir()
    write_dataset(root / "data", (), {"train": train, "validation": rows}, task=task)
    shape: dict[str, Any] = {"labels": 1, "problem_type": "regression"} if what == "regression" else {}
    return make_model(root / "model", MODELS[what], **shape), root / "data"


@pytest.mark.parametrize("what", ROWS)
def test_a_graph_is_judged_on_what_its_bundle_will_read(tmp_path, what):
    """Oracle: the tokenizer, given each row's text and pair here; labels count for classes alone."""
    model, data = make(tmp_path, what)
    source = load_source(model)
    texts = read_texts(source, data, ALL)
    asked = [(row.text, pair) for row in ROWS[what][1] for pair in row.candidates or (row.pair,)]
    assert len(texts.judged) == len(asked)
    for found, (first, second) in zip(texts.judged, asked, strict=True):
        ids = source.tokenizer(first, second, truncation="only_second" if second else True, max_length=MAX_TOKENS)
        assert found["input_ids"][0].tolist() == ids["input_ids"]
    assert (texts.labels is not None) == (what == "pair")


def test_an_encoder_is_judged_on_each_text_alone(tmp_path):
    """Oracle: the texts of the rows, pairs and candidates taken apart."""
    _, data = make(tmp_path, "ranking")
    source = load_source(make_model(tmp_path / "encoder", "embedding"))
    texts = read_texts(source, data, ALL)
    rows = ROWS["ranking"][1]
    for found, kept in ((texts.judged, [text for row in rows for text in row.texts]), (texts.ranged, None)):
        expected = kept or [text for row in rows for text in (row.text, "w5")]
        assert [f["input_ids"][0].tolist() for f in found] == [source.tokenizer(t)["input_ids"] for t in expected]


def test_a_question_that_leaves_no_room_is_cut_too(tmp_path):
    """Oracle: the model's limit."""
    source = load_source(make(tmp_path, "answers")[0])
    whole, cut = encode(source, [Text("w1 w2", LONG), Text(LONG, LONG)])
    assert whole["input_ids"].shape == cut["input_ids"].shape == (1, MAX_TOKENS)
    assert whole["input_ids"][0, 1:4].tolist() == source.tokenizer("w1 w2")["input_ids"][1:]


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", [what if what in ("tags", "ranking") else pytest.param(what, marks=pytest.mark.long) for what in ROWS]
)
def test_the_export_of_every_task_runs_on_its_data_set(tmp_path, what):
    """Oracle: the measure that each task is judged by, and float32, which keeps all of itself."""
    model, data = make(tmp_path, what)
    (tmp_path / "bundle").mkdir()
    facts = run_export(model, tmp_path / "bundle", FAST, name="tiny", data=data)
    quality = facts["precisions"]["float32"]["quality"]
    measures = {"pair": "accuracy", "regression": "closeness", "ranking": "closeness"}
    assert quality["measure"] == measures.get(what, "agreement")
    assert quality["kept"] == 1
    assert facts["texts"]["origin"].startswith("training split")
