"""The bench stage, the PyTorch row, and what is said of the machine."""

import getpass
import json
import os
import platform
import subprocess
import sys

import numpy as np
import psutil
import pytest
import torch
from serve_bundles import make_bundle
from tiny_models import LABELS, make_bert, make_tokenizer, seal_dataset
from transformers import AutoModelForSequenceClassification

from artifact.errors import BenchError, ConfigError, ModelError
from artifact.manifest import Request, seal
from artifact.stage import request_of, run_stage
from pipeline.bench import bear_optional, bench_stage, check_threads, run_bench
from pipeline.bench_config import BenchRequest, looks_of, rounds_to_next
from pipeline.bench_http import services
from pipeline.bench_more import ask_gates
from pipeline.bench_samples import keeping, speed_row
from pipeline.floor_fit import floor_stage
from pipeline.machine import busy_cores, fingerprint, load_average, tell_if_busy
from pipeline.pytorch import PyTorchEngine
from pipeline.recipe import Recipe
from pipeline.results import Benchmark
from serve.latency.plan import Round

TEXTS = ["turn on the light", "play some jazz music please stop it now", "light"]
SHORT = {
    "threads": 1, "rounds": 2, "calls_per_round": 3, "batch_size": 4, "texts": 10, "streams": 3, "queries_per_round": 2,
    "openings": 1,
}  # fmt: skip
FASTER = {"metric": "latency_p50", "reference": "teacher/float32", "min_ratio": 2}

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


def test_the_request_holds_the_gates_that_more_rounds_can_decide(root):
    """Oracle: what each metric is of; a bound on size must not make a benchmark stale, one on speed must."""
    gates = {"faster": FASTER, "smaller": {"metric": "size", "reference": "teacher/float32", "max_ratio": 0.5}}
    stage, _ = bench_stage(Recipe.model_validate(RECIPE | {"gates": gates}), root)
    request, _ = request_of(stage)
    assert (request.config["candidate"], set(request.config["gates"])) == ("student/int8", {"faster"})


def test_a_gate_on_what_is_not_measured(root):
    """Oracle: the gate and the scenario that it lacks."""
    recipe = RECIPE | {"gates": {"busy": FASTER | {"metric": "throughput"}}, "bench": {"scenarios": ["SingleStream"]}}
    with pytest.raises(ConfigError, match=r"gates\.busy is on throughput, which is not measured\n  add Offline"):
        bench_stage(Recipe.model_validate(recipe), root)


def test_another_histogram_is_another_benchmark(root, tmp_path):
    """Oracle: the request changes with the file's content, and a file that is none stops the stage before its work."""
    path = tmp_path / "lengths.json"
    recipe = Recipe.model_validate(RECIPE | {"bench": {"histogram": str(path)}})
    path.write_text('{"16": 3}')
    first = request_of(bench_stage(recipe, root)[0])[0].recipe
    path.write_text('{"16": 4}')
    assert request_of(bench_stage(recipe, root)[0])[0].recipe != first
    path.write_text("3")
    with pytest.raises(ConfigError, match="is no histogram"):
        bench_stage(recipe, root)


def test_more_threads_than_cores():
    """Oracle: the numbers in the message."""
    check_threads(2, 2)
    with pytest.raises(BenchError, match=r"bench\.threads is 4, but this process may use 2 cores"):
        check_threads(4, 2)


def test_rows_share_a_service_but_pytorch_has_its_own(root):
    """Oracle: the rows of the recipe; no service sees a variable of the other's."""
    rows = ("teacher/pytorch", "teacher/float32", "student/int8")
    (one, pytorch), (both, bundles) = services(BenchRequest(rows=rows, threads=1), rows, root, root / "home")
    assert (one, both) == (["teacher/pytorch"], ["teacher/float32", "student/int8"])
    assert "pipeline.pytorch_service:PyTorch" in pytorch.argv
    assert "serve.service:Understudy" in bundles.argv
    assert pytorch.environment["UNDERSTUDY_MODEL"] == str(root / "models" / "teacher")
    assert bundles.environment["UNDERSTUDY_THREADS"] == pytorch.environment["UNDERSTUDY_THREADS"] == "1"
    assert pytorch.port != bundles.port


