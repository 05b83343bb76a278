"""How the rows of a report are named, checked, made and opened."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from serve_bundles import LABELS, WORDS, make_bundle
from tiny_models import make_bert, make_tokenizer, seal_dataset

from artifact.config import parse_config
from artifact.dataset import Example
from artifact.digest import hash_file
from artifact.errors import ArtifactError, BenchError, ConfigError, DataError
from artifact.manifest import Request, read_manifest, seal
from artifact.stage import request_of, run_stage
from pipeline.baseline import baseline_stage
from pipeline.bench import run_bench
from pipeline.bench_config import BenchRequest
from pipeline.bench_http import services
from pipeline.calibration import calibration_stage
from pipeline.pytorch import PyTorchEngine
from pipeline.recipe import Recipe
from pipeline.results import Benchmark
from pipeline.rows import measured_inputs, opener, row_inputs, threads_of
from pipeline.rows_config import CascadeConfig, is_optional, is_served
from pipeline.runner import run_steps
from pipeline.stages import steps_of
from serve.runtime import Runtime
from serve.settings import parse_bundles
from serve.trust.calibration import calibrate
from serve.trust.confidence import confidence_of

STUDENT, TEACHER = "student/int8", "teacher/float32"
RECIPE = {
    "name": "tiny",
    "data": {"source": {"kind": "generator", "grammar": "grammar.yaml"}},
    "models": {
        "teacher": {"start": {"kind": "checkpoint", "source": "somewhere"}, "max_tokens": 16},
        "student": {"start": {"kind": "layers", "layers": [0]}, "teacher": "teacher"},
    },
    "rows": {"pytorch": ["sdpa", "eager", "compiled"], "floors": ["bag-of-words", "static-embeddings"]},
    "cascade": {"student": STUDENT, "teacher": TEACHER, "agreement": 0.5},
    "candidate": "cascade",
}
TEXTS = [" ".join(np.random.default_rng(row).choice(WORDS, size=1 + row % 5)) for row in range(60)]


def make_recipe(**fields) -> Recipe:
    return parse_config(Recipe, RECIPE | fields, where="recipe.yaml")


def seal_run(root: Path, candidate: str, *, seed: int = 0) -> Path:
    """The output folder of a run as far as rows need it."""
    examples = [Example(text=text, label=row % 4) for row, text in enumerate(TEXTS)]
    seal_dataset(root / "data", labels=LABELS, splits={"train": examples, "validation": examples, "test": examples})
    for offset, name in ((0, "student"), (7, "teacher")):
        make_bundle(root / "bundles" / name, name=name, seed=seed + offset)
    model = root / "models" / "teacher"
    make_bert(seed=3, labels=LABELS).save_pretrained(model)
    make_tokenizer().save_pretrained(model)
    (model / "understudy.json").write_text(json.dumps({"name": "teacher", "max_tokens": 16}), encoding="utf-8")
    (root / "report").mkdir()
    (root / "report/report.json").write_text(json.dumps({"candidate": candidate}), encoding="utf-8")
    request = Request(stage="made", version=1, config={}, inputs={})
    for directory, kind in ((model, "model"), (root / "report", "report")):
        seal(directory, kind=kind, request=request, lineage={}, facts={})
    return root


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    return seal_run(tmp_path_factory.mktemp("earlier"), "student/int8", seed=20)


@pytest.fixture(scope="module")
def run(tmp_path_factory, earlier):
    """A recipe with every row, and the output folder in which all that they need was made."""
    root, recipe = seal_run(tmp_path_factory.mktemp("run"), "cascade"), make_recipe(baseline=str(earlier))
    run_steps([step for step in steps_of(recipe, root) if step.command == "rows"], force=False)
    return recipe, root


def open_bundle_row(root: Path, row: str) -> Runtime:
    model, _, precision = row.partition("/")
    return Runtime.open(root / "bundles" / model, precision, threads=1)


def test_rows_stand_in_one_order():
    """Oracle: the contract of the report: PyTorch, models in their precisions, cascade, baseline, floors."""
    assert make_recipe(baseline="out/main").row_names() == [
        "teacher/pytorch", "teacher/pytorch-eager", "teacher/pytorch-compiled", "teacher/float32", "teacher/int8",
        "student/float32", "student/int8", "cascade", "baseline", "bag-of-words", "static-embeddings",
    ]  # fmt: skip
    plain = Recipe.model_validate(
        {k: v for k, v in RECIPE.items() if k not in ("rows", "cascade")} | {"candidate": STUDENT}
    )
    assert plain.row_names() == [
        "teacher/pytorch", "teacher/float32", "teacher/int8", "student/float32", "student/int8", "bag-of-words",
    ]  # fmt: skip


def test_what_a_row_may_lack_and_where_it_is_served():
    """Oracle: the rows by name; only PyTorch's other forms are optional, and these and the floors have no service."""
    rows = make_recipe(baseline="out/main").row_names()
    assert [row for row in rows if is_optional(row)] == ["teacher/pytorch-eager", "teacher/pytorch-compiled"]
    assert [row for row in rows if is_served(row)] == [
        "teacher/pytorch", "teacher/float32", "teacher/int8", "student/float32", "student/int8", "cascade", "baseline",
    ]  # fmt: skip
    assert {row: threads_of(row, 2) for row in rows if threads_of(row, 2) == 1}.keys() == {
        "bag-of-words", "static-embeddings",
    }  # fmt: skip


