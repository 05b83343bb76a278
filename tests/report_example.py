"""A made-up experiment that the report's tests share: its rows, answers and samples are drawn with a seed."""

import functools

import numpy as np

from pipeline.gate_config import Gate
from pipeline.metrics import score_rows
from pipeline.report import ReportConfig, build_report
from pipeline.results import Benchmark, Evaluation, Interval, RatePoint, ReportRow, ServerRow, SpeedRow

LABELS = ("alarm_set", "weather_query", "play_music", '<b>odd</b> & "label"', "calendar_remove")
NASTY = "<script>alert('no')</script> & wake me"
HOSTILE = (
    NASTY,
    "\u05d4\u05e2\u05e8 \u05d0\u05d5\u05ea\u05d9 \u05d1\u05e9\u05d1\u05e2 (wake me) \u202eat seven",
    "Donaudampfschifffahrtsgesellschaft" * 9,
    "bell \x07 and nothing \x00 between",
    "</td></table><svg onload=alert(1)>",
    "many words " * 90,
)
"""Texts that try to run, to turn the page around, to widen it, to end its table, and to fill it."""

MEDIANS_MS = {
    "teacher/pytorch": 14.1, "teacher/float32": 5.3, "teacher/int8": 3.5, "student/float32": 1.46, "student/int8": 1.02,
}  # fmt: skip
SIZES = {
    "teacher/pytorch": 90_900_000, "teacher/float32": 90_500_000, "teacher/int8": 23_100_000,
    "student/float32": 54_300_000, "student/int8": 13_900_000,
}  # fmt: skip
ERRORS = {"teacher/pytorch": 22, "teacher/float32": 22, "teacher/int8": 27, "student/float32": 31, "student/int8": 34}
EXAMPLES = 900
GATES = {
    "quality": Gate(metric="quality", reference="teacher/float32", min_ratio=0.97),
    "latency": Gate(metric="latency_p50", reference="teacher/float32", min_ratio=2),
    "throughput": Gate(metric="throughput", reference="teacher/pytorch", min_ratio=3),
    "size": Gate(metric="size", reference="teacher/float32", max_ratio=0.25),
}
CONFIG = ReportConfig(recipe="demo", candidate="student/int8", reference="teacher/pytorch", gates=GATES)


def make_texts():
    texts = [f"please handle request number {number}" for number in range(EXAMPLES)]
    return [NASTY if number % 3 == 0 else text for number, text in enumerate(texts)]


def make_evaluation():
    """Rows of one model share most of their errors, as real ones do."""
    random = np.random.default_rng(1)
    truths = random.integers(len(LABELS), size=EXAMPLES)
    order = random.permutation(EXAMPLES)
    predictions = {}
    for row, errors in ERRORS.items():
        answers = truths.copy()
        wrong = order[:errors] if row.startswith("teacher") else order[8 : 8 + errors]
        answers[wrong] = (truths[wrong] + 1) % len(LABELS)
        predictions[row] = answers.tolist()
    predictions["bag-of-words"] = np.where(random.random(EXAMPLES) < 0.86, truths, (truths + 2) % len(LABELS)).tolist()
    rows = score_rows(predictions, "teacher/float32", truths.tolist(), seed=1)
    return Evaluation(reference="teacher/float32", labels=LABELS, truths=tuple(truths.tolist()), rows=rows)


def make_speed(median_ms, size_bytes, *, seed, rounds=12, calls=40):
    random = np.random.default_rng(seed)
    drift = random.lognormal(0, 0.03, size=(rounds, 1))
    single = median_ms * drift * random.lognormal(0, 0.12, size=(rounds, calls))
    return SpeedRow(
        single_ms=tuple(tuple(round(float(call), 4) for call in calls) for calls in single),
        batch_texts_per_second=tuple(float(rate) for rate in 1900 / median_ms * random.lognormal(0, 0.03, size=rounds)),
        size_bytes=size_bytes,
        peak_memory_bytes=400_000_000,
        threads=2,
    )


def make_benchmark(**shape):
    in_process = {
        row: make_speed(median, SIZES[row], seed=number, **shape)
        for number, (row, median) in enumerate(MEDIANS_MS.items())
    }
    http = {
        row: make_speed(median + 1.3, SIZES[row], seed=50 + number, **shape)
        for number, (row, median) in enumerate(MEDIANS_MS.items())
        if row != "teacher/pytorch"
    }
    machine = {"processor": "Example <CPU> @ 2.4 GHz", "usable_cores": 2, "instruction_sets": ["avx2", "fma"]}
    return Benchmark(machine=machine, in_process=in_process, http=http)


def count_parameters(embedding, transformer, head):
    total = embedding + transformer + head
    return {"embedding": embedding, "transformer": transformer, "head": head, "total": total}


def make_fidelity(students=3, teachers=6, teacher="teacher"):
    """Layers are the more alike the nearer they are in depth; the last divergences are 0.2, 0.3 and 0.1."""
    depths = [[abs(s / students - t / teachers) for t in range(teachers + 1)] for s in range(students + 1)]
    kinds = {"QQ": 0.2, "KK": 0.3, "VV": 0.1}
    return {
        "teacher": teacher, "texts": 256, "relation_heads": 48, "seconds": 1.8,
        "cka": [[round(0.98 - 0.9 * gap, 4) for gap in row] for row in depths],
        "relation_kl": {
            kind: [[round(least + gap, 4) for gap in row[1:]] for row in depths[1:]] for kind, least in kinds.items()
        },
    }  # fmt: skip


def make_report(config=CONFIG, **shape):
    """Made once where nothing is asked of it, for its intervals take a second."""
    return _usual_report() if config is CONFIG and not shape else _make_report(config, **shape)


