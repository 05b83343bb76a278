"""The runtime against the tiny graph's equations in numpy, against itself one by one, and on texts nobody wants."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from serve_bundles import HIDDEN, LABELS, MAX_TOKENS, describe, make_bundle
from tokenizers import Tokenizer

from artifact.errors import ArtifactError, ServeError
from artifact.manifest import Request, seal
from serve.bundle import open_bundle
from serve.engine import Engine, kind_of, normalize, scores_of, softmax
from serve.padding import cut_batches
from serve.runtime import Runtime
from serve.threads import available_cores

ODD_TEXTS = ["", " ", "\0", "a\0b", "\ud800", "\udfff x \ud83d", "\U0001f600", "\u202e\ufeff", "x" * 5000, "rain " * 99]

TEXTS = st.one_of(st.text(max_size=40), st.sampled_from(ODD_TEXTS))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "student")


@pytest.fixture(scope="module")
def runtime(bundle) -> Runtime:
    return Runtime.open(bundle, threads=1)


def compute_longhand(bundle: Path, text: str) -> tuple[np.ndarray, np.ndarray]:
    graph = onnx.load(bundle / "onnx/model.onnx").graph
    weights = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    ids = Tokenizer.from_file(str(bundle / "tokenizer.json")).encode(text).ids
    mean = (weights["table"][ids] + weights["types"][0]).mean(axis=0)
    return mean, mean @ weights["matrix"]


def test_equals_the_equations(bundle, runtime):
    """Oracle: masked mean and matrix product in numpy."""
    outputs = runtime.run(["wake me at seven", "rain"])
    for row, text in enumerate(["wake me at seven", "rain"]):
        embedding, logits = compute_longhand(bundle, text)
        np.testing.assert_allclose(outputs.embeddings[row], embedding, atol=1e-5)
        np.testing.assert_allclose(outputs.logits[row], logits, atol=1e-5)
    assert outputs.tokens.tolist() == [6, 3]
    assert outputs.padded_tokens == 12
    np.testing.assert_allclose(runtime.scores(["rain"]).sum(), 1, atol=1e-6)


def test_pairs_equal_the_equations(bundle, runtime):
    """Oracle: BERT's form of a pair written out, `[CLS] a [SEP] b [SEP]`, the second half of the other type."""
    graph = onnx.load(bundle / "onnx/model.onnx").graph
    weights = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    pieces = ["[CLS]", "wake", "me", "[SEP]", "rain", "[SEP]"]
    ids = [Tokenizer.from_file(str(bundle / "tokenizer.json")).token_to_id(piece) for piece in pieces]
    mean = (weights["table"][ids] + weights["types"][[0, 0, 0, 0, 1, 1]]).mean(axis=0)
    outputs = runtime.run(["rain", ("wake me", "rain")])
    np.testing.assert_allclose(outputs.embeddings[1], mean, atol=1e-5)
    np.testing.assert_allclose(outputs.logits[1], mean @ weights["matrix"], atol=1e-5)
    assert outputs.tokens.tolist() == [3, 6]
    assert not np.allclose(runtime.run([("rain", "wake me")]).logits[0], outputs.logits[1], atol=1e-3)


@pytest.mark.parametrize("counts", [(20, 3), (3, 20), (20, 20), (7, 6)])
def test_pairs_lose_tokens_of_the_longer_text(bundle, runtime, counts):
    """Oracle: transformers' own `longest_first`."""
    from transformers import PreTrainedTokenizerFast

    pair = ("rain " * counts[0], "jazz " * counts[1])
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(bundle / "tokenizer.json"))
    expected = theirs(*pair, truncation="longest_first", max_length=MAX_TOKENS)
    (encoding,) = runtime.tokenize([pair]).encodings
    assert encoding.ids == expected["input_ids"]
    assert encoding.type_ids == expected["token_type_ids"]
    truncated = runtime.run([pair]).truncated
    assert truncated is not None
    assert truncated.tolist() == [sum(counts) + 3 > MAX_TOKENS]


