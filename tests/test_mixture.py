"""Corpora that take turns, and texts beside their translations."""

import itertools
import json

import pytest
from test_corpus import corpus, write_lines
from tiny_models import make_tokenizer

from artifact.errors import ConfigError, DataError
from distill.batching import FeedPosition, Plan
from distill.config_corpora import CorpusConfig, with_parts
from distill.corpus import corpus_files, read_pairs, read_records
from distill.held_out import held_out_texts, is_held_out
from distill.run import without_paths
from distill.stream import Stream
from pipeline.recipe import Recipe

LONG = [f"turn on the light {number} please" for number in range(40)]
SHORT = [f"stop {number}" for number in range(9)]


def mixture(tmp_path, *, shares=None) -> CorpusConfig:
    write_lines(tmp_path / "long.jsonl", LONG)
    write_lines(tmp_path / "short.jsonl", SHORT)
    named = {
        "long": corpus(tmp_path, "long.jsonl"), "short": corpus(tmp_path, "short.jsonl", unit="document"),
        "both": CorpusConfig.model_validate(
            {"source": {"kind": "mixture", "shares": shares or {"long": 1, "short": 2}}}
        ),
    }  # fmt: skip
    return with_parts(named)["both"]


def pairs(tmp_path, **more) -> CorpusConfig:
    rows = [{"en": f"light {number}", "ar": f"نور {number}"} for number in range(6)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    source = {
        "kind": "files",
        "directory": tmp_path,
        "files": ["pairs.jsonl"],
        "field": "en",
        "translation_field": "ar",
    }
    return CorpusConfig.model_validate({"source": source} | more)


def test_each_corpus_has_its_share_of_the_characters_at_any_time(tmp_path):
    """Oracle: the shares, to within one record; and each part in its own order, begun again when it ends."""
    had = {"long": 0, "short": 0}
    texts: dict[str, list[str]] = {"long": [], "short": []}
    records = list(read_records(mixture(tmp_path)))
    for record in records:
        name = "short" if record.text.startswith("stop") else "long"
        had[name] += len(record.text)
        texts[name].append(record.text)
        assert abs(had["long"] / 1 - had["short"] / 2) <= len(LONG[-1])
        assert record.corpus.unit == ("document" if name == "short" else "line")
    assert [record.number for record in records] == list(range(len(records)))
    assert texts["long"] == LONG
    assert texts["short"] == list(itertools.islice(itertools.cycle(SHORT), len(texts["short"])))


def test_processes_share_a_mixture_and_go_on_in_it(tmp_path):
    """Oracle: the whole, of which the shares of two processes are a partition, and a skip is its tail."""
    whole = list(read_records(mixture(tmp_path)))
    each = [list(read_records(mixture(tmp_path), rank=rank, world=2)) for rank in (0, 1)]
    assert sorted(itertools.chain(*each), key=lambda record: record.number) == whole
    assert list(read_records(mixture(tmp_path), rank=1, world=2, skip=3)) == each[1][3:]


def test_a_stream_of_a_mixture_goes_on_where_it_stood(tmp_path):
    """Oracle: itself, from a position in the middle of its second window."""
    stream = Stream(make_tokenizer(), mixture(tmp_path), 16, window_texts=10, holds_out=True)
    plan = Plan(batch_size=4, seed=3)
    steps = list(itertools.islice(stream.steps(plan, FeedPosition()), 12))
    again = list(itertools.islice(stream.steps(plan, steps[4][1]), 7))
    for (parts, position), (same, there) in zip(steps[5:], again, strict=True):
        assert position == there
        assert all((a.token_ids() == b.token_ids()).all() for a, b in zip(parts, same, strict=True))


def test_a_mixture_is_known_by_its_files_and_holds_out_of_each(tmp_path):
    """Oracle: the parts' own files and held-out texts; no folder is in the request."""
    config = mixture(tmp_path)
    assert list(corpus_files(config)) == ["long:long.jsonl", "short:short.jsonl"]
    assert sorted(held_out_texts(config)) == sorted(text for text in LONG + SHORT if is_held_out(text))
    assert str(tmp_path) not in without_paths(config).model_dump_json()


def test_a_mixture_of_what_is_not_there_is_refused(tmp_path):
    """Oracle: the words of the error."""
    with pytest.raises(ValueError, match=r"corpora\.both mixes nothing, expected of long, short"):
        mixture(tmp_path, shares={"long": 1, "nothing": 1})
    (tmp_path / "short.jsonl").write_text("")
    config = mixture(tmp_path)
    (tmp_path / "short.jsonl").write_text("")
    with pytest.raises(DataError, match="short of the mixture has no records"):
        list(read_records(config))


def test_a_text_and_its_translation_take_turns_to_be_first(tmp_path):
    """Oracle: the records, by hand."""
    texts = [record.text for record in read_records(pairs(tmp_path))]
    assert texts[:3] == ["light 0 نور 0", "نور 1 light 1", "light 2 نور 2"]
    assert list(read_pairs(pairs(tmp_path)))[1] == ("light 1", "نور 1")
    with pytest.raises(ConfigError, match="translation_field"):
        list(read_pairs(corpus(tmp_path, "pairs.jsonl", field="en")))
    with pytest.raises(ValueError, match="not unit: sentence"):
        pairs(tmp_path, unit="sentence")


def test_one_record_in_so_many_is_read(tmp_path):
    """Oracle: a slice."""
    write_lines(tmp_path / "long.jsonl", LONG)
    records = list(read_records(corpus(tmp_path, "long.jsonl", one_in=7)))
    assert [record.text for record in records] == LONG[::7]
    assert [record.number for record in records] == list(range(len(LONG[::7])))


def test_a_list_of_words_is_a_text(tmp_path):
    """Oracle: the words and blanks between them."""
    (tmp_path / "rows.jsonl").write_text(json.dumps({"tokens": ["Al", "-", "Zaman"]}) + "\n")
    assert [record.text for record in read_records(corpus(tmp_path, "rows.jsonl", field="tokens"))] == ["Al - Zaman"]


def test_a_recipe_names_the_corpora_that_it_aligns(tmp_path):
    """Oracle: the words of the error."""
    start = {"kind": "transplant", "source": "somewhere", "vocabulary": "joint", "parallel": ["pairs"]}
    tree = {
        "name": "x", "data": {"source": {"kind": "generator", "grammar": "x.yaml"}},
        "vocabularies": {"joint": {"size": 100}}, "models": {"a": {"start": start, "head": "none"}},
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"models\.a reads pairs, which corpora does not name"):
        Recipe.model_validate(tree)
    Recipe.model_validate(tree | {"corpora": {"pairs": pairs(tmp_path).model_dump()}})
