"""Planning: the grid, random students, the budget, and the command on a tiny teacher."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
import torch
import yaml
from export_models import make_model
from test_pipeline import write_recipe
from tiny_models import LABELS, make_examples, make_tokenizer, save_teacher

from artifact.dataset import write_dataset
from artifact.errors import BenchError, ConfigError, ExportError, ModelError
from artifact.manifest import Request, open_artifact, seal
from benchmarks.plan.__main__ import main as compare
from benchmarks.plan.page import judge
from distill.config import ModelConfig
from export.bundle import FILES, write_bundle
from export.fuse import fuse
from export.graph import export_graph
from export.instruction_set import resolve_target
from export.quantize import quantize_dynamic_int8
from export.source import load_source
from pipeline import plan_measure
from pipeline.__main__ import main
from pipeline.plan_budget import check_budget, conclude, excesses, judge_row, nearest
from pipeline.plan_build import Job, build, random_student, read_teacher
from pipeline.plan_config import Budget, PlanConfig
from pipeline.plan_engine import PacedRound, fold, open_engine, staying
from pipeline.plan_forms import FORMS, choose_forms
from pipeline.plan_measure import teacher_source
from pipeline.plan_page import render_page, render_summary
from pipeline.plan_race import Race, choose_yardstick, make_plan_workload, retake, slow_turns
from pipeline.plan_records import Candidate, Measurements, Pace, Teacher, Texts
from pipeline.plan_shapes import candidates, spread, start_block
from pipeline.plan_table import conclusion, describe_budget, describe_pace, plan_table
from pipeline.processes import own_processes, work_all
from pipeline.recipe import load_recipe
from pipeline.results import Interval, SpeedRow
from serve.latency.plan import Round

MINILM = Teacher(
    source="minilm", model_type="bert", layers=6, hidden_size=384, heads=12, intermediate_size=1536, pieces=30522,
    positions=512,
)  # fmt: skip
ROOT = Path(__file__).parent.parent
TEXTS = ["turn on the light", "play some jazz in the kitchen now please", "what time is it"]


def test_the_default_grid_is_thirty_shapes_of_the_teacher():
    """Oracle: longhand; MiniLM's six layers of 384 and 30,522 pieces."""
    found = candidates(PlanConfig(), MINILM)
    names = [shape.name for shape in found]
    assert len(names) == len(set(names)) == 30
    assert {shape.layers for shape in found} == {6, 4, 3, 2, 1}
    assert {(shape.hidden_size, shape.heads, shape.intermediate_size) for shape in found} == {
        (384, 12, 1536), (192, 6, 768), (96, 3, 384)
    }  # fmt: skip
    assert {shape.pieces for shape in found} == {30522, 8000}
    assert names[:2] == ["6x384", "6x384-v8000"]


def test_what_a_recipe_names_is_taken_and_nothing_stands_twice():
    """Oracle: longhand."""
    config = PlanConfig(
        layers=(2, 2), hidden_sizes=(64,), intermediate_ratios=(4, 1.5), vocabulary_sizes=("full", 30522, 500)
    )
    assert [shape.name for shape in candidates(config, MINILM)] == ["2x64", "2x64-v500", "2x64-i96", "2x64-i96-v500"]


def test_a_small_teacher_has_one_width_of_whole_heads_and_one_vocabulary():
    """Oracle: longhand; no head is narrower than head_size, and a quarter of 600 pieces is no vocabulary."""
    tiny = MINILM.model_copy(update={"layers": 2, "hidden_size": 32, "pieces": 600})
    assert [shape.name for shape in candidates(PlanConfig(), tiny)] == ["2x32", "1x32"]


def test_shapes_that_cannot_be_are_refused_by_name():
    """Oracle: the messages."""
    with pytest.raises(ValueError, match=r"hidden_sizes \[100\] are no multiples of head_size 32"):
        PlanConfig(hidden_sizes=(64, 100))
    with pytest.raises(ValueError, match="a median needs 20 samples, found rounds x calls_per_round = 18"):
        PlanConfig(rounds=2, calls_per_round=9)
    with pytest.raises(ConfigError, match=r"names \[30523\], but the teacher has 30522 pieces"):
        candidates(PlanConfig(vocabulary_sizes=(30523,)), MINILM)