@pytest.mark.parametrize("counts", [(20, 3), (3, 20), (20, 20), (7, 6)])
@pytest.mark.parametrize("pair", [True, False])
def test_texts_lose_tokens_at_the_end_that_is_named(bundle, runtime, counts, pair):
    """Oracle: transformers' own `longest_first`, its tokenizer set to that side; left out, that of the bundle."""
    from transformers import PreTrainedTokenizerFast

    halves = tuple(" ".join(["rain", "jazz", "me", "it"][step % 4] for step in range(count)) for count in counts)
    text = halves if pair else halves[0]
    turned = runtime.bundle.info.model_copy(update={"truncation_side": "left"})
    other = Runtime.open(replace(runtime.bundle, info=turned), threads=1)
    for side in ("left", "right"):
        theirs = PreTrainedTokenizerFast(tokenizer_file=str(bundle / "tokenizer.json"), truncation_side=side)
        expected = theirs(*(halves if pair else halves[:1]), truncation="longest_first", max_length=MAX_TOKENS)
        own = runtime if side == "right" else other
        for tokens in (runtime.tokenize([text], cut=side), other.tokenize([text], cut=side), own.tokenize([text])):
            assert tokens.encodings[0].ids == expected["input_ids"]
            assert tokens.encodings[0].type_ids == expected["token_type_ids"]
            assert tokens.truncated.tolist() == [(sum(counts) + 3 if pair else counts[0] + 2) > MAX_TOKENS]


def test_shows_tokens(runtime):
    """Oracle: by hand: WordPiece of a text with a wide character, whole beyond the longest input."""
    (shown,) = runtime.show_tokens(["wake \U0001f600 jazzy"], special=True)
    assert [tuple(token)[1:] for token in shown] == [
        ("[CLS]", True, None, None), ("wake", False, 0, 4), ("\U0001f600", False, 5, 6), ("jazz", False, 7, 11),
        ("y", False, 11, 12), ("[SEP]", True, None, None),
    ]  # fmt: skip
    long, empty, broken = runtime.show_tokens(["rain " * 40, "", "\ud800 rain"], special=False)
    assert (len(long), empty) == (40, [])
    assert [tuple(token)[1:] for token in broken] == [("rain", False, 2, 6)]
    assert runtime.run(["rain " * 40]).tokens.tolist() == [MAX_TOKENS], "the truncation is back"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.one_of(TEXTS, st.tuples(TEXTS, TEXTS)), max_size=20),
    batch_tokens=st.integers(1, 200),
)
def test_batched_equals_one_by_one(bundle, texts, batch_tokens):
    """Oracle: identity. Whatever the texts and the budget, each row is what the text alone gives."""
    runtime = Runtime.open(bundle, threads=1, batch_tokens=batch_tokens)
    together = runtime.run(texts)
    assert together.logits.shape == (len(texts), len(LABELS))
    assert together.embeddings.shape == (len(texts), HIDDEN)
    assert np.isfinite(together.logits).all()
    for row, text in enumerate(texts):
        alone = runtime.run([text])
        np.testing.assert_allclose(together.logits[row], alone.logits[0], atol=1e-5)
        np.testing.assert_allclose(together.embeddings[row], alone.embeddings[0], atol=1e-5)
        assert together.tokens[row] == alone.tokens[0]


def test_runs_beside_each_other_answer_alike(bundle):
    """Oracle: identity. With a second session for runs on one thread each, every row is what the text alone gives."""
    runtime = Runtime.open(bundle, threads=min(2, available_cores()), shared=True)
    texts = [" ".join(["rain wake jazz"] * number) for number in range(12)]
    together = runtime.run(texts)
    for row, text in enumerate(texts):
        np.testing.assert_allclose(together.logits[row], runtime.run([text]).logits[0], atol=1e-5)
    assert runtime.run([]).logits.shape == (0, len(LABELS))


