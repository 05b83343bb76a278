"""Texts made to lengths: fixed ones and a histogram's."""

import json
from collections import Counter

import pytest
from serve_bundles import MAX_TOKENS, make_bundle, make_tokenizer
from tiny_models import seal_dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from artifact.config import parse_config
from artifact.errors import BenchError, ConfigError, DataError
from pipeline.bench_config import BenchConfig, BenchRequest
from pipeline.bench_inputs import leave_out, make_inputs, make_workload, read_histogram, read_max_tokens
from serve.latency.inputs import find_words, make_texts

ROWS = ("student/float32", "student/int8")


def make_byte_tokenizer():
    """Of bytes, with merges for two words behind a space; `sun` is one token only at the very beginning."""
    merges = [("Ġ", "l"), ("Ġl", "o"), ("Ġlo", "w"), ("Ġ", "w"), ("Ġw", "i"), ("Ġwi", "n"), ("s", "u"), ("su", "n")]
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={piece: number for number, piece in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.post_processor = processors.RobertaProcessing(("!", 0), ('"', 1))
    return tokenizer


@pytest.fixture
def root(tmp_path):
    seal_dataset(tmp_path / "data")
    make_bundle(tmp_path / "bundles" / "student")
    return tmp_path


def count(texts):
    tokenizer = make_tokenizer()
    return [len(tokenizer.encode(text).ids) for text in texts]


@pytest.mark.parametrize("tokenizer", [make_tokenizer(), make_byte_tokenizer()], ids=["words", "bytes"])
def test_texts_have_the_tokens_they_say(tokenizer):
    """Oracle: the tokenizer."""
    texts = make_texts(tokenizer, [4, 16, 250, 1], seed=1)
    assert [one.tokens for one in texts] == [4, 16, 250, 3]
    assert [len(tokenizer.encode(one.text).ids) for one in texts] == [4, 16, 250, 3]
    assert texts == make_texts(tokenizer, [4, 16, 250, 1], seed=1)


def test_words_are_one_token_in_any_place():
    """Oracle: the merges, written by hand: of the three words one is two tokens behind a space."""
    assert find_words(make_byte_tokenizer()) == ["low", "win"]


def test_a_tokenizer_without_words():
    """Oracle: a vocabulary of single letters."""
    letters = Tokenizer(models.WordPiece({letter: number for number, letter in enumerate("?abc")}, unk_token="?"))
    with pytest.raises(BenchError, match="knows no whole word"):
        make_texts(letters, [8], seed=1)


def test_texts_are_drawn_once_with_the_seed():
    """Oracle: a draw without replacement: no text twice, the same for the same seed, all when there are too few."""
    texts = [f"text {number}" for number in range(50)]
    request = BenchConfig(texts=20, seed=4)
    drawn = make_workload(request, texts).texts
    assert len(set(drawn)) == 20
    assert set(drawn) < set(texts)
    assert drawn == make_workload(request, texts).texts
    assert drawn != make_workload(request.model_copy(update={"seed": 5}), texts).texts
    assert sorted(make_workload(request, texts[:3]).texts) == texts[:3]
    with pytest.raises(DataError, match="test split is empty"):
        make_workload(request, [])


def test_scenarios_choose_what_is_asked():
    """Oracle: the counts of the config, or none."""
    all_three = make_workload(BenchConfig(streams=3, queries_per_round=2, batch_size=4), ["a", "b"]).task(0)
    assert [len(query) for query in all_three.queries] == [3, 3]
    assert [len(batch) for batch in all_three.batches] == [4, 4]
    alone = make_workload(BenchConfig(scenarios=("SingleStream",)), ["a", "b"]).task(0)
    assert (alone.queries, alone.batches, len(alone.singles)) == ((), (), 40)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scenarios": ["SingleStream", "Serverless"]}, r"scenarios\.1: Input should be 'SingleStream', 'MultiStream'"),
        ({"scenarios": ["Offline"]}, "the table and its speed-ups are of single texts: add SingleStream"),
        ({"streams": 129}, "streams: Input should be less than or equal to 128"),
    ],
)
def test_a_scenario_that_does_not_exist(fields, said):
    """Oracle: the fault, with its path."""
    with pytest.raises(ConfigError, match=said):
        parse_config(BenchConfig, fields, where="bench")


