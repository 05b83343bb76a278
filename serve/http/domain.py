"""Out of domain: what is said of it in headers, in bodies and in metrics, for a model whose graph measures it."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from serve.batching.lane import Answer, Lane
from serve.engine import Engine, Floats, Outputs, Text
from serve.http.replies import OutOfDomain
from serve.metrics import Metrics

SCORE_HEADER = "x-out-of-domain-score"
FLAG_HEADER = "x-out-of-domain"
HEADER_TEXTS = 32
"""Answers to more texts carry no headers of it: proxies commonly refuse headers of more than 4 to 8 kB."""


def domain_of(engine: Engine, outputs: Outputs) -> list[OutOfDomain] | None:
    """A verdict for each text, in their order; None where the graph does not say how far they are."""
    if outputs.domain is None:
        return None
    threshold = threshold_of(engine)
    if threshold is None:
        return [{"score": score, "flag": None} for score in outputs.domain.tolist()]
    flags = out_of_domain(outputs.domain, threshold).tolist()
    return [{"score": score, "flag": flag} for score, flag in zip(outputs.domain.tolist(), flags, strict=True)]


def domain_headers(engine: Engine, outputs: Outputs) -> dict[str, str]:
    """The verdicts of up to `HEADER_TEXTS` texts, separated by commas; nothing for more, or without a gate."""
    verdicts = domain_of(engine, outputs) if len(outputs.tokens) <= HEADER_TEXTS else None
    if not verdicts or threshold_of(engine) is None:
        return {}
    return {
        SCORE_HEADER: ",".join(f"{verdict['score']:.5g}" for verdict in verdicts),
        FLAG_HEADER: ",".join("true" if verdict["flag"] else "false" for verdict in verdicts),
    }


def watch_domain(metrics: Metrics) -> Callable[[Lane, Sequence[Text], Answer], None]:
    """A watcher of the desk that counts flagged texts and files every distance."""
    # Looked up once a model: a lookup by label costs as much as counting.
    flagged, filed = cache(metrics.out_of_domain.labels), cache(metrics.domain_ratio.labels)

    def watch(lane: Lane, _: Sequence[Text], answer: Answer) -> None:
        threshold, distances = threshold_of(lane.engine), answer.outputs.domain
        if threshold is None or distances is None:
            return
        name = lane.engine.name
        flagged(name).inc(int(out_of_domain(distances, threshold).sum()))
        ratios = filed(name)
        for distance in distances.tolist():
            ratios.observe(distance / threshold)

    return watch


def threshold_of(engine: Engine) -> float | None:
    """How far a text may be for `engine`; None for one that has no gate."""
    # Not part of the protocol: an engine that knows nothing of gates, such as one of PyTorch, simply has none.
    threshold: float | None = getattr(engine, "domain_threshold", None)
    return threshold


def out_of_domain(distances: Floats, threshold: float) -> NDArray[np.bool_]:
    """`[batch]`: which distances are too far; one that is no number is."""
    return ~(distances <= np.float32(threshold))