@given(lengths=st.lists(st.integers(1, 500), max_size=60), batch_tokens=st.integers(1, 2000))
def test_batches_hold_each_row_once_within_the_budget(lengths, batch_tokens):
    """Oracle: the definition: a partition of the rows, each batch within the budget or of one row."""
    batches = cut_batches(np.array(lengths, dtype=np.int64), batch_tokens)
    assert sorted(int(row) for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        width = max(lengths[row] for row in batch)
        assert len(batch) == 1 or len(batch) * width <= batch_tokens


def test_sorting_spends_little_on_padding(runtime):
    """Oracle: arithmetic. 16 short and 16 long texts apart cost their own lengths, together they would cost 512."""
    small = Runtime.open(runtime.bundle, threads=1, batch_tokens=16 * MAX_TOKENS)
    outputs = small.run(["rain", "rain " * 30] * 16)
    assert outputs.padded_tokens == int(outputs.tokens.sum()) == 16 * 3 + 16 * MAX_TOKENS


def test_odd_texts_answer(runtime):
    """Oracle: a text's replacement of its lone surrogates by U+FFFD, and finite numbers for all others."""
    outputs = runtime.run(ODD_TEXTS)
    assert np.isfinite(outputs.logits).all()
    same = runtime.run(["\ufffd", "\ufffd x \ufffd"])
    np.testing.assert_allclose(outputs.logits[4:6], same.logits, atol=1e-6)
    assert runtime.run([]).logits.shape == (0, len(LABELS))


def test_truncates_and_says_so(runtime):
    """Oracle: max_tokens of the bundle; what lies beyond it changes nothing."""
    outputs = runtime.run(["rain " * 14, "rain " * 15])
    assert outputs.tokens.tolist() == [MAX_TOKENS, MAX_TOKENS]
    assert outputs.truncated is not None
    assert outputs.truncated.tolist() == [False, True]
    np.testing.assert_allclose(outputs.logits[0], outputs.logits[1], atol=1e-6)


def test_tokenizer_without_special_tokens(tmp_path):
    """Oracle: finite numbers for a text of no tokens, whose mean would be 0 / 0."""
    directory = make_bundle(tmp_path / "student")
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}))
    reseal(directory)
    for side in ("left", "right"):
        description = describe("student") | {"padding": {"id": 0, "side": side}}
        (directory / "understudy.json").write_text(json.dumps(description))
        reseal(directory)
        outputs = Runtime.open(directory, threads=1).run(["", "rain", "wake me"])
        assert np.isfinite(outputs.logits).all()
        alone = Runtime.open(directory, threads=1).run(["rain"])
        np.testing.assert_allclose(outputs.logits[1], alone.logits[0], atol=1e-5)


def reseal(directory: Path) -> None:
    request = Request(stage="export", version=1, config={}, inputs={})
    seal(directory, kind="bundle", request=request, lineage={}, facts={})


def test_describes_itself(bundle, runtime):
    """Oracle: understudy.json, the file size on disk, and the thread count asked for."""
    assert runtime.name == "student/float32"
    assert Runtime.open(bundle, "int8", threads=1, name="other/int8").name == "other/int8"
    assert runtime.labels == LABELS
    assert (runtime.embedding_size, runtime.max_tokens, runtime.threads) == (HIDDEN, MAX_TOKENS, 1)
    assert runtime.size_bytes == (bundle / "onnx/model.onnx").stat().st_size
    engine: Engine = runtime
    assert engine.name == runtime.name


