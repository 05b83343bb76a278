"""Rows whose ratios are known, for the tests of gates."""

import numpy as np

from artifact.manifest import write_json
from pipeline.gate_config import Gate
from pipeline.metrics import score_rows
from pipeline.report import ReportConfig, build_report
from pipeline.results import Benchmark, Evaluation, SpeedRow

QUALITY = Gate(metric="quality", reference="t/float32", min_ratio=0.98)
LATENCY = Gate(metric="latency_p50", reference="t/float32", min_ratio=3)
THROUGHPUT = Gate(metric="throughput", reference="t/float32", min_ratio=3)
SIZE = Gate(metric="size", reference="t/float32", max_ratio=0.25)


def make_evaluation(errors, examples=1000):
    """Rows that are wrong on the first `errors` examples, so that the ratio is known."""
    truths = [0] * examples
    predictions = {row: [1] * wrong + [0] * (examples - wrong) for row, wrong in errors.items()}
    rows = score_rows(predictions, "t/float32", truths, seed=1)
    return Evaluation(reference="t/float32", labels=("no", "yes"), truths=tuple(truths), rows=rows)


def make_speed(milliseconds, size_bytes, rounds=8):
    drift = np.linspace(1, 2, rounds)[:, None] * np.linspace(0.95, 1.05, 20)
    return SpeedRow(
        single_ms=tuple(map(tuple, (milliseconds * drift).tolist())),
        batch_texts_per_second=tuple((1000 / milliseconds / drift[:, 0]).tolist()),
        size_bytes=size_bytes,
        peak_memory_bytes=1,
        threads=1,
    )


def make_benchmark(*, candidate_ms=2.0, candidate_bytes=20, rounds=8, machine=None, looks=1):
    rows = {
        "t/pytorch": make_speed(20.0, 100, rounds),
        "t/float32": make_speed(10.0, 100, rounds),
        "s/int8": make_speed(candidate_ms, candidate_bytes, rounds),
    }
    return Benchmark(machine=machine or {"processor": "one"}, in_process=rows, http={}, looks=looks)


def make_facts(layers=2, texts_flipped=0, cosine=0.97):
    """Of a manifest, those that gates read."""
    labels = {"texts": 256, "texts_flipped": texts_flipped}
    precision = {"parity": {"min_cosine": cosine}, "invariance": {"labels": labels}}
    whole = {
        "EmbedLayerNormalization": 1,
        "Attention": layers,
        "BiasGelu": layers,
        "SkipLayerNormalization": 2 * layers,
    }
    return {"layers": layers, "precisions": {"float32": {"fused": {"whole": whole}, **precision}, "int8": precision}}


def make_report(*, errors=30, gates=None, data="d", bundle="b", **benchmark):
    config = ReportConfig(recipe="demo", candidate="s/int8", reference="t/pytorch", gates=gates or {"quality": QUALITY})
    evaluation = make_evaluation({"t/pytorch": 30, "t/float32": 30, "s/int8": errors})
    lineage = {"data": data, "bundle:t": bundle}
    return build_report(config, evaluation, make_benchmark(**benchmark), lineage=lineage, facts={})


def write(report, directory):
    directory.mkdir()
    write_json(directory / "report.json", report.model_dump(mode="json"))
    return directory
