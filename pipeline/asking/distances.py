"""How far each text is from those a guarded bundle knows, as its graph says."""

from collections.abc import Sequence

import numpy as np

from artifact.dataset import Example
from artifact.errors import BenchError
from pipeline.asking.asked import Asking, Found, Step, check_finite, chunks
from pipeline.results import Answer


def ask_distances(asking: Asking, examples: Sequence[Example], step: Step) -> Found:
    """The distance of each text; `BenchError` for a row without a gate."""
    answers: list[Answer] = []
    for chunk in chunks(examples):
        distances = asking.engine.run([example.asked for example in chunk]).domain
        if distances is None:
            raise BenchError(f"{asking.row} has no gate, and says nothing of what is out of domain", "export it again")
        check_finite(asking.row, distances)
        answers += distances.reshape(-1).astype(float).tolist()
        step(len(chunk))
    return Found(answers=answers, strangeness=np.empty(0))
