"""The bench stage, the PyTorch row, and what is said of the machine."""

import getpass
import json
import platform

import numpy as np
import pytest
import torch
from serve_bundles import make_bundle
from tiny_models import LABELS, make_bert, make_tokenizer, seal_dataset
from transformers import AutoModelForSequenceClassification

from artifact.errors import BenchError, DataError, ModelError
from artifact.manifest import Request, seal
from artifact.stage import request_of, run_stage
from pipeline.bench import BenchRequest, bench_stage, check_threads, make_workload, run_bench, services
from pipeline.floor_fit import floor_stage
from pipeline.machine import fingerprint, load_average
from pipeline.pytorch import PyTorchEngine
from pipeline.recipe import Recipe
from pipeline.results import Benchmark

TEXTS = ["turn on the light", "play some jazz music please stop it now", "light"]
SHORT = {"threads": 1, "rounds": 2, "calls_per_round": 3, "batch_size": 4, "texts": 10}

RECIPE = {
    "name": "tiny",
    "data": {"source": {"kind": "generator", "grammar": "grammar.yaml"}},
    "models": {
        "teacher": {"start": {"kind": "checkpoint", "source": "somewhere"}},
        "student": {"start": {"kind": "layers", "layers": [0]}, "teacher": "teacher"},
    },
    "candidate": "student/int8",
}

CPUINFO = """\
processor\t: 0
model name\t: Imaginary CPU @ 2.00GHz
flags\t\t: fpu sse2 avx2 fma avx512_vnni

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "teacher"
    make_bert(seed=3).save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    (directory / "understudy.json").write_text(json.dumps({"name": "teacher", "max_tokens": 8}))
    return directory


@pytest.fixture
def root(tmp_path):
    seal_dataset(tmp_path / "data")
    for seed, name in enumerate(("teacher", "student")):
        make_bundle(tmp_path / "bundles" / name, name=name, seed=seed)
        (tmp_path / "models" / name).mkdir(parents=True)
        request = Request(stage="distill", version=1, config={}, inputs={})
        seal(tmp_path / "models" / name, kind="model", request=request, lineage={}, facts={})
    stage, work = floor_stage("bag-of-words", Recipe.model_validate(RECIPE), tmp_path)
    run_stage(stage, work)
    return tmp_path


@torch.inference_mode()
def longhand(directory, text):
    """Logits and embedding of one text, unpadded, straight from the library, with eager attention."""
    model = AutoModelForSequenceClassification.from_pretrained(directory, attn_implementation="eager").eval()
    ids = torch.tensor([make_tokenizer()(text)["input_ids"]])
    ids = torch.cat([ids[:, :7], ids[:, -1:]], dim=1) if ids.shape[1] > 8 else ids
    hidden = model.bert(ids).last_hidden_state[0]
    mean = hidden.mean(dim=0)
    return model(ids).logits[0].numpy(), (mean / mean.norm()).numpy(), ids.shape[1]


def test_the_pytorch_engine_answers_as_transformers_does(model):
    """Oracle: each text alone and unpadded through transformers, eager attention, mean pooling longhand."""
    engine = PyTorchEngine.open(model, threads=1)
    outputs = engine.run(TEXTS)
    for row, text in enumerate(TEXTS):
        logits, embedding, tokens = longhand(model, text)
        np.testing.assert_allclose(outputs.logits[row], logits, atol=1e-5)
        np.testing.assert_allclose(outputs.embeddings[row], embedding, atol=1e-5)
        assert outputs.tokens[row] == tokens
    assert outputs.truncated.tolist() == [False, True, False]
    assert outputs.padded_tokens == 3 * 8


def test_the_pytorch_engine_says_what_it_is(model):
    """Oracle: the files and settings it was made from, PyTorch's own thread count."""
    threads = torch.get_num_threads()
    engine = PyTorchEngine.open(model, threads=1)
    assert (engine.name, engine.labels, engine.max_tokens, engine.embedding_size) == ("teacher/pytorch", LABELS, 8, 32)
    assert engine.size_bytes == (model / "model.safetensors").stat().st_size
    assert engine.threads == torch.get_num_threads() == 1
    assert engine.model.config._attn_implementation == "sdpa"
    torch.set_num_threads(threads)


