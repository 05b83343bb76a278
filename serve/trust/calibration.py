"""How sure a student must be to answer alone, for a cascade to agree with the teacher as often as asked.

A text on which the student is not surer than the threshold goes to the teacher, whose answer agrees with itself. So
the cascade disagrees on the texts where the student is sure and says something else, and those only grow in number
as the threshold falls. Walking down from the highest threshold, and stopping before the first whose exact lower bound
misses the level, therefore ends at the lowest that reaches it, and the chance that its true agreement lies below the
level is at most one less the certainty, however many thresholds were passed: to end too low, the walk has to pass the
one place where the true agreement meets the level, and there a single test stands in the way (fixed-sequence testing;
S. Bates et al., "Distribution-free, risk-controlling prediction sets", 2021, for losses that only grow).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from artifact.config import Config, parse_config, read_yaml
from artifact.errors import ServeError
from serve.engine import Text
from serve.trust.bound import CERTAINTY, allowed_failures, fewest, lower_bound
from serve.trust.confidence import confidence_of
from serve.trust.pair import Measured, check_pair

STEPS = 20
"""Rows of the frontier beside its first."""


class Member(Config):
    """One side of a cascade, as it was when the threshold was chosen."""

    name: str
    """`model/precision` by the bundle's own name; the precision is the part that has to match what is served."""
    digest: str
    """Of its bundle."""


class Operation(Config):
    """How a cascade does at one threshold, on the texts it was measured on."""

    threshold: float
    """The student answers alone where its confidence is above it."""
    answered_share: float
    """Share of the texts that the student answers."""
    agreed: int
    """Texts on which the cascade says what the teacher says."""
    agreement: float
    """As a share."""
    agreement_low: float
    """Exact lower bound of it, one-sided, at the certainty of the calibration."""


class Calibration(Config):
    """`calibration.json`."""

    schema_version: Literal[1] = 1
    student: Member
    teacher: Member
    level: float = Field(gt=0, lt=1)
    """Agreement that was asked for."""
    certainty: float = Field(gt=0, lt=1)
    """How sure it is that the agreement is no lower."""
    texts: int = Field(gt=0)
    """Texts that it was measured on."""
    texts_digest: str
    """SHA-256 of the file they are from."""
    chosen: Operation
    frontier: tuple[Operation, ...]
    """From asking the teacher always to never; only `chosen` was tested."""
    confidences: tuple[float, ...]
    """The student's, at each hundredth of the texts, ascending: what later scores can be compared with."""


def read_calibration(path: Path) -> Calibration:
    """The file at `path`; `ConfigError` when it is not there or is no calibration."""
    return parse_config(Calibration, read_yaml(path), where=str(path))


def calibrate(
    student: Measured,
    teacher: Measured,
    texts: Sequence[Text],
    *,
    level: float,
    texts_digest: str,
    certainty: float = CERTAINTY,
) -> Calibration:
    """The lowest threshold at which the cascade agrees with the teacher at `level`, on `texts` neither was made with.

    Raises `ServeError` when `level` is no share, when the models are no classifiers of the same labels, or when there
    are too few texts for any threshold to be proved.
    """
    check_pair(student.name, student, teacher.name, teacher)
    if not 0 < level < 1:
        raise ServeError(f"an agreement of {level:g} cannot be asked for", "choose a level between 0 and 1: 0.99")
    needed = fewest(level, certainty)
    if len(texts) < needed:
        problem = f"{len(texts)} texts cannot prove an agreement of {level:g} at {certainty:g}, even without a fault"
        raise ServeError(problem, f"give at least {needed} texts, or ask for a lower --level")
    confidence, agrees = compare(student, teacher, texts)
    threshold = choose_threshold(confidence, agrees, level=level, certainty=certainty)
    marks = np.quantile(confidence, np.linspace(1, 0, STEPS + 1), method="lower")
    thresholds = [1.0, *dict.fromkeys(marks[1:-1].tolist()), 0.0]
    return Calibration(
        student=Member(name=student.name, digest=student.digest),
        teacher=Member(name=teacher.name, digest=teacher.digest),
        level=level,
        certainty=certainty,
        texts=len(texts),
        texts_digest=texts_digest,
        chosen=operate(confidence, agrees, threshold, certainty),
        frontier=tuple(operate(confidence, agrees, each, certainty) for each in thresholds),
        confidences=tuple(np.quantile(confidence, np.linspace(0, 1, 101)).tolist()),
    )


def compare(
    student: Measured, teacher: Measured, texts: Sequence[Text]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """`[batch]` each: the student's confidence, and whether both name the same label."""
    logits = student.run(texts).logits
    agrees = logits.argmax(axis=1) == teacher.run(texts).logits.argmax(axis=1)
    return confidence_of(logits), agrees


def choose_threshold(
    confidence: NDArray[np.float64], agrees: NDArray[np.bool_], *, level: float, certainty: float = CERTAINTY
) -> float:
    """The lowest threshold above which few enough texts disagree; 1, so that none is above, without enough texts."""
    allowed = allowed_failures(len(confidence), level, certainty)
    if allowed is None:
        return 1.0
    faults = np.sort(confidence[~agrees])[::-1]
    return float(faults[allowed]) if len(faults) > allowed else 0.0


def operate(
    confidence: NDArray[np.float64], agrees: NDArray[np.bool_], threshold: float, certainty: float = CERTAINTY
) -> Operation:
    """What the cascade does at `threshold`."""
    alone, texts = confidence > threshold, len(confidence)
    agreed = texts - int((alone & ~agrees).sum())
    return Operation(
        threshold=threshold,
        answered_share=float(alone.mean()),
        agreed=agreed,
        agreement=agreed / texts,
        agreement_low=lower_bound(agreed, texts, certainty),
    )