def test_all_faults_of_a_recipes_rows_are_told_at_once():
    """Oracle: the message a user reads, with each wrong row in it."""
    gates = {
        "one": {"metric": "quality", "reference": "student/int4", "min_ratio": 0.9},
        "two": {"metric": "quality", "reference": "static-embeddings", "min_ratio": 0.9},
        "three": {"metric": "quality", "reference": "baseline", "min_ratio": 0.9},
    }
    with pytest.raises(ConfigError) as caught:
        make_recipe(
            candidate="assistant/int8", cascade={"student": "cascade", "teacher": "teacher/pytorch"}, gates=gates
        )
    message = str(caught.value)
    for fault in (
        "cascade.student is 'cascade', expected one of teacher/float32, teacher/int8, student/float32, student/int8",
        "cascade.teacher is 'teacher/pytorch', expected one of",
        "candidate is 'assistant/int8', expected one of teacher/pytorch, ",
        "gates.one.reference is 'student/int4'",
    ):
        assert fault in message
    assert "gates.two" not in message
    assert "gates.three" not in message  # it applies where there is a baseline
    with pytest.raises(ConfigError, match="candidate is 'baseline'"):
        make_recipe(candidate="baseline")
    with pytest.raises(ConfigError, match=r"cascade\.student and cascade\.teacher are both 'student/int8'"):
        make_recipe(cascade={"student": STUDENT, "teacher": STUDENT})
    with pytest.raises(ConfigError, match="rows: pytorch lacks sdpa"):
        make_recipe(rows={"pytorch": ["eager"]})
    make_recipe(baseline="nowhere", candidate="baseline", gates=gates | {"one": gates["two"]})


def test_what_rows_are_made_of_is_made_before_they_are_measured(run):
    """Oracle: the steps of the recipe: each sealed, in an order in which it finds its inputs; `evaluate` needs all."""
    recipe, root = run
    steps = steps_of(recipe, root)
    made = [step.out.relative_to(root).as_posix() for step in steps if step.command == "rows"]
    assert made == ["floors/bag-of-words", "floors/static-embeddings", "calibration", "baseline"]
    assert {path.relative_to(root).as_posix() for path in row_inputs(recipe, root).values()} == set(made)
    for position, step in enumerate(steps):
        assert set(step.needs) <= {before.out for before in steps[:position]}
    (evaluate,) = [step for step in steps if step.command == "evaluate"]
    assert set(evaluate.needs) == set(measured_inputs(recipe, root).values())


def test_every_row_opens_and_answers(run):
    """Oracle: what each says of itself; a factory that came out of a pickle, as a benchmark's worker gets it."""
    recipe, root = run
    for row in recipe.row_names():
        if row == "teacher/pytorch-compiled":  # takes long: a test of its own
            continue
        engine = pickle.loads(pickle.dumps(opener(row, root, 1)))()  # noqa: S301 - our own bytes
        assert (engine.name, tuple(engine.labels), engine.threads) == (row, LABELS, 1)
        assert engine.size_bytes > 0
        assert engine.run(TEXTS[:5]).logits.shape == (5, 4)


def test_the_cascade_is_its_two_models(run):
    """Oracle: both models asked everything and each row chosen by the rule; the file's threshold; the sum of sizes."""
    _, root = run
    student, teacher = open_bundle_row(root, STUDENT), open_bundle_row(root, TEACHER)
    threshold = json.loads((root / "calibration/calibration.json").read_text())["chosen"]["threshold"]
    sure = confidence_of(student.run(TEXTS).logits) > threshold
    assert 0 < sure.sum() < len(TEXTS)
    expected = np.where(sure[:, None], student.run(TEXTS).logits, teacher.run(TEXTS).logits)
    cascade = opener("cascade", root, 1)()
    np.testing.assert_allclose(cascade.run(TEXTS).logits, expected, atol=1e-5)
    assert cascade.size_bytes == student.size_bytes + teacher.size_bytes


