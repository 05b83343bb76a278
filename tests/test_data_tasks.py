"""The data stage, task by task: what small files of our own become, and what is wrong with bad ones."""

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifact.config import parse_config
from artifact.dataset import DatasetInfo, Example, read_info, read_split, write_dataset
from artifact.errors import ConfigError, DataError
from artifact.stage import run_stage
from pipeline.data import data_stage, held_out_of, run_data
from pipeline.data_config import DataConfig
from pipeline.data_rows import join_words
from pipeline.data_sources import source_files

NOESIS = Path(__file__).parent / "noesis.json"
LEARNT = ("train", "validation", "test")
NO_ROWS: list[Any] = []
LONE = json.dumps([{
    "messages-so-far": [{"speaker": "a", "utterance": "\ud800"}], "options-for-next": [],
    "options-for-correct-answers": [],
}])  # fmt: skip


def make_config(directory: Path, task: str, splits: dict[str, list[Any]], source: dict[str, Any] | None = None,
                **fields: Any) -> DataConfig:  # fmt: skip
    """Rows as JSON lines, and the recipe that reads them."""
    for split, rows in splits.items():
        path = directory / f"{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    names = {split: f"{split}.jsonl" for split in splits if "/" not in split}
    tree = {"task": task, "source": {"kind": "files", "directory": str(directory), **names, **(source or {})}, **fields}
    return parse_config(DataConfig, tree, "the recipe")


def make(tmp_path: Path, task: str, rows: list[Any], **fields: Any) -> list[Example]:
    """The examples of `rows` as a test split."""
    run(make_config(tmp_path / "files", task, dict.fromkeys(LEARNT, rows), **fields), tmp_path / "out")
    return read_split(tmp_path / "out", "test")


def run(config: DataConfig, out: Path) -> DatasetInfo:
    out.mkdir(parents=True)
    run_data(config, out)
    return read_info(out)


def test_pairs_keep_both_texts(tmp_path):
    """Oracle: the rows written."""
    rows = [{"a": "one", "b": "two", "label": "same"}, {"a": "three", "b": "", "label": "other"}]
    found = make(tmp_path, "classification", rows, text_field="a", pair_field="b", metric="macro_f1")
    assert [(e.asked, e.label) for e in found] == [(("one", "two"), 1), (("three", ""), 0)]
    assert read_info(tmp_path / "out").quality == "macro_f1"
    assert found[0].texts == ("one", "two")


def test_quantities_are_floats_of_one_column(tmp_path):
    """Oracle: the rows written, a number as text among them."""
    found = make(tmp_path, "regression", [{"text": "a", "label": 2.5}, {"text": "b", "label": 0}])
    assert [e.value for e in found] == [2.5, 0.0]
    assert read_info(tmp_path / "out").labels == ("quantity",)
    assert read_info(tmp_path / "out").quality == "spearman"


def test_words_have_their_characters_and_tags(tmp_path):
    """Oracle: the words cut out of the text by their spans; a word of white space goes, and its tag with it."""
    rows = [
        {"tokens": ["In", " New York", "", "\u00a0", "\u0643\u064e"],
         "ner_tags": ["O", "B-LOC", "O", "O", "B-ORG"]},
        {"tokens": [" "], "ner_tags": ["O"]},
    ]  # fmt: skip
    (found,) = make(tmp_path, "token-classification", rows)
    assert [found.text[a:b] for a, b in found.words or ()] == ["In", "New York", "\u0643\u064e"]
    assert read_info(tmp_path / "out").labels == ("O", "B-LOC", "B-ORG")
    assert found.tags == (0, 1, 2)


def test_words_can_stand_without_blanks_and_tags_in_the_given_order(tmp_path):
    """Oracle: written out by hand."""
    row = {"tokens": ["\u5317", "\u4eac", "!"], "upos": ["PROPN", "PROPN", "PUNCT"]}
    fields = {"label_field": "upos", "word_separator": "", "labels": ["PUNCT", "PROPN"], "metric": "tag_accuracy"}
    (found,) = make(tmp_path, "token-classification", [row], **fields)
    assert (found.text, found.words, found.tags) == ("\u5317\u4eac!", ((0, 1), (1, 2), (2, 3)), (1, 1, 0))


