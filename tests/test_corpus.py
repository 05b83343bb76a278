"""Unlabelled text from files and the Hub, and the stream of batches made of it."""

import gzip
import itertools
import json
import time
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_models import WORDS, make_tokenizer

from artifact.errors import DataError
from distill.batching import FeedPosition, Plan
from distill.config import CorpusConfig
from distill.corpus import corpus_files, cut, read_records
from distill.stream import Stream

TEXTS = ["turn on the light", "play jazz", "Ünïcode 光 نور", "what time is it now please", "stop", "kitchen", "off"]


def corpus(directory, *files, unit="line", field="text", **more) -> CorpusConfig:
    return CorpusConfig(
        source={"kind": "files", "directory": directory, "files": files, "field": field}, unit=unit, **more
    )


def write_lines(path, texts):
    path.write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts)), "utf-8")
    return path


def make_sentences(count: int, seed: int = 0) -> list[str]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 20, (count,), generator=generator).tolist()
    return [
        " ".join(WORDS[i] for i in torch.randint(len(WORDS), (length,), generator=generator).tolist())
        for length in lengths
    ]


def words_of(batches) -> Counter:
    ids = [i for batch in batches for i in batch.token_ids()[batch.mask].tolist()]
    return Counter(word for word in make_tokenizer().convert_ids_to_tokens(ids) if not word.startswith("["))


def one_pass(stream, plan):
    """The batches of the first pass over the corpus."""
    steps = itertools.takewhile(lambda step: step[1].epoch == 0, stream.steps(plan, FeedPosition()))
    return (batch for parts, _ in steps for batch in parts)


def equal(a, b) -> bool:
    (ours, at), (theirs, there) = a, b
    pairs = list(zip(ours, theirs, strict=True))
    return at == there and all(
        x.inputs.keys() == y.inputs.keys() and all(torch.equal(x.inputs[k], y.inputs[k]) for k in x.inputs)
        for x, y in pairs
    )


def test_every_format_holds_the_same_texts(tmp_path):
    """Oracle: the texts that were written, by other libraries' writers."""
    plain = write_lines(tmp_path / "a.jsonl", TEXTS)
    (tmp_path / "b.json").write_bytes(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n\r\n"))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    with pa.output_stream(str(tmp_path / "d.jsonl.zst"), compression="zstd") as file:
        file.write(plain.read_bytes())
    pq.write_table(pa.table({"other": [1] * len(TEXTS), "text": TEXTS}), tmp_path / "e.parquet", row_group_size=3)
    (tmp_path / "f.txt").write_text("\n".join(TEXTS) + "\n\n", "utf-8")
    files = sorted(path.name for path in tmp_path.iterdir())
    for name in files:
        assert [record.text for record in read_records(corpus(tmp_path, name))] == TEXTS, name
    together = list(read_records(corpus(tmp_path, *files)))
    assert [record.text for record in together] == TEXTS * 6
    assert [record.number for record in together] == list(range(6 * len(TEXTS)))
    assert corpus_files(corpus(tmp_path, *files)) == {name: tmp_path / name for name in files}


def test_a_hub_data_set_is_a_stream_of_the_same_records(tmp_path):
    """Oracle: the texts written; a directory stands for the Hub, which `datasets` reads alike."""
    write_lines(tmp_path / "train.jsonl", TEXTS)
    config = CorpusConfig(source={"kind": "hub", "name": str(tmp_path)})
    assert [record.text for record in read_records(config, rank=1, world=2)] == TEXTS[1::2]
    assert corpus_files(config) == {}
    missing = CorpusConfig(source={"kind": "hub", "name": str(tmp_path), "field": "body"})
    with pytest.raises(DataError, match=r"line 1 has no field 'body', found id, text"):
        next(read_records(missing))


def test_records_are_dealt_out_and_passed_over(tmp_path):
    """Oracle: the slices of a list."""
    config = corpus(tmp_path, write_lines(tmp_path / "a.jsonl", TEXTS).name)
    for rank, skip in itertools.product(range(3), range(4)):
        found = [record.text for record in read_records(config, rank=rank, world=3, skip=skip)]
        assert found == TEXTS[rank::3][skip:]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("document", ["One. Two?\r\n \n  Three"]),
        ("line", ["One. Two?", "Three"]),
        ("sentence", ["One.", "Two?", "Three"]),
    ],
)
def test_a_record_is_cut_into_units(unit, expected):
    """Oracle: written out."""
    assert cut("One. Two?\r\n \n  Three\n", unit) == expected
    assert cut(" \n\t\u2003\n", unit) == []


