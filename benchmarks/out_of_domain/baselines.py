"""What the gate is compared with: scores that need labels, one layer alone, other weights, and no encoder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.out_of_domain.scores import Distances, Sides, area
from export.config import Weighting
from export.domain import Gate
from export.domain_fit import LOOSENESS, Means, distances_of, fit_gate
from pipeline.data_contrast import AUXILIARY
from pipeline.guard_graphs import count_layers, layer_means
from pipeline.guard_texts import Parts
from serve.engine import Floats, Text, softmax
from serve.runtime import Runtime

WEIGHTINGS: tuple[Weighting, ...] = ("equal", "svm")
COMPONENTS = 100
"""Of the TF-IDF vectors, as in Xu et al."""
EVIDENCE_TEXTS = 1000
"""Held-out texts that in-domain evidence is taken from, and as many spliced ones."""


def label_scores(logits: Floats, labels: Sequence[str]) -> dict[str, Distances]:
    """Scores of a classifier: one less the chance of the likeliest label, and the energy (Liu et al., 2020).

    Where one label is `auxiliary`, its chance instead: being sure of that one is no sign of being in the domain.
    """
    if AUXILIARY in labels:
        return {"auxiliary": _wide(softmax(logits)[:, list(labels).index(AUXILIARY)])}
    top = logits.max(axis=1, keepdims=True)
    energy = -(top[:, 0] + np.log(np.exp(logits - top).sum(axis=1)))
    return {"softmax": _wide(1 - softmax(logits).max(axis=1)), "energy": _wide(energy)}


def word_scores(fitted: Sequence[str], inside: Sequence[str], outside: Sequence[str]) -> Sides:
    """TF-IDF, its first 100 singular directions, and a linear one-class machine: no encoder at all.

    Of Xu et al., with the machine's nu fixed at 0.1, as the gate's is. Linear, because a text without any known word
    is the origin, which radial functions take for the middle of the domain.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import OneClassSVM

    model = make_pipeline(TfidfVectorizer(), TruncatedSVD(COMPONENTS, random_state=0))
    machine = OneClassSVM(kernel="linear", nu=LOOSENESS).fit(model.fit_transform(fitted))
    return Sides(*(_wide(-machine.score_samples(model.transform(texts))) for texts in (inside, outside)))


def layer_scores(
    bundle: Path, precision: str, parts: Parts, inside: Sequence[str], outside: Sequence[str]
) -> tuple[dict[str, Sides], dict[str, dict[str, float]]]:
    """Scores of other gates on the same layers, and what in-domain text alone says of the two weightings.

    `svm weights`: as a one-class machine says. `last layer`: that layer's alone. The evidence is the chance
    that a text spliced from the halves of two held-out texts is farther than a held-out text (`spliced`), and the
    threshold over the median of held-out distances (`tail`): no text from outside is looked at.
    """
    runtime = Runtime.open(bundle, precision)
    _, graph = runtime.bundle.graph(precision)
    held_out = [text for text in parts.held_out[:EVIDENCE_TEXTS] if isinstance(text, str)]

    def means_of(texts: Sequence[Text]) -> Means:
        tokens = runtime.tokenize(texts)
        return layer_means(graph, tokens, runtime.bundle.info, count_layers(runtime.bundle), runtime.threads)

    fitted = means_of(parts.fitted)
    gates = {weighting: fit_gate(fitted, weighting).gate for weighting in WEIGHTINGS}
    near, far, known, spliced = (means_of(texts) for texts in (inside, outside, held_out, splice(held_out)))
    evidence = {}
    for weighting, gate in gates.items():
        whole, cut = distances_of(known, gate), distances_of(spliced, gate)
        evidence[weighting] = {
            "spliced": area(Sides(_wide(whole), _wide(cut))),
            "tail": float(np.quantile(whole, 0.95) / np.median(whole)),
        }
    alone = only_last(gates["equal"])
    return {
        "svm weights": Sides(*(_wide(distances_of(means, gates["svm"])) for means in (near, far))),
        "last layer": Sides(*(_wide(distances_of(means[:, -1:], alone)) for means in (near, far))),
    }, evidence


def only_last(gate: Gate) -> Gate:
    """The gate of the last layer's means alone."""
    return Gate(centres=gate.centres[-1:], whitenings=gate.whitenings[-1:], weights=np.ones(1))


def splice(texts: Sequence[str]) -> list[str]:
    """The first half of each text's words before the second half of the next one's."""
    words = [text.split() for text in texts]
    pairs = zip(words, [*words[1:], words[0]], strict=True)
    return [" ".join([*one[: (len(one) + 1) // 2], *other[len(other) // 2 :]]) for one, other in pairs]


def _wide(values: object) -> Distances:
    return np.asarray(values, dtype=np.float64)