def test_bundles_are_measured_in_process(root):
    """Oracle: the counts asked for; size and threads as the bundle and the runtime have them; raw lines as kept."""
    rows = ("teacher/float32", "student/int8")
    facts = run_bench(BenchRequest(rows=rows, http=False, lengths=(6, 16, 512), **SHORT), root, root)
    benchmark = Benchmark.model_validate_json((root / "benchmark.json").read_bytes())
    assert (tuple(benchmark.in_process), benchmark.http) == (rows, {})
    for name, row in benchmark.in_process.items():
        assert [len(calls) for calls in row.single_ms] == [3, 3]
        assert [len(calls) for calls in row.multi_ms] == [2, 2]
        assert {tokens: [len(calls) for calls in rounds] for tokens, rounds in row.by_length_ms.items()} == {
            6: [2, 2], 16: [2, 2],
        }  # fmt: skip
        assert len(row.batch_texts_per_second) == 2
        assert min(ms for calls in row.single_ms for ms in calls) > 0
        assert row.threads == 1
        assert facts["in_process"][name]["p50_ms"] > 0
    graph = root / "bundles" / "student" / "onnx" / "model_quantized.onnx"
    assert benchmark.in_process["student/int8"].size_bytes == graph.stat().st_size
    raw = [json.loads(line) for line in (root / "records" / "raw.jsonl").read_text().splitlines()]
    for name, row in benchmark.in_process.items():
        assert tuple(tuple(line["single_ms"]) for line in raw if line["row"] == name) == row.single_ms
        assert tuple(tuple(line["multi_ms"]) for line in raw if line["row"] == name) == row.multi_ms
    assert (facts["texts"], facts["rounds"]) == (10, 2)
    assert facts["lengths_left_out"] == {row: [512] for row in rows}
    assert (benchmark.looks, benchmark.absent) == (6, {})
    assert benchmark.load_average == facts["load_average"]
    assert set(benchmark.load_average) == {"before", "after"}


def test_an_optional_row_may_be_absent(root):
    """Oracle: there is nothing to open the row from; the reason ends with its own last error, the others are there."""
    rows = ("teacher/pytorch-compiled", "student/int8")
    config = BenchRequest(rows=rows, http=False, scenarios=("SingleStream",), candidate="student/int8", **SHORT)
    run_bench(config, root, root)
    benchmark = Benchmark.model_validate_json((root / "benchmark.json").read_bytes())
    assert tuple(benchmark.in_process) == ("student/int8",)
    assert benchmark.in_process["student/int8"].batch_texts_per_second == ()
    assert benchmark.in_process["student/int8"].multi_ms == ()
    (reason,) = benchmark.absent.values()
    assert reason.startswith("died while it was measured: exit code 1; artifact.errors.")


def test_no_row_that_a_gate_needs_may_be_absent():
    """Oracle: who is judged, and who is optional."""
    gates = {"faster": FASTER | {"reference": "teacher/pytorch-compiled"}}
    rows = ("teacher/pytorch-compiled", "teacher/pytorch-eager", "student/int8")
    absent = {}
    lose = bear_optional(BenchRequest(rows=rows, candidate="student/int8", gates=gates), absent)
    for row in ("student/int8", "teacher/pytorch-compiled", "teacher/float32"):
        with pytest.raises(BenchError, match="no compiler"):
            lose(row, BenchError(f"{row} has no compiler"))
    lose("teacher/pytorch-eager", BenchError("teacher/pytorch-eager has no compiler"))
    assert absent == {"teacher/pytorch-eager": "has no compiler"}


def turn(index, *, multi_ms=()):
    return Round(
        index=index, begun_ns=0, ended_ns=1, single_ms=(1.0,), multi_ms=multi_ms, batch_texts=4, batch_seconds=2
    )


def test_rounds_go_on_while_a_gate_is_open(capsys):
    """Oracle: longhand: 3 rounds, 6 and 12 are three looks; the gates say how many rounds they need."""
    config = BenchRequest(rows=("a/b",), rounds=3, max_rounds=20, candidate="a/b", gates={"faster": FASTER})
    seen = []

    def needs(rounds):
        def judge(gates, candidate, rows, *, looks):
            seen.append((len(rows["a/b"].single_ms), looks))
            return frozenset(rows) if len(rows["a/b"].single_ms) < rounds else frozenset()

        return ask_gates(config, judge)

    taken = [{"a/b": [turn(index) for index in range(rounds)]} for rounds in (3, 6, 12)]
    assert [needs(6)(turns) for turns in taken] == [3, 0, 0]
    assert [needs(100)(turns) for turns in taken] == [3, 6, 0]
    assert seen == [(3, 3), (6, 3), (12, 3)] * 2
    said = " ".join(capsys.readouterr().err.split())
    assert "3 rounds do not decide the gates on speed (a/b): rounds 4 to 6 of at most 12" in said
    assert (
        "12 rounds do not decide the gates on speed (a/b), and bench.max_rounds = 20 does not allow twice as many"
        in said
    )
    assert ask_gates(config.model_copy(update={"gates": {}}))(taken[0]) == 0


def test_gates_look_after_twice_as_many_rounds_each_time():
    """Oracle: longhand; one look at least, and none beyond the limit."""
    assert looks_of(10, 80) == (10, 20, 40, 80)
    assert looks_of(10, 79) == (10, 20, 40)
    assert looks_of(12, 5) == (12,)
    assert [rounds_to_next((10, 20, 40), rounds) for rounds in (10, 20, 40)] == [10, 20, 0]