@pytest.mark.parametrize("shape", candidates(PlanConfig(intermediate_ratios=(4, 2)), MINILM), ids=lambda s: s.name)
def test_what_is_printed_to_paste_is_a_start_of_this_shape(shape):
    """Oracle: the recipe's own parser, and the shape it was made from."""
    model = ModelConfig.model_validate(yaml.safe_load(start_block(shape, MINILM)) | {"teacher": "teacher"})
    start = model.start
    if start.kind == "layers":
        assert (len(start.layers), shape.hidden_size, shape.intermediate_size) == (shape.layers, 384, 1536)
    else:
        wanted = (shape.layers, shape.hidden_size, shape.heads, shape.intermediate_size)
        assert (start.layers, start.hidden_size, start.heads, start.intermediate_size) == wanted
    assert (model.vocabulary and model.vocabulary.max_pieces) == (None if shape.pieces == 30522 else shape.pieces)


def test_layers_are_spread_from_the_first_to_the_last():
    """Oracle: longhand; the demo's student has 0, 2 and 5 of six."""
    assert [spread(count, 6) for count in (1, 2, 3, 6)] == [[0], [0, 5], [0, 2, 5], [0, 1, 2, 3, 4, 5]]


def test_layers_that_cannot_be_picked_are_random():
    """Oracle: `keep_layers` refuses an ALBERT's."""
    shape, albert = candidates(PlanConfig(), MINILM)[0], MINILM.model_copy(update={"model_type": "albert"})
    assert "kind: layers" in start_block(shape, MINILM)
    assert "kind: random" in start_block(shape, albert)


# Building


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"), layers=2, hidden=32)


HOST = resolve_target("host")
ELSEWHERE = "arm64" if HOST != "arm64" else "avx2"


def make_job(teacher, folder, *, pieces=None, layers=1, target=HOST) -> Job:
    about = read_teacher(teacher, "tiny")
    shape = Candidate(
        name="tiny", layers=layers, hidden_size=16, heads=2, intermediate_size=64, pieces=pieces or about.pieces
    )
    return Job(
        candidate=shape, teacher=teacher, teacher_pieces=about.pieces, labels=LABELS, max_tokens=16,
        precisions=("float32", "int8"), target=target, opset=17, threads=1, folder=folder,
    )  # fmt: skip


def test_a_candidate_has_the_parameters_of_its_shape(teacher, tmp_path):
    """Oracle: BERT's parameters longhand."""
    built = build(make_job(teacher, tmp_path, layers=2))
    pieces, h, i = read_teacher(teacher, "").pieces, 16, 64
    layer = 4 * (h * h + h) + (h * i + i) + (i * h + h) + 2 * 2 * h
    assert built.parameters["transformer"] == 2 * layer
    assert built.parameters["embedding"] == (pieces + 64 + 2) * h + 2 * h
    assert built.parameters["total"] - 2 * layer - built.parameters["embedding"] == (h * h + h) + (h + 1) * 3


def test_every_form_that_export_may_ship_is_built_here_and_one_for_elsewhere(teacher, tmp_path):
    """Oracle: the nodes that set the forms apart."""
    built = build(make_job(teacher, tmp_path / "here"))
    assert {precision: tuple(forms) for precision, forms in built.openings.items()} == FORMS
    nodes = {
        (precision, form): {node.op_type for node in onnx.load(opening.graph).graph.node}
        for precision, forms in built.openings.items()
        for form, opening in forms.items()
    }
    for kind, found in {
        "Attention": {("float32", "whole")},
        "QAttention": {("int8", "whole")},
        "LayerNormalization": {("float32", "light"), ("float32", "raw"), ("int8", "light")},
        "Erf": {("float32", "raw")},  # the activation, unfused
        "MatMulInteger": {("int8", "whole"), ("int8", "light")},
    }.items():
        assert {name for name, kinds in nodes.items() if kind in kinds} == found
    assert sum(path.is_file() for path in (tmp_path / "here").rglob("*")) == len(nodes)
    elsewhere = build(make_job(teacher, tmp_path / "elsewhere", target=ELSEWHERE)).openings
    assert {precision: list(forms) for precision, forms in elsewhere.items()} == {
        "float32": ["whole"], "int8": ["whole"]
    }  # fmt: skip
    for facts in choose_forms(elsewhere, ELSEWHERE).values():
        assert (facts["chosen"], facts["measured"]) == ("whole", False)


