"""Made-up reports of the tasks whose answers are no labels, with text that tries to break out of a page."""

import numpy as np
from gate_example import make_benchmark
from report_example import HOSTILE

from pipeline.gate_config import Gate
from pipeline.metrics import Asked, score_all
from pipeline.report import ReportConfig, build_report
from pipeline.results import Evaluation, NoneThreshold

ROWS = ("t/pytorch", "t/float32", "s/int8")
TAGS = ("O", "B-PER", "I-PER", "B-<b>LOC</b>", "I-<b>LOC</b>")
TASKS = ("token-classification", "question-answering", "response-selection", "regression", "out-of-domain-detection")


def make_task_report(task):
    gates = {"quality": Gate(metric="quality", reference="t/float32", max_degradation=0.99)}
    config = ReportConfig(recipe="demo", candidate="s/int8", reference="t/pytorch", gates=gates)
    return build_report(config, made(task), make_benchmark(), lineage={"data": "d"}, facts={})


def make_evaluation(task, predictions, truths, labels=(), groups=(), *, thresholds=None):
    metrics = {
        "regression": "spearman", "token-classification": "span_f1", "question-answering": "word_f1",
        "response-selection": "mean_mrr_recall_10", "out-of-domain-detection": "auroc",
    }  # fmt: skip
    metric = metrics[task]
    asked = Asked(truths=truths, task=task, metric=metric, labels=labels, groups=groups)
    rows = score_all(asked, predictions, "t/float32", seed=1, thresholds=thresholds)
    made = Evaluation(
        task=task, metric=metric, reference="t/float32", labels=labels, truths=tuple(truths), rows=rows
    )  # fmt: skip
    assert Evaluation.model_validate_json(made.model_dump_json()) == made
    return made


def make_tags(seed, noise):
    random = np.random.default_rng(1)
    truths = [tuple(random.choice([(0, 1, 2, 0), (3, 4, 0, 1), (0, 0, 0, 0)]).tolist()) for _ in range(60)]
    random = np.random.default_rng(seed)
    said = [tuple(0 if random.random() < noise else tag for tag in tags) for tags in truths]
    return truths, said


def make_answers():
    truths = [("Paris", "in Paris")] * 20 + [()] * 10 + [("x",)] * 6
    return truths, {
        "t/pytorch": ["Paris"] * 20 + [""] * 10 + ["x"] * 6,
        "t/float32": ["Paris"] * 20 + [""] * 10 + ["x"] * 6,
        "s/int8": [HOSTILE[0]] * 2 + ["in Paris"] * 17 + [""] * 11 + ["x"] * 6,
    }  # fmt: skip


def made(task):
    if task == "token-classification":
        truths, sure = make_tags(2, 0.02)
        predictions = {"t/pytorch": sure, "t/float32": sure, "s/int8": make_tags(3, 0.3)[1]}
        return make_evaluation(task, predictions, truths, TAGS, ["en", "<i>da</i>"] * 30)
    if task == "question-answering":
        truths, predictions = make_answers()
        return make_evaluation(task, predictions, truths)
    if task == "response-selection":
        truths = [3, -1, 0, 5] * 9
        sure = [(0.0, 0.2) if label < 0 else (1.0, 0.9) for label in truths]
        unsure = [(0.0, 0.2) if label < 0 else (2.5, 0.4) for label in truths]
        thresholds = dict.fromkeys(ROWS, NoneThreshold(value=0.5, queries=7))
        predictions = {"t/pytorch": sure, "t/float32": sure, "s/int8": unsure}
        return make_evaluation(task, predictions, truths, ("relevance",), thresholds=thresholds)
    if task == "out-of-domain-detection":  # PyTorch has no guard, so its row answers nothing
        truths, random = [0] * 24 + [1] * 12, np.random.default_rng(6)
        sure, noise = random.normal(size=36) + 2 * np.array(truths), random.normal(scale=0.1, size=36)
        predictions = {"t/float32": sure.tolist(), "s/int8": (sure + noise).tolist()}
        return make_evaluation(task, predictions, truths, groups=["films"] * 24 + ["<b>mail</b>"] * 12)
    truths = np.random.default_rng(5).random(36).tolist()
    said = {
        "t/pytorch": truths,
        "t/float32": truths,
        "s/int8": [0.9 * x + 0.01 * (i % 3) for i, x in enumerate(truths)],
    }
    return make_evaluation(task, said, truths, ("quantity",))