def test_spans_of_other_kinds_count_as_outside(tmp_path):
    """Oracle: written out by hand; the label list does not know them."""
    row = {"tokens": ["a", "b", "c"], "ner_tags": ["B-MISC", "I-MISC", "B-PER"]}
    (found,) = make(tmp_path, "token-classification", [row], outside_tags=["MISC"])
    assert (read_info(tmp_path / "out").labels, found.tags) == (("O", "B-PER"), (0, 0, 1))


def test_tags_that_are_not_public_are_no_tags(tmp_path):
    """Oracle: the message; a tag that only the test split has is one of the list."""
    rows = [{"tokens": ["a"], "ner_tags": ["O"]}]
    test = [{"tokens": ["b", "c"], "ner_tags": ["B-PER", "O"]}]
    splits = {"train": rows, "validation": rows, "test": test}
    assert run(make_config(tmp_path / "f", "token-classification", splits), tmp_path / "out").labels == ("O", "B-PER")
    splits["test"] = [{"tokens": ["b", "c"], "ner_tags": ["-1", "-1"]}]
    config = make_config(tmp_path / "f", "token-classification", splits)
    with pytest.raises(DataError, match="1 of 1 rows of the test split have no label"):
        run(config, tmp_path / "hidden")


@given(st.lists(st.text(min_size=1, max_size=4), max_size=6), st.sampled_from(["", " ", "--"]))
def test_spans_cut_the_words_out_again(words, separator):
    """Oracle: an identity."""
    text, spans = join_words(words, separator)
    assert [text[start:stop] for start, stop in spans] == words
    assert text == separator.join(words)


def test_answers_are_checked_and_kept(tmp_path):
    """Oracle: the context at each place; a question without an answer has none, even beside plausible ones."""
    context = "\u00c9t\u00e9 in Paris, in Paris."
    rows = [
        {"question": "Where?", "context": context, "is_impossible": False,
         "answers": {"text": ["Paris", "in Paris"], "answer_start": [7, 14]}},
        {"question": "Who?", "context": context, "is_impossible": True,
         "answers": {"text": ["Paris"], "answer_start": [7]}},
        {"question": "Why?", "context": context, "is_impossible": True, "answers": {"text": [], "answer_start": []}},
    ]  # fmt: skip
    found = make(tmp_path, "question-answering", rows)
    assert [[context[a.start : a.start + len(a.text)] for a in e.answers or ()] for e in found] == [
        ["Paris", "in Paris"], [], [],
    ]  # fmt: skip
    assert [e.answers is None for e in found] == [False] * 3
    assert found[0].asked == ("Where?", context)


def test_noesis_files_give_what_the_same_conversations_give_as_rows(tmp_path):
    """Oracle: the same two conversations written by hand in both forms; None is right in one, so it trains nothing."""
    turns = [{"speaker": "ann", "utterance": "no sound?"}, {"speaker": "bob", "utterance": "which card"}]
    other = [{"speaker": "cat", "utterance": "it: works"}]
    train = [{"context": turns, "response": "an old one"}]
    asked = [
        {"context": turns, "candidates": ["reboot", "an old one", "thanks"], "label": 1},
        {"context": other, "candidates": ["reboot", "thanks"], "label": -1},
    ]
    config = make_config(tmp_path / "files", "response-selection", {"train": train, "validation": asked, "test": asked})
    info = run(config, tmp_path / "rows")
    source = {"kind": "dstc8", "directory": str(NOESIS.parent), **dict.fromkeys(LEARNT, NOESIS.name)}
    tree = {"task": "response-selection", "source": source}
    assert run(parse_config(DataConfig, tree, "it"), tmp_path / "noesis") == info
    for split in LEARNT:
        assert read_split(tmp_path / "noesis", split) == read_split(tmp_path / "rows", split)
    test = read_split(tmp_path / "rows", "test")
    assert test[0].text == "ann: no sound?\nbob: which card"
    assert (test[0].label, test[1].label, info.labels, info.quality) == (1, -1, ("relevance",), "mean_mrr_recall_10")
    assert read_split(tmp_path / "rows", "train") == [Example(text=test[0].text, pair="an old one")]


