"""Tasks that are read off the columns of one text's or pair's logits: labels, and quantities."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from artifact.dataset import Example
from artifact.errors import BenchError
from pipeline.asking.asked import Asking, Found, Step, chunks
from pipeline.results import Answer
from serve.engine import Outputs
from serve.trust.confidence import confidence_of


def ask_labels(asking: Asking, examples: Sequence[Example], step: Step) -> Found:
    """The label with the largest logit, and how strange each text looks."""
    answers: list[Answer] = []
    strangeness: list[NDArray[np.float64]] = [np.empty(0)]
    by_distance = False
    for outputs in _run(asking, examples, step):
        answers += outputs.logits.argmax(axis=1).tolist()
        by_distance = outputs.domain is not None
        distance = 1 - confidence_of(outputs.logits) if outputs.domain is None else outputs.domain.reshape(-1)
        strangeness.append(distance.astype(np.float64))
    return Found(answers=answers, strangeness=np.concatenate(strangeness), by_distance=by_distance)


def ask_quantities(asking: Asking, examples: Sequence[Example], step: Step) -> Found:
    """The one column, as it is."""
    answers: list[Answer] = []
    for outputs in _run(asking, examples, step):
        answers += outputs.logits[:, 0].astype(float).tolist()
    return Found(answers=answers, strangeness=np.empty(0))


def _run(asking: Asking, examples: Sequence[Example], step: Step) -> Iterator[Outputs]:
    asked = 0
    for chunk in chunks(examples):
        outputs = asking.engine.run([example.asked for example in chunk])
        asked += len(chunk)
        if not np.isfinite(outputs.logits).all():
            raise BenchError(f"{asking.row} gives logits that are not finite, first below test example {asked}")
        yield outputs
        step(len(chunk))