def test_fixed_lengths_are_exact_and_kept_to_what_a_row_reads(root, capsys):
    """Oracle: the tokenizer's count; the bundle's own longest input."""
    inputs = make_inputs(BenchRequest(rows=ROWS, lengths=(16, 4, 128)), root)
    task = inputs.workload.task(0)
    assert {tokens: set(count(texts)) for tokens, texts in task.by_length.items()} == {4: {4}, 16: {16}}
    assert all(len(texts) == 10 for texts in task.by_length.values())
    assert inputs.facts["lengths_left_out"] == {row: [128] for row in ROWS}
    assert inputs.max_tokens == dict.fromkeys(ROWS, MAX_TOKENS)
    assert "left out: student/float32 would cut 128 tokens" in " ".join(capsys.readouterr().err.split())


def test_a_length_without_room_for_a_word(root):
    """Oracle: two special tokens and a word are three."""
    with pytest.raises(ConfigError, match=r"bench\.lengths holds 2, the shortest text there is has 3 tokens"):
        make_inputs(BenchRequest(rows=ROWS, lengths=(16, 2)), root)


def test_the_longest_text_of_rows(root):
    """Oracle: descriptions written here; what is no model reads what all models read."""
    (root / "models" / "teacher").mkdir(parents=True)
    (root / "models" / "teacher" / "understudy.json").write_text(json.dumps({"max_tokens": 64}))
    found = read_max_tokens(("teacher/pytorch", *ROWS, "bag-of-words", "absent/int8"), root)
    assert found == {"teacher/pytorch": 64, **dict.fromkeys(ROWS, 16), "bag-of-words": 16, "absent/int8": None}
    assert leave_out((512, 64, 16, 16), found) == {
        "teacher/pytorch": [512], "student/float32": [64, 512], "student/int8": [64, 512], "bag-of-words": [64, 512],
    }  # fmt: skip


def test_a_histogram_is_replayed(root):
    """Oracle: the tokenizer's count of each text against the shares of the file, within five deviations."""
    path = root / "lengths.json"
    path.write_text(json.dumps({"4": 300, "9": 100, "400": 0, "64": 100}))
    inputs = make_inputs(BenchRequest(rows=ROWS, histogram=path, texts=2000), root)
    seen = Counter(count(inputs.workload.texts))
    assert set(seen) == {4, 9, 16}, "what is beyond the longest input is as long as that"
    for tokens, share in {4: 0.6, 9: 0.2, 16: 0.2}.items():
        assert abs(seen[tokens] - 2000 * share) < 5 * (2000 * share * (1 - share)) ** 0.5
    assert inputs.facts["histogram"] == {"median_tokens": 4.0, "longest_tokens": 16, "cut": seen[16]}
    assert inputs.facts["texts"] == 2000
    again = make_inputs(BenchRequest(rows=ROWS, histogram=path, texts=2000), root)
    assert again.workload == inputs.workload


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[16, 64]", "Input should be an object"),
        ("{}", "at least 1 item"),
        ('{"short": 3}', "short: Input should be a valid integer"),
        ('{"16": -1}', "16: Input should be greater than or equal to 0"),
        ('{"0": 1}', "0: Input should be greater than 0"),
        ('{"16": "many"}', "16: Input should be a valid integer"),
        ('{"16": 1', "Invalid JSON"),
        ('{"16": 0}', "counts no text at all"),
        (b"\xff\xfe", "Invalid JSON"),
    ],
)
def test_a_histogram_that_is_none(tmp_path, content, said):
    """Oracle: what is wrong with each file, and how one is written."""
    path = tmp_path / "lengths.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=rf"bench\.histogram: .*lengths\.json .*{said}") as caught:
        read_histogram(path)
    assert '{"16": 120, "64": 30}' in caught.value.hint


def test_a_histogram_that_is_not_there(tmp_path):
    """Oracle: the path in the message."""
    with pytest.raises(ConfigError, match=r"bench\.histogram: cannot read .*nothing\.json: No such file"):
        read_histogram(tmp_path / "nothing.json")