def test_noesis_files_may_be_packed_and_larger_than_what_is_read_at_once(tmp_path, monkeypatch):
    """Oracle: the same file read whole."""
    monkeypatch.setattr("pipeline.data_dstc8.CHUNK", 7)
    (tmp_path / "n.json.gz").write_bytes(gzip.compress(NOESIS.read_bytes()))
    source = {"kind": "dstc8", "directory": str(tmp_path), **dict.fromkeys(LEARNT, "n.json.gz")}
    info = run(parse_config(DataConfig, {"task": "response-selection", "source": source}, "it"), tmp_path / "out")
    assert info.examples == {"train": 1, "validation": 2, "test": 2, "out_of_domain": 0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "is no JSON array"),
        ('[{"messages-so-far": []', "is no whole JSON array"),
        ("[3]", "dialogue 1 of .* is of another form"),
        (
            LONE,
            "dialogue 1 of .* holds half a surrogate pair",
        ),
        ('[{"messages-so-far": []}]', "dialogue 1 of .* lacks 'options-for-next'"),
        ('[{"messages-so-far": [], "options-for-next": [], "options-for-correct-answers": [{"candidate-id": "x"}]}]',
         "lacks 'x'"),
    ],
)  # fmt: skip
def test_a_broken_noesis_file_is_one_clear_error(tmp_path, content, message):
    """Oracle: the message a user reads."""
    (tmp_path / "n.json").write_text(content)
    source = {"kind": "dstc8", "directory": str(tmp_path), **dict.fromkeys(LEARNT, "n.json")}
    config = parse_config(DataConfig, {"task": "response-selection", "source": source}, "it")
    with pytest.raises(DataError, match=message):
        run(config, tmp_path / "out")


def test_bare_text_has_neither_labels_nor_a_score(tmp_path):
    """Oracle: the contract."""
    found = make(tmp_path, "text", [{"text": "one"}, {"text": "two"}])
    assert [(e.text, e.label) for e in found] == [("one", -1), ("two", -1)]
    with pytest.raises(DataError, match="nothing to score"):
        _ = read_info(tmp_path / "out").quality


TURN = [{"speaker": "a", "utterance": "b"}]
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("regression", {"text": "a", "label": "many"}, "row 1 of the train split has 'many' in 'label', .* no number"),
    ("regression", {"text": "a", "label": None}, "has None in 'label'"),
    ("classification", {"text": None, "label": "x"}, "row 1 of the train split has no text in 'text' but None"),
    ("classification", {"text": "a", "label": None}, "1 of 1 rows of the train split have no label"),
    ("token-classification", {"tokens": ["a", "b"], "ner_tags": ["O"]}, "has 2 words and 1 tags"),
    ("token-classification", {"tokens": "a b", "ner_tags": ["O"]}, "has 'a b' in 'tokens', expected a list of words"),
    ("question-answering", {"question": "q", "context": "\u00e9t\u00e9 is",
                            "answers": {"text": ["is"], "answer_start": [6]}},
     "has the answer 'is' at 6, where '' stands"),
    ("question-answering", {"question": "q", "context": "c", "answers": {"text": ["c"], "answer_start": []}},
     "has 1 answers and 0 places"),
    ("question-answering", {"question": "q", "context": "c", "answers": "c"}, "has 'c' in 'answers', expected answers"),
    ("question-answering", {"question": "q", "context": "c", "is_impossible": False,
                            "answers": {"text": [], "answer_start": []}}, "has no answer, though"),
    ("response-selection", {"context": TURN, "response": "r", "candidates": ["x"], "label": 1},
     "row 1 of the validation split has the label 1 and 1 candidates"),
    ("response-selection", {"context": [], "response": "r", "candidates": ["x"], "label": 0}, "expected turns of"),
    ("response-selection", {"context": TURN, "response": "r"}, "the validation split has no field 'candidates'"),
    ("question-answering", {"question": "q", "answers": {"text": [], "answer_start": []}}, "no field 'context'"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "row", "message"), BAD, ids=range(len(BAD)))