def test_threads_are_the_plan_and_no_more(bundle, monkeypatch):
    """Oracle: the operating system's count of threads, before and after a batch large enough to be split."""
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    code = (
        "import os, pathlib, sys; from serve.runtime import Runtime\n"
        "count = lambda: len(os.listdir('/proc/self/task'))\n"
        "before = count(); runtime = Runtime.open(pathlib.Path(sys.argv[1]), threads=1)\n"
        "runtime.run(['wake me'] * 500); print(count() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, bundle], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_refuses_more_threads_than_cores(bundle):
    """Oracle: the core count of the thread plan."""
    with pytest.raises(ServeError, match="usable core"):
        Runtime.open(bundle, threads=available_cores() + 1)


@pytest.mark.parametrize("name", ["onnx/model.onnx", "tokenizer.json", "understudy.json", "onnx/model_quantized.onnx"])
def test_flipped_byte_is_refused_by_name(tmp_path, name):
    """Oracle: the SHA-256 in the manifest. The message names the file that changed."""
    directory = make_bundle(tmp_path / "student")
    content = bytearray((directory / name).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        Runtime.open(directory)


def test_other_faults_of_a_bundle(tmp_path, bundle):
    """Oracle: the message a reader would need: what is missing, unknown or broken."""
    with pytest.raises(ArtifactError, match="no precision 'int4'"):
        Runtime.open(bundle, "int4")
    with pytest.raises(ArtifactError, match="does not exist"):
        open_bundle(tmp_path / "absent")
    for number, (change, message) in enumerate([
        ({"max_tokens": 0}, "max_tokens"),
        ({"precisions": {"int4": "onnx/absent.onnx"}}, "lacks onnx/absent.onnx"),
        ({"inputs": ["input_ids"]}, "understudy.json says"),
    ]):  # fmt: skip
        directory = make_bundle(tmp_path / str(number))
        (directory / "understudy.json").write_text(json.dumps(describe("student") | change))
        reseal(directory)
        with pytest.raises(ArtifactError, match=message):
            Runtime.open(directory)
    for name in ("onnx/model.onnx", "tokenizer.json"):
        directory = make_bundle(tmp_path / name.replace("/", "-"))
        (directory / name).write_bytes(b"not what it says")
        reseal(directory)
        with pytest.raises(ArtifactError, match=f"{name} does not load"):
            Runtime.open(directory)


@pytest.mark.parametrize(
    ("problem", "scores"),
    [
        ("single-label", [0.25, 0.75]),
        ("multi-label", [0.5, 0.75]),
        ("regression", [0.0, 1.0986123]),
        (None, [0.5, 0.75]),
    ],
)
def test_scores_are_what_the_columns_mean(problem, scores):
    """Oracle: by hand, the logits 0 and ln 3; a ranking has a sigmoid, as text-embeddings-inference gives it."""
    logits = np.array([[0, np.log(3)]], dtype=np.float32)
    np.testing.assert_allclose(scores_of(logits, problem), [scores], rtol=1e-6)


@pytest.mark.parametrize(("task", "kind"), [("token-classification", "tagger"), ("question-answering", "reader")])
def test_a_bundle_that_reads_token_by_token(tmp_path, task, kind):
    """Oracle: each text alone, computed by itself; no row of logits is made up for a text."""
    runtime = Runtime.open(make_bundle(tmp_path / "bundle", task=task), threads=1)
    assert kind_of(runtime) == kind
    texts = ["wake me", "", "will it rain tomorrow"]
    outputs = runtime.run(texts)
    assert outputs.logits.shape == (3, 0)
    for name, rows in outputs.pieces.items():
        for text, row, tokens in zip(texts, rows, outputs.tokens, strict=True):
            assert len(row) == tokens
            np.testing.assert_allclose(row, runtime.run([text]).pieces[name][0], atol=1e-6)


def test_show_tokens_leaves_truncation_to_others(tmp_path):
    """Oracle: the tokenizer's own setting, which other threads rely on meanwhile."""
    runtime = Runtime.open(make_bundle(tmp_path / "bundle"), threads=1)
    (shown,) = runtime.show_tokens(["rain " * 40], special=False)
    assert len(shown) == 40
    assert runtime.whole.truncation is None
    assert runtime.tokenizer.truncation["max_length"] == MAX_TOKENS


def test_softmax_and_normalize():
    """Oracle: the definitions, at values where the naive forms overflow or divide by zero."""
    np.testing.assert_allclose(softmax(np.array([[1000, 1000]], dtype=np.float32)), [[0.5, 0.5]])
    rows = normalize(np.array([[3, 4], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]], atol=1e-7)
    assert softmax(np.zeros((2, 0), dtype=np.float32)).shape == (2, 0)


def test_imports_no_torch():
    """Oracle: `sys.modules` of a fresh interpreter after importing every module of serve/ and artifact/."""
    names = [
        f"{folder}.{path.stem}"
        for folder in ("artifact", "serve")
        for path in Path(folder).glob("*.py")
        if not path.stem.startswith(("_", "measure_"))
    ]
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "optimum", "onnx"} & set(done.stdout.split())
    assert "serve.service" in done.stdout


def test_help_is_light():
    """Oracle: `sys.modules` after `--help`: neither BentoML nor ONNX Runtime was imported."""
    code = "import sys\ntry:\n import serve.__main__; serve.__main__.main(['--help'])\nfinally:\n print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert not {"bentoml", "onnxruntime", "starlette"} & set(done.stdout.split())