def test_the_threshold_is_calibrated_on_the_validation_split(run):
    """Oracle: `calibrate` on the same texts, and the digest of their file."""
    _, root = run
    expected = calibrate(
        open_bundle_row(root, STUDENT), open_bundle_row(root, TEACHER), TEXTS, level=0.5, texts_digest=""
    ).chosen
    facts = read_manifest(root / "calibration").facts
    assert {name: facts[name] for name in expected.model_dump()} == expected.model_dump()
    assert (facts["student"], facts["teacher"], facts["level"], facts["texts"]) == (STUDENT, TEACHER, 0.5, len(TEXTS))
    stored = json.loads((root / "calibration/calibration.json").read_text())
    assert stored["texts_digest"] == hash_file(root / "data/validation.jsonl")


def test_a_cascade_that_nothing_proves_is_its_teacher(tmp_path, capsys):
    """Oracle: on texts of which the two say different things, no threshold will do; the facts and a line say so."""
    root = seal_run(tmp_path, "cascade")
    student, teacher = open_bundle_row(root, STUDENT), open_bundle_row(root, TEACHER)
    differ = student.run(TEXTS).logits.argmax(axis=1) != teacher.run(TEXTS).logits.argmax(axis=1)
    shutil.rmtree(root / "data")
    texts = [text for text, differs in zip(TEXTS, differ, strict=True) if differs] * 20
    validation = [Example(text=text, label=0) for text in texts[:60]]
    seal_dataset(root / "data", labels=LABELS, splits={"validation": validation})
    stage, work = calibration_stage(CascadeConfig(student=STUDENT, teacher=TEACHER, agreement=0.95), root)
    facts = run_stage(stage, work).facts
    assert facts["answered_share"] == 0
    assert "the cascade is its teacher" in capsys.readouterr().err
    np.testing.assert_allclose(opener("cascade", root, 1)().run(texts).logits, teacher.run(texts).logits, atol=1e-5)