def test_a_bad_row_is_one_clear_error(tmp_path, task, row, message):
    """Oracle: the message a user reads: which row, of what, and what was found."""
    with pytest.raises(DataError, match=message):
        make(tmp_path, task, [row])


@pytest.mark.parametrize("hidden", [-1, None, ""])
def test_labels_that_are_not_public_are_named_with_what_to_do(tmp_path, hidden):
    """Oracle: the message and its hint; -1 that training knows is a class like others."""
    rows = [{"text": "a", "label": 0}, {"text": "b", "label": 1}]
    test = [{"text": "c", "label": hidden}, {"text": "d", "label": hidden}]
    config = make_config(tmp_path / "files", "classification", {"train": rows, "validation": rows, "test": test})
    with pytest.raises(DataError, match=r"2 of 2 rows of the test split have no label.*\n.*test on the validation"):
        run(config, tmp_path / "out")
    if hidden == -1:
        both = [*rows, *test]
        config = make_config(tmp_path / "files", "classification", {"train": both, "validation": rows, "test": test})
        assert run(config, tmp_path / "signed").labels == ("-1", "0", "1")


@pytest.mark.parametrize(
    ("task", "fields", "message"),
    [
        ("regression", {"metric": "accuracy"}, "metric is 'accuracy', expected spearman or pearson"),
        ("text", {"metric": "f1"}, "metric is 'f1', expected none for the task text"),
        ("text", {"label_field": "x"}, "label_field says nothing to the task text"),
        ("token-classification", {"pair_field": "x"}, "pair_field says nothing"),
        ("classification", {"candidates_field": "x", "word_separator": ""}, "candidates_field .*; word_separator says"),
        ("question-answering", {"labels": ["a"]}, "labels says nothing"),
        ("classification", {"labels": ["a", "b", "a"]}, "labels names a twice"),
        ("response-selection", {"source": {"test": None}}, "needs source.validation and source.test"),
        ("classification", {"source": {"train_groups": ["en"]}}, "train_groups names en, which groups does not"),
        ("classification", {"rows": {"train": 0}}, "rows.train"),
    ],
)
def test_what_does_not_fit_the_task_is_refused_before_anything_is_read(tmp_path, task, fields, message):
    """Oracle: the message a user reads."""
    with pytest.raises(ConfigError, match=message):
        make_config(tmp_path, task, dict.fromkeys(LEARNT, NO_ROWS), **fields)


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"text": f"text {n}", "label": n % 2} for n in range(count)]


def test_rows_are_at_most_so_many_spread_evenly(tmp_path):
    """Oracle: every fourth row; a split that is shorter is whole, and the labels are those of all rows."""
    rows = {"train": numbered(100), "validation": numbered(5), "test": numbered(100)}
    config = make_config(tmp_path / "files", "classification", rows, rows={"train": 25, "validation": 9})
    info = run(config, tmp_path / "out")
    assert [e.text for e in read_split(tmp_path / "out", "train")] == [f"text {n}" for n in range(0, 100, 4)]
    assert info.examples == {"train": 25, "validation": 5, "test": 100, "out_of_domain": 0}
    assert info.labels == ("0", "1")


def test_held_out_rows_follow_from_their_texts_alone(tmp_path):
    """Oracle: the order of the file, which changes nothing; no text on two sides; a tenth each, give or take."""
    rows = [row for row in numbered(1000) for _ in range(2)]
    for name, order in (("there", rows), ("back", rows[::-1])):
        run(make_config(tmp_path / name, "classification", {"train": order}), tmp_path / f"{name}-out")
    for split in LEARNT:
        there, back = (sorted(e.text for e in read_split(tmp_path / f"{n}-out", split)) for n in ("there", "back"))
        assert there == back
    found = {split: {e.text for e in read_split(tmp_path / "there-out", split)} for split in LEARNT}
    assert sum(map(len, found.values())) == 1000 == len(set.union(*found.values()))
    assert 70 < len(found["test"]) < 130
    assert 70 < len(found["validation"]) < 130
    tested = make_config(tmp_path / "there", "classification", {"train": rows, "validation": numbered(9)})
    run(tested, tmp_path / "validated")
    assert {e.text for e in read_split(tmp_path / "validated", "test")} == found["test"]
    assert held_out_of("text 12", 0.1, ["test"]) == "test"  # recorded: another machine must say so too
    assert held_out_of("text 11", 0.1, ["test"]) == "train"