def test_the_form_that_counts_is_the_one_that_is_surely_faster(teacher, tmp_path):
    """Oracle: graphs of 16 and of 512 units; of equal graphs the first counts."""
    job = make_job(teacher, tmp_path / "small")
    wide = job.candidate.model_copy(update={"hidden_size": 512, "intermediate_size": 2048})
    small, large = (
        build(each).openings["float32"]["whole"]
        for each in (job, replace(job, candidate=wide, folder=tmp_path / "large"))
    )
    rows = {quick: {form: small if form == quick else large for form in FORMS["float32"]} for quick in FORMS["float32"]}
    chosen = choose_forms(rows, HOST)
    assert {quick: facts["chosen"] for quick, facts in chosen.items()} == {quick: quick for quick in FORMS["float32"]}
    assert all(facts["measured"] for facts in chosen.values())


@pytest.mark.parametrize("pieces", [None, 12])
def test_a_candidate_answers_as_its_random_model(teacher, tmp_path, pieces):
    """Oracle: the PyTorch model, with every id folded below the small vocabulary."""
    job = make_job(teacher, tmp_path, pieces=pieces)
    model, tokenizer = random_student(job).eval(), make_tokenizer()
    engine = open_engine(build(job).openings["float32"]["whole"])
    found = engine.run(TEXTS)
    for row, text in enumerate(TEXTS):
        ids = tokenizer(text, return_tensors="pt", max_length=16, truncation=True)["input_ids"] % (pieces or 10**6)
        with torch.inference_mode():
            expected = model(input_ids=ids).logits[0].numpy()
        np.testing.assert_allclose(found.logits[row], expected, atol=1e-5)
    assert engine.threads == 1
    assert engine.size_bytes == (tmp_path / "float32-whole.onnx").stat().st_size


def test_folding_keeps_the_number_of_tokens(teacher, tmp_path):
    """Oracle: the tokens before."""
    engine = open_engine(build(make_job(teacher, tmp_path, pieces=7)).openings["int8"]["whole"])
    tokens = engine.runtime.tokenize(TEXTS)
    folded = fold(tokens, 7)
    assert [len(encoding) for encoding in folded.encodings] == list(tokens.lengths) == list(folded.lengths)
    assert [e.ids for e in folded.encodings] == [[i % 7 for i in e.ids] for e in tokens.encodings]


def test_random_weights_are_not_stored_once_for_many(teacher, tmp_path):
    """Oracle: the number of all parameters; a graph stores equal tensors once."""
    built = build(make_job(teacher, tmp_path, layers=2))
    stored = onnx.load(built.openings["float32"]["whole"].graph).graph.initializer
    numbers = sum(int(np.prod(tensor.dims)) for tensor in stored if tensor.data_type == onnx.TensorProto.FLOAT)
    assert numbers >= built.parameters["total"]


def test_graphs_stay_open_while_there_is_room():
    """Oracle: longhand."""
    assert staying({"large": 60, "small": 10, "medium": 30}, 45) == {"small", "medium"}
    assert staying({"large": 60, "small": 10, "medium": 30}, 35) == {"small"}
    assert staying({"large": 60}, 45) == frozenset()


def paced(yardstick_ms: float, index: int = 0) -> PacedRound:
    """A turn of which only the yardstick counts."""
    taken = Round(index=index, begun_ns=0, ended_ns=1, single_ms=(1.0,), batch_texts=1, batch_seconds=1.0)
    return PacedRound(round=taken, yardstick_ms=yardstick_ms)


def test_turns_of_a_slow_machine_are_taken_again_until_it_is_fast():
    """Oracle: longhand; two slow turns, of which one stays slow once more."""
    turns = {"a": [paced(1.0), paced(1.6)], "b": [paced(1.7), paced(1.2)]}
    answers = iter([paced(1.65), paced(1.02), paced(1.01)])
    asked = []

    def again(name: str, index: int) -> PacedRound:
        asked.append((name, index))
        return next(answers)

    assert slow_turns({"a": [1.0, 1.6], "b": [1.7, 1.2]}) == [("b", 0), ("a", 1)]
    assert retake(turns, again, 60, clock=lambda: 0.0) == 3
    assert asked == [("b", 0), ("a", 1), ("b", 0)]
    assert [[each.yardstick_ms for each in taken] for taken in turns.values()] == [[1.0, 1.02], [1.01, 1.2]]