def test_many_texts_are_cut_into_batches(model, monkeypatch):
    """Oracle: the same texts in one batch."""
    engine = PyTorchEngine.open(model, threads=1)
    whole = engine.run(TEXTS * 3)
    monkeypatch.setattr("pipeline.pytorch.BATCH_TOKENS", 16)
    cut = engine.run(TEXTS * 3)
    np.testing.assert_allclose(cut.logits, whole.logits, atol=1e-6)
    np.testing.assert_allclose(cut.embeddings, whole.embeddings, atol=1e-6)


def test_the_pytorch_engine_reads_pairs_and_shows_tokens(model):
    """Oracle: the library's own call for a pair, alone and unpadded; its tokenizer's ids, whole."""
    engine = PyTorchEngine.open(model, threads=1)
    pair = ("w1 w2", "w3")
    with torch.inference_mode():
        expected = engine.model(**engine.tokenizer(*pair, return_tensors="pt")).logits[0].numpy()
    np.testing.assert_allclose(engine.run(["w1 w2 w3 w4", pair]).logits[1], expected, atol=1e-5)
    (shown,) = engine.show_tokens(["w1 " * 20], special=True)
    assert [token.id for token in shown] == engine.tokenizer("w1 " * 20)["input_ids"]
    assert engine.run(["w1 " * 20]).tokens.tolist() == [engine.max_tokens]


def test_a_directory_without_a_model(tmp_path):
    """Oracle: the error names the directory."""
    with pytest.raises(ModelError, match="nothing does not load in PyTorch"):
        PyTorchEngine.open(tmp_path / "nothing", threads=1)


def test_the_stage_reads_what_its_rows_are_made_from(root):
    """Oracle: the recipe's rows, and the digests in the inputs' own manifests."""
    recipe = Recipe.model_validate(RECIPE)
    stage, _ = bench_stage(recipe, root)
    request, _ = request_of(stage)
    assert (stage.name, stage.kind, stage.out) == ("bench", "benchmark", root / "benchmark")
    assert request.config["rows"] == recipe.row_names()
    floor = "floor:bag-of-words"
    assert set(request.inputs) == {"data", "model:teacher", "bundle:teacher", "bundle:student", floor}
    again, _ = bench_stage(recipe.model_copy(update={"bench": recipe.bench.model_copy(update={"seed": 9})}), root)
    assert request_of(again)[0].recipe != request.recipe


def test_texts_are_drawn_once_with_the_seed():
    """Oracle: a draw without replacement: no text twice, the same for the same seed, all when there are too few."""
    texts = [f"text {number}" for number in range(50)]
    request = BenchRequest(rows=("a/b",), texts=20, seed=4)
    drawn = make_workload(request, texts).texts
    assert len(set(drawn)) == 20
    assert set(drawn) < set(texts)
    assert drawn == make_workload(request, texts).texts
    assert drawn != make_workload(request.model_copy(update={"seed": 5}), texts).texts
    assert sorted(make_workload(request, texts[:3]).texts) == texts[:3]
    with pytest.raises(DataError, match="test split is empty"):
        make_workload(request, [])


def test_more_threads_than_cores():
    """Oracle: the numbers in the message."""
    check_threads(2, 2)
    with pytest.raises(BenchError, match=r"bench\.threads is 4, but this process may use 2 cores"):
        check_threads(4, 2)


def test_rows_share_a_service_but_pytorch_has_its_own(root):
    """Oracle: the rows of the recipe; no service sees a variable of the other's."""
    request = BenchRequest(rows=("teacher/pytorch", "teacher/float32", "student/int8"), threads=1)
    (one, pytorch), (both, bundles) = services(request, root, root / "home")
    assert (one, both) == (["teacher/pytorch"], ["teacher/float32", "student/int8"])
    assert "pipeline.pytorch_service:PyTorch" in pytorch.argv
    assert "serve.service:Understudy" in bundles.argv
    assert pytorch.environment["UNDERSTUDY_MODEL"] == str(root / "models" / "teacher")
    assert bundles.environment["UNDERSTUDY_THREADS"] == pytorch.environment["UNDERSTUDY_THREADS"] == "1"
    assert pytorch.port != bundles.port