def test_questions_of_one_context_are_held_out_together(tmp_path):
    """Oracle: the contexts of the three splits, which share none."""
    nothing = {"text": [], "answer_start": []}
    rows = [{"question": f"q{n}", "context": f"c{n // 5}", "answers": nothing} for n in range(500)]
    run(make_config(tmp_path / "files", "question-answering", {"train": rows}), tmp_path / "out")
    contexts = [{e.pair for e in read_split(tmp_path / "out", split)} for split in LEARNT]
    assert sum(map(len, contexts)) == 100 == len(set.union(*contexts))


def test_groups_train_where_they_are_asked_to_and_test_everywhere(tmp_path):
    """Oracle: written out by hand; a training file of a group that does not train need not be there."""
    rows = {f"{folder}/{split}": numbered(2) for folder in ("xen", "xda") for split in LEARNT}
    del rows["xda/train"]
    source = {
        "train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl",
        "groups": {"en": "xen", "da": "xda"}, "train_groups": ["en"],
    }  # fmt: skip
    config = make_config(tmp_path / "files", "classification", rows, source)
    info = run(config, tmp_path / "out")
    groups = {split: [e.group for e in read_split(tmp_path / "out", split)] for split in LEARNT}
    assert groups == {"train": ["en"] * 2, "validation": ["en"] * 2, "test": ["en", "en", "da", "da"]}
    assert info.groups == ("en", "da")
    both = make_config(tmp_path / "files", "classification", rows, source | {"validation_groups": ["da"]})
    run(both, tmp_path / "both")
    assert [e.group for e in read_split(tmp_path / "both", "validation")] == ["da"] * 2
    assert list(source_files(config.source)) == ["en/train", "en/validation", "en/test", "da/test"]
    with pytest.raises(DataError, match=r"there is no file .*xda/train\.jsonl"):
        data_stage(make_config(tmp_path / "files", "classification", rows, source | {"train_groups": None}), tmp_path)


def test_text_from_elsewhere_is_out_of_domain(tmp_path):
    """Oracle: the rows written; the rest of a row is not asked."""
    splits = dict.fromkeys(LEARNT, numbered(4)) | {"out_of_domain": [{"text": "strange"}]}
    run(make_config(tmp_path / "files", "classification", splits), tmp_path / "out")
    assert read_split(tmp_path / "out", "out_of_domain") == [Example(text="strange")]
    tagged = [{"tokens": ["a"], "ner_tags": ["O"]}]
    splits = dict.fromkeys(LEARNT, tagged) | {"out_of_domain": [{"tokens": ["b", "c"]}]}
    run(make_config(tmp_path / "words", "token-classification", splits), tmp_path / "words-out")
    assert [e.text for e in read_split(tmp_path / "words-out", "out_of_domain")] == ["b c"]


def test_what_is_to_be_told_apart_is_tested_on_both_sides(tmp_path):
    """Oracle: the rows written; nothing of the other side is learnt from, and there must be some to test on."""
    rows = [{"text": f"{n}", "said": "in" if n % 3 else "out", "from": f"s{n % 3}"} for n in range(9)]
    fields = {"label_field": "said", "out_of_domain_labels": ("out",), "group_field": "from"}
    make(tmp_path, "out-of-domain-detection", rows, **fields)
    assert read_info(tmp_path / "out").labels == ()
    assert [row.text for row in read_split(tmp_path / "out", "train")] == list("124578")
    assert [(row.text, row.label) for row in read_split(tmp_path / "out", "test")] == [
        *((text, 0) for text in "124578"), *((text, 1) for text in "036")
    ]  # fmt: skip
    assert read_split(tmp_path / "out", "test")[-1].group == "s0"
    with pytest.raises(DataError, match="no text from outside"):
        make(tmp_path / "one", "out-of-domain-detection", [row for row in rows if row["said"] == "in"], **fields)
    source = {"kind": "files", "train": "train.jsonl"}
    with pytest.raises(ConfigError, match="label_field and out_of_domain_labels say together"):
        parse_config(DataConfig, {"source": source, "task": "out-of-domain-detection", "label_field": "said"}, "recipe")


