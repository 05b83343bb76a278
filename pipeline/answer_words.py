"""Answers as a person reads them, by task."""

from collections.abc import Callable, Mapping, Sequence

from artifact.dataset import Task
from pipeline.results import Answer

Write = Callable[[Answer, Sequence[str]], str]

NO_ANSWER = "(no answer)"


def write_truth(task: Task, truth: Answer, labels: Sequence[str]) -> str:
    """What is true of an example."""
    return _TRUTHS.get(task, _WORDS[task])(truth, labels)


def write_answer(task: Task, answer: Answer, labels: Sequence[str]) -> str:
    """What a row said of it."""
    return _WORDS[task](answer, labels)


def _label(answer: Answer, labels: Sequence[str]) -> str:
    return labels[answer] if isinstance(answer, int) else str(answer)


def _tags(answer: Answer, labels: Sequence[str]) -> str:
    return " ".join(_label(tag, labels) for tag in answer) if isinstance(answer, tuple) else str(answer)


def _texts(answer: Answer, _: Sequence[str]) -> str:
    texts = answer if isinstance(answer, tuple) else (answer,)
    return " / ".join(dict.fromkeys(str(text) for text in texts if text)) or NO_ANSWER


def _quantity(answer: Answer, _: Sequence[str]) -> str:
    return f"{answer:.2f}" if isinstance(answer, (int, float)) else str(answer)


def _rank(answer: Answer, _: Sequence[str]) -> str:
    rank, best = answer if isinstance(answer, tuple) else (0, 0)
    place = f"rank {rank:g}" if rank else "none is right"
    return f"{place}, best score {best:.2f}"


_WORDS: Mapping[Task, Write] = {
    "classification": _label,
    "regression": _quantity,
    "token-classification": _tags,
    "question-answering": _texts,
    "response-selection": _rank,
    "out-of-domain-detection": lambda distance, labels: f"distance {_quantity(distance, labels)}",
}
_TRUTHS: Mapping[Task, Write] = {
    "response-selection": lambda truth, _: "none is right" if truth == -1 else f"candidate {truth}",
    "out-of-domain-detection": lambda truth, _: "from outside" if truth == 1 else "of the domain",
}
"""Where they are of another kind than what rows say."""