def test_rounds_that_decide_gates_hold_no_more_than_that():
    """Oracle: longhand: two turns with queries and one without."""
    row = speed_row([turn(0, multi_ms=(5.0, 6.0)), turn(1, multi_ms=(7.0, 8.0)), turn(2)], threads=1)
    assert row.multi_ms == ((5.0, 6.0), (7.0, 8.0))
    assert row.single_ms == ((1.0,),) * 3
    assert row.batch_texts_per_second == (2.0,) * 3


def fail_after(path, turns, error):
    with keeping(path) as keep:
        for each in turns:
            keep("in_process")("a/b", each)
        raise error


def test_a_failure_says_where_the_samples_are(tmp_path):
    """Oracle: the line that was kept; without one, the error is left as it was."""
    path = tmp_path / "records" / "raw.jsonl"
    with pytest.raises(BenchError, match="a/b died") as caught:
        fail_after(path, [turn(0)], BenchError("a/b died", "give it memory"))
    assert caught.value.hint.splitlines()[0] == "give it memory"
    assert str(path) in caught.value.hint
    assert json.loads(path.read_text())["row"] == "a/b"
    with pytest.raises(BenchError, match="a/b died") as caught:
        fail_after(path, [], BenchError("a/b died"))
    assert caught.value.hint == ""


def test_an_interrupt_says_where_the_samples_are(tmp_path, capsys):
    """Oracle: the path on stderr, and that the interrupt goes on."""
    path = tmp_path / "raw.jsonl"
    with pytest.raises(KeyboardInterrupt):
        fail_after(path, [turn(0)], KeyboardInterrupt())
    assert str(path) in capsys.readouterr().err.replace("\n", "")


@pytest.mark.slow
def test_all_rows_over_http(root, model):
    """Oracle: the counts asked for, the sizes on disk; an answer over HTTP goes through the same engine and more."""
    (root / "models" / "teacher").rename(root / "models" / "unused")
    (root / "models" / "teacher").symlink_to(model)
    rows = ("teacher/pytorch", "teacher/float32", "student/int8")
    facts = run_bench(BenchRequest(rows=rows, lengths=(6,), **SHORT), root, root)
    benchmark = Benchmark.model_validate_json((root / "benchmark.json").read_bytes())
    assert tuple(benchmark.http) == tuple(benchmark.in_process) == rows
    for name in rows:
        http, inside = benchmark.http[name], benchmark.in_process[name]
        assert [len(calls) for calls in http.single_ms] == [3, 3]
        assert [len(calls) for calls in http.multi_ms] == [2, 2]
        assert [len(calls) for calls in http.by_length_ms[6]] == [2, 2]
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


def test_the_fingerprint_knows_the_limits_of_its_control_groups(tmp_path):
    """Oracle: files as both versions of the kernel's control groups write them; none where there is no limit."""
    (tmp_path / "2" / "pod").mkdir(parents=True)
    (tmp_path / "2" / "pod" / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "2" / "pod" / "memory.max").write_text("max\n")
    (tmp_path / "2" / "memory.max").write_text(f"{3 * 2**30}\n")
    (tmp_path / "member").write_text("0::/pod\n")
    second = fingerprint(cgroups=tmp_path / "2", membership=tmp_path / "member")
    assert (second["cgroup_cores"], second["cgroup_memory_gib"]) == (1.5, 3.0)
    for name, text in {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}.items():
        (tmp_path / "1" / "cpu").mkdir(parents=True, exist_ok=True)
        (tmp_path / "1" / "cpu" / name).write_text(text)
    (tmp_path / "1" / "memory" / "pod").mkdir(parents=True)
    (tmp_path / "1" / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712")
    (tmp_path / "member").write_text("4:memory:/pod\n1:cpu:/\n")
    first = fingerprint(cgroups=tmp_path / "1", membership=tmp_path / "member")
    assert not {"cgroup_cores", "cgroup_memory_gib"} & set(first)
    (tmp_path / "1" / "memory" / "pod" / "memory.limit_in_bytes").write_text(str(2**31))
    assert fingerprint(cgroups=tmp_path / "1", membership=tmp_path / "member")["cgroup_memory_gib"] == 2.0


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


def test_a_neighbour_is_seen_and_told_of(monkeypatch, capsys):
    """Oracle: a process that burns a core; then shares made up, of cores that are ours and of one that is not."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        try:
            assert busy_cores() > 0.25
        finally:
            neighbour.kill()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
    for shares, told in (([30, 100, 10], ""), ([50, 0, 10], "others keep 0.6 of 2 cores busy: so what\n")):
        monkeypatch.setattr(psutil, "cpu_percent", lambda shares=shares, **_: shares)
        tell_if_busy(2, "so what")
        assert capsys.readouterr().err.lstrip() == told