def test_classes_by_index_are_named_as_the_file_names_them(tmp_path):
    """Oracle: the library's own features, written as Parquet."""
    kind = datasets.ClassLabel(names=["O", "B-PER"])
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(kind)})
    table = datasets.Dataset.from_dict({"tokens": [["Al", "is"]], "ner_tags": [[1, 0]]}, features=features)
    (tmp_path / "files").mkdir()
    for split in LEARNT:
        table.to_parquet(tmp_path / "files" / f"{split}.parquet")
    names = {split: f"{split}.parquet" for split in LEARNT}
    config = make_config(tmp_path / "files", "token-classification", {}, names)
    assert run(config, tmp_path / "out").labels == ("O", "B-PER")
    assert [e.tags for e in read_split(tmp_path / "out", "test")] == [(1, 0)]


def test_examples_of_every_task_come_back_as_they_were_written(tmp_path):
    """Oracle: an identity."""
    rows = [
        Example(text="a", pair="b", value=0.1, group="en"),
        Example(text="a b", words=((0, 1), (2, 3)), tags=(0, 1)),
        Example(text="q", pair="c", answers=()),
        Example(text="c", candidates=("x", "y"), label=1),
    ]
    info = write_dataset(tmp_path, ("quantity",), {"test": rows}, task="regression", metric="pearson")
    assert read_split(tmp_path, "test") == rows
    assert read_info(tmp_path) == info
    assert rows[3].texts == ("c", "x", "y")


def test_a_column_names_the_groups(tmp_path):
    """Oracle: the rows written; rows from elsewhere keep theirs, and a row without one is an error."""
    rows = [{"text": f"{n}", "label": "in" if n % 3 else "out", "source": f"s{n % 2}"} for n in range(12)]
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths = {split: f"{split}.jsonl" for split in ("train", "validation", "test")}
    config = DataConfig(
        source={"kind": "files", "directory": tmp_path, **paths}, group_field="source", out_of_domain_labels=("out",)
    )
    run_stage(*data_stage(config, tmp_path / "data"))
    assert sorted(read_info(tmp_path / "data").groups) == ["s0", "s1"]
    for split in ("test", "out_of_domain"):
        assert all(row.group == f"s{int(row.text) % 2}" for row in read_split(tmp_path / "data", split))
    with pytest.raises(DataError, match="has no field 'origin'"):
        run_stage(*data_stage(config.model_copy(update={"group_field": "origin"}), tmp_path / "other"))


def test_the_metric_suits_the_labels(tmp_path):
    """Oracle: parts of speech are not IOB2, names are; three labels have no F1 of one of them."""
    row = {"tokens": ["it", "rains"], "ner_tags": ["PRON", "VERB"]}
    below = {name: tmp_path / name for name in ("speech", "spans", "names", "three")}
    make(below["speech"], "token-classification", [row])
    assert read_info(below["speech"] / "out").quality == "tag_accuracy"
    with pytest.raises(DataError, match=r"span_f1.*PRON"):
        make(below["spans"], "token-classification", [row], metric="span_f1")
    make(below["names"], "token-classification", [{"tokens": ["Ann"], "ner_tags": ["B-PER"]}])
    assert read_info(below["names"] / "out").quality == "span_f1"
    rows = [{"text": text, "label": text} for text in ("a", "b", "c")]
    with pytest.raises(DataError, match=r"matthews_correlation.*3 labels"):
        make(below["three"], "classification", rows, metric="matthews_correlation")


def test_many_missing_files_are_counted(tmp_path):
    """Oracle: three groups of three files, of which three are named."""
    groups = {name: name for name in ("en", "da", "hr")}
    config = make_config(tmp_path, "token-classification", {}, {"groups": groups, **{s: f"{s}.jsonl" for s in LEARNT}})
    with pytest.raises(DataError, match=r"there is no file \S+, \S+, \S+ and 6 more\n"):
        source_files(config.source)