def test_bundles_are_measured_in_process(root):
    """Oracle: the counts asked for; size and threads as the bundle and the runtime have them; raw lines as kept."""
    rows = ("teacher/float32", "student/int8")
    facts = run_bench(BenchRequest(rows=rows, http=False, **SHORT), root, root)
    benchmark = Benchmark.model_validate_json((root / "benchmark.json").read_bytes())
    assert (tuple(benchmark.in_process), benchmark.http) == (rows, {})
    for name, row in benchmark.in_process.items():
        assert [len(calls) for calls in row.single_ms] == [3, 3]
        assert len(row.batch_texts_per_second) == 2
        assert min(ms for calls in row.single_ms for ms in calls) > 0
        assert row.threads == 1
        assert facts["in_process"][name]["p50_ms"] > 0
    graph = root / "bundles" / "student" / "onnx" / "model_quantized.onnx"
    assert benchmark.in_process["student/int8"].size_bytes == graph.stat().st_size
    raw = [json.loads(line) for line in (root / "records" / "raw.jsonl").read_text().splitlines()]
    for name, row in benchmark.in_process.items():
        assert tuple(tuple(line["single_ms"]) for line in raw if line["row"] == name) == row.single_ms
    assert facts["texts"] == 10


def test_samples_survive_a_contestant_that_fails(root):
    """Oracle: a bundle that is not there is named; the folder for the samples is."""
    with pytest.raises(BenchError, match=r"absent/int8 died .*exit code 1"):
        run_bench(BenchRequest(rows=("student/int8", "absent/int8"), http=False, **SHORT), root, root)
    assert (root / "records" / "raw.jsonl").is_file()
    assert not (root / "benchmark.json").exists()


@pytest.mark.slow
def test_all_rows_over_http(root, model):
    """Oracle: the counts asked for, the sizes on disk; an answer over HTTP goes through the same engine and more."""
    (root / "models" / "teacher").rename(root / "models" / "unused")
    (root / "models" / "teacher").symlink_to(model)
    rows = ("teacher/pytorch", "teacher/float32", "student/int8")
    facts = run_bench(BenchRequest(rows=rows, **SHORT), root, root)
    benchmark = Benchmark.model_validate_json((root / "benchmark.json").read_bytes())
    assert tuple(benchmark.http) == tuple(benchmark.in_process) == rows
    for name in rows:
        http, inside = benchmark.http[name], benchmark.in_process[name]
        assert [len(calls) for calls in http.single_ms] == [3, 3]
        assert (http.size_bytes, http.threads) == (inside.size_bytes, inside.threads)
        assert http.peak_memory_bytes > 0
    assert facts["client_overhead_ms"] > 0
    assert set(facts["service_ready_seconds"]) == {"teacher/pytorch", "bundles"}


def test_the_fingerprint_reads_the_first_processor(tmp_path):
    """Oracle: a file in the kernel's format, written here."""
    path = tmp_path / "cpuinfo"
    path.write_text(CPUINFO)
    found = fingerprint(path)
    assert found["processor"] == "Imaginary CPU @ 2.00GHz"
    assert found["instruction_sets"] == ["avx2", "fma", "avx512_vnni"]


def test_the_fingerprint_is_stable_and_tells_nothing_private():
    """Oracle: a second look, and what this machine calls itself and its user."""
    found = fingerprint()
    assert found == fingerprint()
    assert found["usable_cores"] <= found["logical_cores"]
    assert any(line.startswith("torch ") for line in found["versions"])
    words = {word for value in found.values() for word in str(value).replace(",", " ").split()}
    assert not words & {platform.node(), getpass.getuser()}
    assert not [word for word in words if word.startswith("/")]
    assert load_average() >= 0