@functools.cache
def _usual_report():
    return _make_report(CONFIG)


def _make_report(config, **shape):
    models = {
        "model:teacher": {"parameters": count_parameters(11_900_000, 10_600_000, 58_000)},
        "model:student": {
            "parameters": count_parameters(11_900_000, 1_770_000, 58_000),
            "fidelity": make_fidelity(),
        },
    }
    names = ("data", "evaluation", "benchmark", *models, "bundle:teacher", "bundle:student")
    lineage = {name: f"{number:x}" * 64 for number, name in enumerate(names)}
    return build_report(config, make_evaluation(), make_benchmark(**shape), lineage=lineage, facts=models)


FLOORS_MS = {"bag-of-words": 0.31, "static-embeddings": 0.22, "cascade": 1.61, "teacher/pytorch-eager": 15.2}
LONG_ROW = "a-model-with-a-name-that-someone-thought-about-for-too-long/int8-blocks"
LENGTHS = (16, 64, 128, 512)


def make_sweep(capacity, *, seed, seconds=5.0, objective_ms=100.0, weak_client=False):
    """Rates doubled up to beyond `capacity`: latency grows as 1 / (1 - load), and past it requests fail."""
    random = np.random.default_rng(seed)
    points = []
    for rate in (40.0, 80.0, 160.0, 320.0, 640.0, 1280.0):
        count, load = int(rate * seconds), min(rate / capacity, 1.4)
        scale = 2.0 / max(1 - load, 0.04)
        failed = int(0.3 * count) if load > 1 else 0
        latencies = (scale * random.lognormal(0, 0.6, size=count - failed)).tolist()
        point = RatePoint(
            rate_per_second=rate,
            seconds=seconds,
            latency_ms=tuple(round(ms, 3) for ms in latencies),
            failed=failed,
            client_cpu_share=min(rate / 1500, 1.0),
            valid=not (weak_client and rate > 600),
        )
        points.append(point)
    kept = [point.rate_per_second for point in points if point.valid and point.rate_per_second < 0.9 * capacity]
    return ServerRow(objective_p99_ms=objective_ms, points=tuple(points), knee_per_second=max(kept, default=None))


def lengthen(row, median_ms, *, seed, lengths=LENGTHS, rounds=6, calls=20):
    """The row with queries of 8 texts, and with lengths at which it takes time in proportion."""
    random = np.random.default_rng(seed)

    def draw(median):
        return tuple(map(tuple, (median * random.lognormal(0, 0.1, size=(rounds, calls))).round(4).tolist()))

    by_length = {length: draw(median_ms * (0.5 + length / 40)) for length in lengths}
    return row.model_copy(update={"multi_ms": draw(6 * median_ms), "by_length_ms": by_length})


def make_full_report():
    """All that a report may hold: floors that are measured, lengths, sweeps, absent rows, bytes by part, long names."""
    report = make_report()
    medians = MEDIANS_MS | FLOORS_MS | {LONG_ROW: 2.2}
    sizes = SIZES | dict.fromkeys(FLOORS_MS, 1_900_000) | {LONG_ROW: 9_100_000}
    measured = {
        name: lengthen(make_speed(ms, sizes[name], seed=number), ms, seed=number)
        for number, (name, ms) in enumerate(medians.items())
    }
    benchmark = report.benchmark.model_copy(
        update={
            "in_process": measured,
            "server": {
                "teacher/float32": make_sweep(200, seed=1),
                "student/int8": make_sweep(1100, seed=2, weak_client=True),
            },
            "looks": 4,
            "load_average": {"before": 0.41, "after": 1.93},
            "absent": {"teacher/pytorch-compiled": "no C++ compiler: <cc> was not found", "int4 blocks": "died"},
        }
    )
    accuracies = {"bag-of-words": 0.867, "static-embeddings": 0.91, "cascade": 0.974, LONG_ROW: 0.958}
    rows = tuple(
        full_row(name, benchmark, report, accuracies.get(name, 0.975))
        for name in dict.fromkeys([*(row.row for row in report.rows), *medians])
    )
    parts = {
        name: {"embedding": size // 2, "transformer": size // 3, "head": size // 50}
        for name, size in SIZES.items()
    }  # fmt: skip
    parts = {name: held | {"other": SIZES[name] - sum(held.values())} for name, held in parts.items()}
    return report.model_copy(update={"benchmark": benchmark, "rows": rows, "size_parts": parts})


def full_row(name, benchmark, report, accuracy):
    """A line of the table whose every number is there."""
    known = next((row for row in report.rows if row.row == name and row.p50_ms), None)
    about = {"out_of_domain_auroc": Interval(value=0.91, low=0.88, high=0.94)}
    if known:
        return known.model_copy(update=about)
    median = float(np.median([ms for calls in benchmark.in_process[name].single_ms for ms in calls]))
    return ReportRow(
        row=name, quality=Interval(value=accuracy, low=accuracy - 0.006, high=accuracy + 0.006),
        quality_ratio=Interval(value=accuracy / 0.976, low=accuracy / 0.98, high=accuracy / 0.97),
        p50_ms=Interval(value=median, low=0.98 * median, high=1.02 * median),
        p90_ms=Interval(value=1.2 * median, low=1.1 * median, high=1.3 * median),
        speedup=Interval(value=14.1 / median, low=13.5 / median, high=14.6 / median),
        texts_per_second=Interval(value=1900 / median, low=1800 / median, high=2000 / median),
        http_p50_ms=None, size_bytes=benchmark.in_process[name].size_bytes,
        size_ratio=SIZES["teacher/pytorch"] / benchmark.in_process[name].size_bytes, **about,
    )  # fmt: skip


def make_hostile_texts():
    return [HOSTILE[number % len(HOSTILE)] for number in range(EXAMPLES)]