def test_too_few_validation_texts_for_the_level(run, tmp_path):
    """Oracle: the numbers in the message; 0.99 to the power of 299 is the first below 5 %."""
    _, root = run
    _, work = calibration_stage(CascadeConfig(student=STUDENT, teacher=TEACHER), root)
    with pytest.raises(BenchError, match=r"60 validation texts cannot prove an agreement of 0\.99\n.* at least 299"):
        work(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_baseline_is_the_earlier_candidate(run, earlier):
    """Oracle: the earlier run's own bundle, opened where it lies: the same digest, size and answers."""
    _, root = run
    found, expected = opener("baseline", root, 1)(), open_bundle_row(earlier, STUDENT)
    assert (found.digest, found.size_bytes) == (expected.digest, expected.size_bytes)
    np.testing.assert_array_equal(found.run(TEXTS).logits, expected.run(TEXTS).logits)
    facts = read_manifest(root / "baseline").facts["baseline"]
    assert (facts["row"], facts["digest"]) == (STUDENT, expected.digest)


def test_one_service_has_all_that_the_rows_need(run):
    """Oracle: the folders that were made; a cascade brings both its models and its file, each bundle once."""
    _, root = run
    rows = ("student/int8", "cascade", "baseline")
    ((served, service),) = services(BenchRequest(rows=rows, threads=1), rows, root, root / "home")
    assert served == list(rows)
    assert parse_bundles(service.environment["UNDERSTUDY_BUNDLES"]) == {
        STUDENT: root / "bundles/student", TEACHER: root / "bundles/teacher", "baseline/int8": root / "baseline",
    }  # fmt: skip
    assert service.environment["UNDERSTUDY_CONFIG"] == str(root / "calibration/service.yaml")


@pytest.mark.slow
def test_a_cascade_and_a_baseline_over_http(run, earlier):
    """Oracle: the counts asked for, and the graphs on disk, both of a cascade; an unknown model is never answered."""
    _, root = run
    rows = ("student/int8", "cascade", "baseline")
    config = BenchRequest(
        rows=rows, threads=1, rounds=2, calls_per_round=3, batch_size=4, texts=10, streams=3, queries_per_round=2
    )
    run_bench(config, root, root)
    benchmark = Benchmark.model_validate_json((root / "benchmark.json").read_bytes())
    assert tuple(benchmark.http) == rows
    assert [len(calls) for row in rows for calls in benchmark.http[row].single_ms] == [3] * 6
    graphs = {
        row: (directory / "onnx" / name).stat().st_size
        for row, directory, name in (
            (STUDENT, root / "bundles/student", "model_quantized.onnx"),
            (TEACHER, root / "bundles/teacher", "model.onnx"),
            ("baseline", earlier / "bundles/student", "model_quantized.onnx"),
        )
    }
    assert benchmark.http["baseline"].size_bytes == graphs["baseline"]
    assert benchmark.http["cascade"].size_bytes == graphs[STUDENT] + graphs[TEACHER]


def test_a_baseline_that_is_none(tmp_path, earlier):
    """Oracle: the messages: no such folder, this run, no bundle, other labels; nothing is left behind."""
    with pytest.raises(ArtifactError, match=r"there is no baseline at .*nowhere.*\n.*baseline=out/demo"):
        baseline_stage(tmp_path / "nowhere", tmp_path / "run")
    with pytest.raises(ArtifactError, match="is the output folder of this very run"):
        baseline_stage(earlier, earlier)
    with pytest.raises(ArtifactError, match=r"the candidate of .* is cascade, of which there is no bundle"):
        baseline_stage(seal_run(tmp_path / "floor", "cascade"), tmp_path / "run")
    seal_dataset(tmp_path / "run/data", labels=("alarm", "music", "weather", "light"))
    stage, work = baseline_stage(earlier, tmp_path / "run")
    with pytest.raises(DataError, match=r"other labels than the data set has \(first \"<b>&'\"\)"):
        run_stage(stage, work)
    assert [path.name for path in stage.out.iterdir()] == ["working.json"]


def test_a_baseline_run_anew_is_another_baseline(run, tmp_path):
    """Oracle: the recipe's hash: the earlier bundle's digest is in it, where it lies is not."""
    recipe, root = run
    shutil.copytree(recipe.baseline, tmp_path / "moved")
    moved, _ = baseline_stage(tmp_path / "moved", root)
    other, _ = baseline_stage(seal_run(tmp_path / "other", STUDENT, seed=40), root)
    sealed = read_manifest(root / "baseline").recipe
    assert request_of(moved)[0].recipe == sealed != request_of(other)[0].recipe


def test_eager_attention_is_the_same_model(run):
    """Oracle: the usual form's answers, and the setting that Transformers reports."""
    _, root = run
    eager = PyTorchEngine.open(root / "models/teacher", threads=1, form="eager")
    usual = PyTorchEngine.open(root / "models/teacher", threads=1)
    assert eager.model.config._attn_implementation == "eager"
    np.testing.assert_allclose(eager.run(TEXTS).logits, usual.run(TEXTS).logits, atol=1e-5)
    assert eager.size_bytes == usual.size_bytes


def test_without_a_compiler_nothing_is_compiled(run, monkeypatch):
    """Oracle: the message names the compiler that was looked for, and the field to change."""
    _, root = run
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BenchError, match=r"there is no no-such-compiler here\n.*rows\.pytorch"):
        opener("teacher/pytorch-compiled", root, 1)()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # PyTorch's own
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_a_compiled_model_is_the_same_model(run, tmp_path, monkeypatch):
    """Oracle: the usual form's answers, to texts alone and in batches of any length; nothing compiles after opening."""
    from torch._dynamo.utils import counters

    _, root = run
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compiled = opener("teacher/pytorch-compiled", root, 1)()
    usual = PyTorchEngine.open(root / "models/teacher", threads=1)
    seen = counters["stats"]["unique_graphs"]
    for texts in (TEXTS[:1], TEXTS[:2], TEXTS):
        np.testing.assert_allclose(compiled.run(texts).logits, usual.run(texts).logits, atol=1e-4)
    assert compiled.name == "teacher/pytorch-compiled"
    assert counters["stats"]["unique_graphs"] == seen > 0


def test_every_row_is_described():
    """Oracle: the names a recipe can ask for; each stands in the table of docs/measure.md."""
    text = (Path(__file__).parents[1] / "docs/measure.md").read_text(encoding="utf-8")
    for row in make_recipe(baseline="out/main").row_names():
        assert f"`{row}`" in text or row in ("teacher/int8", "student/float32")
