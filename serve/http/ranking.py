"""Scores as people read them: labels in order, of models that have any for a text."""

import numpy as np

from serve.batching.lane import Answer
from serve.engine import KINDS_BY_TOKEN, Engine, Floats, scores_of
from serve.http.replies import Prediction
from serve.problem import Problem


def labels_of(engine: Engine) -> list[str]:
    """The labels of a text; `Problem` 422 for a model that has none, or has them for its tokens alone."""
    if engine.labels and engine.problem not in KINDS_BY_TOKEN:
        return list(engine.labels)
    raise Problem(422, "Validation", f"{engine.name} has no labels to predict", param="model")


def read_scores(answer: Answer, engine: Engine, *, raw: bool) -> Floats:
    """`[batch, labels]`: logits as they are when `raw`, else what they say."""
    logits = answer.outputs.logits
    return logits if raw else scores_of(logits, engine.problem)


def rank_labels(labels: list[str], scores: Floats) -> list[list[Prediction]]:
    """For each row every label with its score, highest first; equal scores keep the labels' order."""
    orders = np.argsort(-scores, axis=1, kind="stable").tolist()
    pairs = zip(orders, scores.tolist(), strict=True)
    return [[{"label": labels[column], "score": row[column]} for column in order] for order, row in pairs]