def test_patience_ends_and_the_better_turn_is_kept():
    """Oracle: a clock of seconds, and a machine that stays slow."""
    turns = {"a": [paced(1.0), paced(1.5)]}
    seconds = iter(range(100))
    assert retake(turns, lambda *_: paced(1.8), 5, clock=lambda: next(seconds)) == 4
    assert [each.yardstick_ms for each in turns["a"]] == [1.0, 1.5]
    pace = plan_measure.describe_pace(Race(turns={"a": tuple(turns["a"])}, yardstick="a", retaken=4))
    told = describe_pace(STEADY.model_copy(update={"pace": pace}))
    assert told == "the machine was 1.5x slower than its best in 1 of 2 turns, 4 retaken"
    assert retake(turns, lambda *_: pytest.fail("no patience"), 0) == 0


def test_the_yardstick_is_in_the_middle_of_what_stays_open():
    """Oracle: longhand."""
    sizes = {"large": 60, "small": 10, "medium": 30, "tiny": 1}
    assert choose_yardstick(sizes, {"small", "medium", "tiny"}) == "small"
    assert choose_yardstick(sizes, ()) == "tiny"


def test_a_process_that_dies_is_one_clear_error():
    """Oracle: `os._exit` inside it."""
    with pytest.raises(BenchError, match="a process that was at work for the plan died"), own_processes(1) as pool:
        pool.submit(os._exit, 9).result()


