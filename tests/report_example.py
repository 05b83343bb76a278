"""A made-up experiment that the report's tests share: its rows, answers and samples are drawn with a seed."""

import numpy as np

from pipeline.gate_config import Gate
from pipeline.metrics import score_rows
from pipeline.report import ReportConfig, build_report
from pipeline.results import Benchmark, Evaluation, SpeedRow

LABELS = ("alarm_set", "weather_query", "play_music", '<b>odd</b> & "label"', "calendar_remove")
NASTY = "<script>alert('no')</script> & wake me"
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
