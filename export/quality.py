"""How good a graph's answers are: against labels where there are any, else against what float32 answers.

    judge = Judge(source.task, source.problem, texts, reference)
    judge.score(answers).value

Every measure is one number a text, so that two graphs are compared text by text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from export.answers import Answer, Ask, row_of
from export.grid import Inputs
from export.tasks import VECTOR, Problem, Task
from export.texts import Texts, batches_of
from export.vectors import cosines

BATCH = 32
RESAMPLES = 2000


@dataclass(frozen=True)
class Scores:
    """One precision's marks, text by text."""

    measure: str
    """`accuracy` against labels, or a likeness to float32's answers."""
    marks: Float[np.ndarray, " texts"]

    @property
    def value(self) -> float:
        """Their mean."""
        return float(self.marks.mean())


def answer_all(ask: Ask, texts: Sequence[Inputs], pad_id: int, size: int = BATCH) -> list[Answer]:
    """The answer to each text, asked in batches of like length, without padding; states of tokens are left out."""
    answers: list[Answer] = [{} for _ in texts]
    for rows, batch in batches_of(texts, pad_id, size):
        found = {name: values for name, values in ask(batch).items() if name != "last_hidden_state"}
        for place, row in enumerate(rows):
            answers[row] = row_of(found, place, batch["attention_mask"].astype(bool))
    return answers


def score(task: Task, problem: Problem | None, answers: Sequence[Answer], reference: Sequence[Answer],
          texts: Texts) -> Scores:  # fmt: skip
    """The marks of `answers`: whether the label was found, or how like they are to the `reference` ones.

    Classes without labels, tags of tokens and spans: 1 where the same is chosen (share of a text's tokens). Several
    labels at once: share of the labels decided alike. A quantity or a ranking: 1 less the difference, in standard
    deviations of the reference over the texts. Embeddings: cosine.
    """
    if texts.labels is not None and problem == "single-label":
        chosen = np.array([answer["logits"].argmax() for answer in answers])
        return Scores("accuracy", (chosen == texts.labels).astype(float))
    measure, mark = _LIKENESS[problem or task.name]
    pairs = list(zip(answers, reference, strict=True))
    if measure == "closeness":
        spread = float(np.std([other["logits"] for other in reference])) or 1.0
        return Scores(
            measure, np.array([1 - float(np.abs(a["logits"] - b["logits"]).max()) / spread for a, b in pairs])
        )
    return Scores(measure, np.array([mark(a, b) for a, b in pairs]))


def kept(scores: Scores, reference: Scores, *, seed: int = 1) -> dict[str, Any]:
    """The share of the reference's value that is kept, with a 95 % interval by bootstrap over texts, paired."""
    generator = np.random.default_rng(seed)
    count = len(scores.marks)
    weights = generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    ratios = (weights @ scores.marks) / np.maximum(weights @ reference.marks, 1e-9)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return {
        "measure": scores.measure, "texts": count, "value": scores.value,
        "kept": scores.value / max(reference.value, 1e-9), "interval": [float(low), float(high)],
    }  # fmt: skip


def error(answers: Sequence[Answer], reference: Sequence[Answer]) -> float:
    """Mean over texts of the distance between two answers' first outputs, by the length of the reference's."""
    name = next(iter(reference[0]))
    distances = [
        float(np.linalg.norm(a[name] - b[name]) / max(float(np.linalg.norm(b[name])), 1e-9))
        for a, b in zip(answers, reference, strict=True)
    ]
    return float(np.mean(distances))


def _same_class(a: Answer, b: Answer) -> float:
    return float((a["logits"].argmax(-1) == b["logits"].argmax(-1)).mean())


def _same_decisions(a: Answer, b: Answer) -> float:
    return float(((a["logits"] > 0) == (b["logits"] > 0)).mean())


def _same_span(a: Answer, b: Answer) -> float:
    return float(all(a[name].argmax() == b[name].argmax() for name in ("start_logits", "end_logits")))


def _cosine(a: Answer, b: Answer) -> float:
    return float(cosines(a[VECTOR], b[VECTOR])[0])


_LIKENESS: dict[str, Any] = {
    "single-label": ("agreement", _same_class),
    "multi-label": ("agreement", _same_decisions),
    "regression": ("closeness", None),
    "ranking": ("closeness", None),
    "token-classification": ("agreement", _same_class),
    "question-answering": ("agreement", _same_span),
    "embedding": ("cosine", _cosine),
}