@pytest.mark.parametrize(
    "sentences",
    [
        ["It is 3.14 or so!", 'He said: "Stop."', "And left… ", "(So they say.)", "Why?!", "etc."],
        ["J. R. R. Tolkien wrote it.", "I did not. "],
        ["ما الذي أيقظك؟", "لن يتخلى عنك توم.", "حسنا"],
    ],
)
def test_sentences_of_several_scripts(sentences):
    """Oracle: the sentences that the line was made of."""
    assert cut(" ".join(sentences), "sentence") == [sentence.strip() for sentence in sentences]


def test_chinese_sentences_need_no_space():
    """Oracle: the sentences that the line was made of."""
    sentences = ["“我们走吧。”", "真的吗？！", "3.14不是整数。", "好"]  # noqa: RUF001 - Chinese marks
    assert cut("".join(sentences), "sentence") == sentences


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text": "b"\n',
            r"a.jsonl, line 2 is not JSON: Expecting ',' delimiter at column 13",
        ),
        ("a.jsonl", b'{"text": "a"}\n\n["b"]\n', r"a.jsonl, line 3 holds a list, expected one JSON object a line"),
        ("a.jsonl", b'{"text": "a"}\n{"body": "b", "id": 1}\n', "line 2 has no field 'text', found body, id"),
        ("a.jsonl", b'{"text": 7}\n', "line 1: the field 'text' holds a int, expected text"),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', "line 1: the field 'text' holds half of a surrogate pair"),
        ("a.jsonl", b"[" * 100_000 + b"\n", "line 1 is not JSON that can be read: it is nested too deeply"),
        ("a.txt", "grün\n".encode() + "grün\n".encode("latin-1"), r"a.txt, line 2 is not UTF-8: byte 0xfc at column 3"),
        ("a.txt", "turn on".encode("utf-16"), r"a.txt, line 1 is not UTF-8: byte 0xff at column 1"),
        ("a.txt", b" \n\n\t\n", "the corpus has no text"),
        ("a.jsonl", b'{"text": null}\n{"text": " "}\n', "the corpus has no text"),
        ("a.jsonl", b"", "the corpus has no text"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n', mtime=0)[:-9], "cannot read .*a.jsonl.gz: "),
        ("a.jsonl.gz", b'{"text": "a"}\n', "cannot read .*a.jsonl.gz: Not a gzipped file"),
        ("a.txt.zst", b"plain", "cannot read .*a.txt.zst: "),
        ("a.parquet", b"plain", "cannot read .*a.parquet: "),
        ("a.csv", b"a,b\n", r"no reader for a.csv\n  expected .jsonl, .json, .txt, .parquet, also as .gz or .zst"),
    ],
)
def test_a_corpus_that_cannot_be_read_is_named(tmp_path, name, content, message):
    """Oracle: the message a user reads, from the first step."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        next(Stream(make_tokenizer(), corpus(tmp_path, name), 16).steps(Plan(batch_size=4), FeedPosition()))


def test_missing_files_are_all_named(tmp_path):
    """Oracle: the message a user reads; and that of a Parquet file without the field."""
    with pytest.raises(DataError, match=r"there is no file .*a.txt, .*b.txt, .*words.tsv"):
        corpus_files(corpus(tmp_path, "a.txt", "b.txt", code_switch={"lexicon": tmp_path / "words.tsv"}))
    pq.write_table(pa.table({"body": ["a"], "id": [1]}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"c.parquet, line 1 has no field 'text', found body, id"):
        next(read_records(corpus(tmp_path, "c.parquet")))


def test_a_hub_data_set_that_cannot_be_fetched_is_one_short_error():
    """Oracle: the message a user reads, offline."""
    config = CorpusConfig(source={"kind": "hub", "name": "nobody/nothing-here"})
    with pytest.raises(DataError, match="cannot read 'nobody/nothing-here' from the Hub: ") as caught:
        next(read_records(config))
    assert len(str(caught.value).splitlines()) == 2


def test_a_process_without_records_says_so(tmp_path):
    """Oracle: the message a user reads."""
    (tmp_path / "a.txt").write_text("jazz\n")
    stream = Stream(make_tokenizer(), corpus(tmp_path, "a.txt"), 16)
    with pytest.raises(DataError, match="the corpus has no text in the share of process 1 of 2"):
        next(stream.steps(Plan(batch_size=4, rank=1, world=2), FeedPosition()))


PLANS = {
    "texts": Plan(batch_size=8, accumulate=3, seed=4),
    "tokens": Plan(batch_size=8, batch_tokens=90, seed=4),
    "packed": Plan(batch_size=8, batch_tokens=90, packing=True, accumulate=2, seed=4),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_a_stream_goes_on_from_any_step(tmp_path, plan):
    """Oracle: 30 steps without a stop, tensor for tensor, over several windows and passes."""
    (tmp_path / "a.txt").write_text("\n".join(make_sentences(70)))
    (tmp_path / "words.tsv").write_text("jazz\trock\t2\njazz\tmusic\t1\nlight\tlamp\t1\n")
    switch = {"lexicon": tmp_path / "words.tsv", "word_share": 0.5}
    config = corpus(tmp_path, "a.txt", code_switch=switch)

    def steps(position):
        return Stream(make_tokenizer(), config, 12, window_texts=30).steps(plan, position)

    straight = list(itertools.islice(steps(FeedPosition()), 30))
    assert straight[-1][1].epoch >= 1
    assert max(position.window for _, position in straight) >= 1
    for stop in range(1, 30, 5):
        rest = itertools.islice(steps(straight[stop - 1][1]), 30 - stop)
        assert all(itertools.starmap(equal, zip(rest, straight[stop:], strict=True)))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_two_processes_read_every_word_once(tmp_path, plan):
    """Oracle: the words of the file, counted."""
    sentences = make_sentences(90)
    write_lines(tmp_path / "a.jsonl", sentences)
    stream = Stream(make_tokenizer(), corpus(tmp_path, "a.jsonl"), 12, window_texts=25)
    counts = []
    for rank in range(2):
        share = Plan(**{**vars(plan), "rank": rank, "world": 2})
        counts.append(words_of(one_pass(stream, share)))
    assert counts[0] + counts[1] == Counter(" ".join(sentences).split())
    assert abs(counts[0].total() - counts[1].total()) < 0.2 * counts[0].total()


def test_epochs_differ_and_hold_the_same_text(tmp_path):
    """Oracle: the words of the file; the order of the first batch."""
    sentences = make_sentences(40)
    (tmp_path / "a.txt").write_text("\n".join(sentences))
    stream = Stream(make_tokenizer(), corpus(tmp_path, "a.txt"), 32)
    plan = Plan(batch_size=8)
    first, second = (list(itertools.islice(stream.steps(plan, FeedPosition(epoch=e)), 5)) for e in (0, 1))
    for steps in (first, second):
        assert words_of(batch for parts, _ in steps for batch in parts) == Counter(" ".join(sentences).split())
    assert not all(torch.equal(a[0][0].mask, b[0][0].mask) for a, b in zip(first, second, strict=True))


def test_words_are_switched_anew_in_each_record_and_epoch_but_not_by_each_process(tmp_path):
    """Oracle: one process's words for two; counts; and the caller's tokenizer is left as it was set."""
    (tmp_path / "a.txt").write_text("light\n" * 400)
    (tmp_path / "words.tsv").write_text("light\tjazz\t3\nlight\trock\t1\n")
    config = corpus(tmp_path, "a.txt", code_switch={"lexicon": tmp_path / "words.tsv", "word_share": 0.5})
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.enable_padding(length=9)
    stream = Stream(tokenizer, config, 12, window_texts=50)
    whole = words_of(one_pass(stream, Plan(batch_size=8)))
    halves = [words_of(one_pass(stream, Plan(batch_size=8, rank=rank, world=2))) for rank in range(2)]
    assert halves[0] + halves[1] == whole
    assert whole["light"] == pytest.approx(200, abs=40)
    assert whole["jazz"] == pytest.approx(150, abs=40)
    later = itertools.takewhile(lambda s: s[1].epoch == 1, stream.steps(Plan(batch_size=8), FeedPosition(epoch=1)))
    assert words_of(batch for parts, _ in later for batch in parts) != whole
    assert tokenizer.backend_tokenizer.padding["length"] == 9


def test_a_corpus_is_read_no_further_than_it_must(tmp_path):
    """Oracle: a line that cannot be read does no harm to the windows before it, and stops the one it is in."""
    (tmp_path / "a.txt").write_bytes("\n".join(make_sentences(100)).encode() + b"\n\xff\n")
    steps = Stream(make_tokenizer(), corpus(tmp_path, "a.txt"), 32, window_texts=20).steps(
        Plan(batch_size=10), FeedPosition()
    )
    found = []
    with pytest.raises(DataError, match="line 101 is not UTF-8"):
        found.extend(steps)
    assert len(found) == 10


def test_giant_lines_and_single_words(tmp_path):
    """Oracle: the words, counted; seconds, not minutes, for a line of a megabyte and for one of stops alone."""
    giant = "light kitchen please " * 50_000
    (tmp_path / "a.txt").write_text("jazz\nrock\n" + giant + "\nstop\n" + "." * 200_000 + "\n")
    stream = Stream(make_tokenizer(), corpus(tmp_path, "a.txt", unit="sentence"), 64)
    begun = time.monotonic()
    batches = list(one_pass(stream, Plan(batch_size=1, batch_tokens=65_536)))
    assert time.monotonic() - begun < 10
    expected = {"light": 50_000, "kitchen": 50_000, "please": 50_000, "jazz": 1, "rock": 1, "stop": 1}
    assert words_of(batches) == expected
    assert max(batch.mask.shape[1] for batch in batches) <= 64
    assert cut("." * 1_000_000, "sentence") == ["." * 1_000_000]


def test_pairs_come_as_texts_and_then_their_answers(tmp_path):
    """Oracle: the file's own lines, tokenised one by one, for a stream of pairs and two parts of a step."""
    rows = [{"text": f"light {'on ' * (i % 3)}", "answer": f"music {'now ' * (i % 4)}"} for i in range(8)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"kind": "files", "directory": tmp_path, "files": ["pairs.jsonl"], "pair_field": "answer"}
    config = CorpusConfig.model_validate({"source": source, "unit": "document"})
    tokenizer = make_tokenizer()
    steps = Stream(tokenizer, config, 16).steps(Plan(batch_size=8, accumulate=2), FeedPosition())
    parts, _ = next(steps)
    found = set()
    for part in parts:
        half = len(part.labels) // 2
        texts = [tuple(ids[mask].tolist()) for ids, mask in zip(part.inputs["input_ids"], part.mask, strict=True)]
        found |= set(zip(texts[:half], texts[half:], strict=True))
    assert [len(part.labels) for part in parts] == [8, 8]
    assert found == {tuple(tuple(tokenizer(row[name])["input_ids"]) for name in ("text", "answer")) for row in rows}