def test_a_killed_parent_leaves_no_process_behind():
    """Oracle: the kernel's list of processes."""
    code = (
        "import os, time\nfrom pipeline.processes import own_processes\n"
        "with own_processes(1) as pool:\n print(pool.submit(os.getpid).result(), flush=True)\n time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    child = int(parent.stdout.readline())
    assert psutil.pid_exists(child)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(child)


def test_results_keep_the_order_of_the_jobs_and_faults_are_raised():
    """Oracle: longhand."""
    assert work_all(abs, [-3, 2, -1], processes=2, description="numbers") == [3, 2, 1]
    with pytest.raises(ValueError, match="invalid literal"):
        work_all(int, ["1", "one"], processes=1, description="numbers")


# Budget


def measured(**rows: tuple[list[float], float, int, int]) -> Measurements:
    """Rows of the shapes `deep`, `wide` and `small`: latencies by round, texts/s, bytes and memory."""
    shapes = {"deep": (12, 192), "wide": (2, 384), "small": (1, 96)}
    about = tuple(
        Candidate(
            name=name, layers=layers, hidden_size=width, heads=width // 32, intermediate_size=4 * width, pieces=900
        )
        for name, (layers, width) in shapes.items()
    )
    counts = {
        name: {"transformer": layers * 12 * width**2, "embedding": 900 * width}
        for name, (layers, width) in shapes.items()
    }
    return Measurements(
        machine={"processor": "abacus", "usable_cores": 2},
        threads=2,
        target="avx2",
        teacher=MINILM,
        texts=Texts(count=3, max_tokens=16, median_tokens=6.5, longest_tokens=10),
        candidates=about,
        parameters=counts,
        pace=Pace(yardstick="small/float32", yardstick_ms=dict.fromkeys(rows, (0.5,) * 8), retaken=0),
        forms={name: {"chosen": "light" if name.endswith("int8") else "whole"} for name in rows},
        rows={
            name: SpeedRow(
                single_ms=tuple((value,) * 4 for value in latencies),
                batch_texts_per_second=(rate,) * len(latencies),
                size_bytes=size,
                peak_memory_bytes=memory,
                threads=2,
            )
            for name, (latencies, rate, size, memory) in rows.items()
        },
    )


STEADY = measured(
    **{
        "deep/float32": ([4.0] * 8, 100, 80_000_000, 300_000_000),
        "deep/int8": ([2.0] * 8, 200, 20_000_000, 200_000_000),
        "wide/float32": ([1.5] * 8, 300, 40_000_000, 200_000_000),
        "wide/int8": ([1.0] * 8, 500, 10_000_000, 150_000_000),
        "small/float32": ([0.5] * 8, 900, 4_000_000, 120_000_000),
    }
)


@pytest.mark.parametrize(
    ("budget", "largest"),
    [
        ({"p50_ms": 4}, "deep/float32"),  # at the limit is within it; float32 comes before int8
        ({"p50_ms": 3.9}, "deep/int8"),
        ({"p50_ms": 1.5}, "wide/float32"),
        ({"texts_per_s": 250}, "wide/float32"),
        ({"size_mb": 25}, "deep/int8"),
        ({"peak_rss_mb": 180}, "wide/int8"),
        ({"p50_ms": 2, "size_mb": 15, "texts_per_s": 400, "peak_rss_mb": 150}, "wide/int8"),
        ({"p50_ms": 0.4}, None),
        ({}, None),
    ],
)
def test_the_largest_that_fits(budget, largest):
    """Oracle: longhand."""
    assert conclude(STEADY, Budget(**budget), "tiny").largest == largest


def test_a_row_is_judged_by_its_whole_interval():
    """Oracle: longhand; rounds of 1, 2 and 3 ms leave an interval of the median around 2."""
    spread_out = measured(**{"wide/int8": ([1, 2, 3, 1, 2, 3, 2, 2], 10, 1, 1)})
    row = conclude(spread_out, Budget(), "tiny").rows[0]
    assert row.p50_ms.low < row.p50_ms.value == 2 < row.p50_ms.high
    for p50_ms, verdict in [(row.p50_ms.high, "pass"), (2, "inconclusive"), (row.p50_ms.low * 0.99, "fail")]:
        assert judge_row(row, Budget(p50_ms=p50_ms)) == verdict
    assert judge_row(row, Budget(p50_ms=2, size_mb=1e-9)) == "fail"
    plan = conclude(spread_out, Budget(p50_ms=2), "tiny")
    assert plan.largest is None
    assert conclusion(plan) == "0 of 1 rows fit, 1 may"
    with pytest.raises(ConfigError, match="no shape surely fits the budget"):
        check_budget(plan, "")


def test_throughput_counts_the_other_way():
    """Oracle: longhand."""
    (excess,) = excesses(conclude(STEADY, Budget(), "tiny").rows[0], Budget(texts_per_s=150))
    assert (excess.best, excess.worst) == (1.5, 1.5)


def test_an_impossible_budget_names_the_nearest_and_what_it_misses():
    """Oracle: longhand; `small` is 25 % too slow, `wide/int8` 150 %."""
    plan = conclude(STEADY, Budget(p50_ms=0.4, size_mb=5), "tiny")
    assert nearest(plan.rows, plan.budget).row == "small/float32"
    with pytest.raises(ConfigError) as error:
        check_budget(plan, "out/summary.md")
    assert str(error.value).splitlines() == [
        "no shape fits the budget; nearest is small/float32: p50 in ms 0.5, wanted at most 0.4, 25 % beyond",
        "  allow more under `budget`, or plan smaller shapes under `plan`; all 5 rows are in out/summary.md",
    ]
    check_budget(conclude(STEADY, Budget(), "tiny"), "")
    check_budget(conclude(STEADY, Budget(p50_ms=1), "tiny"), "")


def test_page_and_summary_and_table_show_the_same_rows(capsys):
    """Oracle: the records."""
    from rich.console import Console

    plan = conclude(STEADY, Budget(p50_ms=2, size_mb=15), "tiny")
    page, summary = render_page(plan), render_summary(plan)
    Console(width=80).print(plan_table(plan))
    table = capsys.readouterr().out
    for row in plan.rows:
        assert row.row in page
        assert row.row in summary
        assert row.row in table
    assert "**wide/int8**" in summary
    assert "✓ fits" in summary
    assert "| **wide/int8** | light |" in summary
    assert "export would ship: 3 whole, 2 light" in " ".join(table.split())
    assert describe_budget(plan) == "p50 in ms at most 2, size in MB at most 15"
    assert plan.start in summary
    assert 'role="img"' in page
    assert "abacus" in page
    assert max(map(len, table.splitlines())) <= 80
    assert render_page(plan) == page


# The command


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A recipe planned once, with a budget that its shape fits."""
    root = tmp_path_factory.mktemp("plan")
    recipe = write_recipe(root)
    arguments = ["plan", "--out", str(root / "out"), str(recipe), *GRID, "plan.rounds=5", "plan.calls_per_round=4"]
    assert main([*arguments, "budget.p50_ms=1000"]) == 0
    return root / "out", arguments


GRID = ("plan.layers=[1]", "plan.hidden_sizes=[32]", "plan.head_size=8", "plan.vocabulary_sizes=[12]", "plan.texts=8")


def test_a_plan_holds_every_sample_and_its_machine(planned):
    """Oracle: what was asked for."""
    out, _ = planned
    manifest = open_artifact(out / "plan", kind="plan")
    plan = json.loads((out / "plan" / "plan.json").read_text())
    assert manifest.facts["largest"] == plan["largest"] == "1x32-v12/float32"
    assert set(plan["measured"]["rows"]) == {"1x32-v12/float32", "1x32-v12/int8"}
    for row in plan["measured"]["rows"].values():
        assert np.array(row["single_ms"]).shape == (5, 4)
        assert len(row["batch_texts_per_second"]) == 5
        assert 20e6 < row["peak_memory_bytes"] < 300e6  # a process with the runtime, without torch
        assert row["threads"] == 1
    assert plan["measured"]["machine"]["usable_cores"] > 0
    assert plan["measured"]["texts"]["count"] == 8
    pace = plan["measured"]["pace"]
    assert {row: len(taken) for row, taken in pace["yardstick_ms"].items()} == dict.fromkeys(
        plan["measured"]["rows"], 5
    )
    assert not list((out / "candidates").glob("graphs-*"))


def test_a_row_is_measured_in_the_form_it_names(planned, tmp_path):
    """Oracle: the size of that graph, built again."""
    out, _ = planned
    plan = json.loads((out / "plan" / "plan.json").read_text())
    shape = Candidate.model_validate(plan["measured"]["candidates"][0])
    job = replace(make_job(out.parent / "pretrained", tmp_path), candidate=shape)
    openings = build(job).openings
    for row in plan["rows"]:
        assert row["form"] == plan["measured"]["forms"][row["row"]]["chosen"]
        size_bytes = plan["measured"]["rows"][row["row"]]["size_bytes"]
        assert size_bytes == openings[row["precision"]][row["form"]].size_bytes
        assert [form for form, each in openings[row["precision"]].items() if each.size_bytes == size_bytes] == [
            row["form"]
        ]


def test_another_budget_is_answered_from_the_same_samples(planned, capsys):
    """Oracle: the seal of the samples; and the exit code of a budget that nothing fits."""
    out, arguments = planned
    sealed = (out / "candidates" / "manifest.json").read_bytes()
    assert main([*arguments, "budget.size_mb=100"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["budget"] == {"size_mb": 100}
    assert answer["fits"] == ["1x32-v12/float32", "1x32-v12/int8"]
    assert main([*arguments, "budget.size_mb=0.001"]) == 2
    error = capsys.readouterr().err
    assert "error: no shape fits the budget; nearest is 1x32-v12/int8: size in MB" in error
    assert json.loads((out / "plan" / "plan.json").read_text())["budget"]["size_mb"] == 0.001
    assert main([*arguments]) == 0
    assert json.loads(capsys.readouterr().out)["largest"] is None
    assert (out / "candidates" / "manifest.json").read_bytes() == sealed


def test_another_grid_is_not_measured_over_the_old_one(planned, capsys):
    """Oracle: the exit code and the field named."""
    _, arguments = planned
    assert main([*arguments, "plan.layers=[2]"]) == 2
    assert "layers" in capsys.readouterr().err
    assert main([*arguments, "--plan"]) == 0
    assert "candidates  fresh" in capsys.readouterr().out


def test_more_threads_than_cores_and_a_teacher_without_tokenizer(planned, tmp_path, capsys):
    """Oracle: the messages."""
    recipe = write_recipe(tmp_path)
    arguments = ["plan", "--out", str(tmp_path / "out"), str(recipe), *GRID]
    assert main([*arguments, "plan.threads=4096"]) == 2
    assert "plan.threads is 4096, but this process may use" in capsys.readouterr().err
    (tmp_path / "pretrained" / "tokenizer.json").unlink()
    assert main(arguments) == 2
    assert "has no tokenizer.json" in capsys.readouterr().err


def test_more_tokens_than_the_teacher_has_positions_for(tmp_path, capsys):
    """Oracle: the message; it names the field and the teacher as the recipe does."""
    recipe = write_recipe(tmp_path)
    assert main(["plan", "--out", str(tmp_path / "out"), str(recipe), *GRID, "models.student.max_tokens=65"]) == 2
    error = capsys.readouterr().err
    assert f"models.student.max_tokens is 65, but {tmp_path / 'pretrained'} has positions for 64" in error
    assert "set models.student.max_tokens to at most 64" in error


@pytest.mark.parametrize("model_type", ["bert", "roberta", "mpnet", "distilbert", "deberta-v2", "modernbert"])
def test_positions_are_those_that_export_allows(tmp_path, model_type):
    """Oracle: export takes a model that states as many tokens, and refuses one that states one more."""
    directory = make_model(tmp_path, "classification", model_type)
    positions = read_teacher(directory, "tiny").positions
    (directory / "understudy.json").write_text(json.dumps({"max_tokens": positions}))
    assert load_source(directory).max_tokens == positions
    (directory / "understudy.json").write_text(json.dumps({"max_tokens": positions + 1}))
    with pytest.raises(ExportError, match=f"expected 2..{positions}"):
        load_source(directory)


def test_the_teacher_is_what_the_recipe_begins_with(tmp_path):
    """Oracle: the recipe."""
    recipe = load_recipe(write_recipe(tmp_path))
    assert teacher_source(recipe) == str(tmp_path / "pretrained")
    first = recipe.models["student"]
    with pytest.raises(ModelError, match="starts from 'layers'"):
        teacher_source(recipe.model_copy(update={"models": {"student": first}}))


def test_a_plan_deals_the_same_texts_to_every_shape():
    """Oracle: longhand; two rounds walk on, and a round has one batch."""
    workload = make_plan_workload(PlanConfig(texts=4, calls_per_round=10, batch_size=3), list("abcdefgh"))
    assert len(workload.texts) == 4
    first, second = workload.task(0), workload.task(1)
    assert len(first.batches) == 1
    assert len(first.batches[0]) == 3
    assert first.singles != second.singles


# The benchmark


def test_a_prediction_passes_when_its_whole_interval_is_near_one():
    """Oracle: longhand."""
    assert judge(Interval(value=1.0, low=0.92, high=1.08)) == "pass"
    assert judge(Interval(value=1.08, low=1.0, high=1.12)) == "inconclusive"
    assert judge(Interval(value=1.2, low=1.11, high=1.3)) == "fail"


def seal_bundle(teacher: Path, out: Path) -> Path:
    """The teacher as a bundle of both precisions, unproved."""
    source = load_source(teacher)
    graphs = {precision: out / FILES[precision] for precision in ("float32", "int8")}
    (out / "onnx").mkdir(parents=True)
    export_graph(source, out.with_suffix(".onnx"), opset=17)
    fuse(out.with_suffix(".onnx"), graphs["float32"], source.architecture)
    quantize_dynamic_int8(graphs["float32"], graphs["int8"], "avx2")
    write_bundle(out, source, name="tiny", precisions=tuple(graphs))
    variants = {"variant": {"chosen": "whole"}, "int8_variant": {"chosen": "whole"}}
    facts = {"target": "avx2", "opset": 17, "precisions": {"float32": variants}}
    request = Request(stage="export", version=1, config={}, inputs={})
    seal(out, kind="bundle", request=request, lineage={}, facts=facts)
    return out


@pytest.mark.slow
def test_trained_bundles_stand_beside_random_doubles(teacher, tmp_path, capsys):
    """Oracle: sizes and counts; the double is as large, but for biases that are all zero in an untrained bundle."""
    bundle = seal_bundle(teacher, tmp_path / "bundle")
    (tmp_path / "data").mkdir()
    write_dataset(tmp_path / "data", LABELS, {"test": make_examples(20, 1)})
    page = tmp_path / "page.md"
    compare([str(bundle), "--data", str(tmp_path / "data"), "--threads", "1", "--rounds", "2",
             "--out", str(tmp_path / "out"), "--page", str(page)])  # fmt: skip
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(results["rows"]) == {"0-bundle/float32", "0-bundle/int8"}
    for row in results["rows"].values():
        assert row["trained"]["size_bytes"] == pytest.approx(row["random"]["size_bytes"], rel=0.05)  # equal biases
        assert np.array(row["trained"]["single_ms"]).shape == np.array(row["random"]["single_ms"]).shape == (2, 16)
        assert row["trained"]["form"] == "whole"
        assert row["random"]["form"] in FORMS["float32"]
    assert "| bundle/float32 | 2x32 |" in page.read_text()
    assert capsys.readouterr().out == page.read_text()
