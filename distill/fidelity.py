r"""How alike two encoders are inside, layer by layer: how they arrange texts (CKA), and how they relate tokens.

Neither measure needs a common width, depth or architecture. CKA compares the sentence vectors of two layers by how near
each text is to each other one (Kornblith et al., arXiv 1905.00414, eqs. 3 and 4, with a linear kernel): 1 where one is
the other turned and scaled, 0 where they have nothing in common. The relation divergence is the loss of MiniLMv2
(`distill/objectives/relations.py`), here between any two layers, whether or not anything was trained on them.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from distill.architectures import depth_of
from distill.batch import Batch
from distill.capture import Seen, Wanted, observe
from distill.config import Phase
from distill.config_objectives import Relations
from distill.objectives.embedding import pool
from distill.objectives.relations import key_bias, relation_scores
from distill.state import Run
from distill.step import student_inputs
from distill.text import Texts

RELATIONS = ("QQ", "KK", "VV")
MOST_HEADS = 48
"""MiniLMv2's number of relation heads."""
TEXTS = 256
FEWEST_TEXTS = 4
"""The unbiased estimate divides by `texts - 3`."""
TOKENS = 8_192
"""Of all texts together: of long ones fewer are read."""
TOKENS_OF_A_TEXT = 128
"""Its first ones; relations cost the square."""
BATCH_TOKENS = 2_048
"""Padding included; every layer of both models is kept at once."""

Matrix = tuple[tuple[float, ...], ...]
"""A row for each layer of the student, a column for each of the teacher."""


class Reading(NamedTuple):
    """One batch, as each model reads it: a student of a pruned vocabulary has other ids."""

    teacher: Mapping[str, Tensor]
    student: Mapping[str, Tensor]
    mask: Bool[Tensor, "batch seq"]


@dataclass(frozen=True)
class Fidelity:
    """Every layer of a student beside every layer of its teacher."""

    texts: int
    relation_heads: int
    cka: Matrix
    """From 0, what the first layer reads, to the last layer's output; at most 1, and by chance a little below 0."""
    relation_kl: dict[str, Matrix]
    """From layer 1 on, for QQ, KK and VV."""


def linear_cka(a: Float[Tensor, "texts width_a"], b: Float[Tensor, "texts width_b"]) -> float:
    """Centred kernel alignment of the same texts in two spaces: 1 alike, 0 unrelated; blind to rotation and scale.

    Unlike Kornblith et al., who centre the Gram matrices and keep their diagonals, each HSIC is estimated without bias
    (Song et al., JMLR 13, 2012, eq. 5, as Nguyen et al., arXiv 2010.15327, use it): the plain estimate of unrelated
    vectors is about width / (width + texts), which is 0.6 for 256 texts and 384 numbers. At least 4 texts. Vectors
    that are all the same are like nothing.
    """
    return float((_similarities(a) * _similarities(b)).sum())


def fidelity(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    readings: Iterable[Reading],
    relation_heads: int | None = None,
) -> Fidelity:
    """Both measures over all texts of `readings`, for models in evaluation mode; each text counts alike.

    `relation_heads` None takes the largest number, up to 48, that divides both widths.
    """
    heads = relation_heads or _common_divisor(teacher.config.hidden_size, student.config.hidden_size)
    models = (teacher, student)
    vectors: tuple[list[Tensor], list[Tensor]] = ([], [])
    sums = dict.fromkeys(RELATIONS, torch.zeros(depth_of(student), depth_of(teacher), dtype=torch.float64))
    texts = 0
    with torch.inference_mode():
        for reading in readings:
            inputs = (reading.teacher, reading.student)
            seen = [observe(model, read, _everything(model)) for model, read in zip(models, inputs, strict=True)]
            for found, shown in zip(vectors, seen, strict=True):
                found.append(torch.stack([pool(state, reading.mask, "mean") for state in shown.hidden.values()]))
            for name in RELATIONS:
                theirs, ours = (_vectors(shown, name) for shown in seen)
                sums[name] = sums[name] + relation_divergences(theirs, ours, reading.mask, heads) * len(reading.mask)
            texts += len(reading.mask)
        theirs, ours = (_alignment(torch.cat(found, dim=1)) for found in vectors)
    return Fidelity(texts, heads, _matrix(ours @ theirs.T), {name: _matrix(x / texts) for name, x in sums.items()})


def relation_divergences(
    teacher: Float[Tensor, "theirs batch seq teacher_width"],
    student: Float[Tensor, "ours batch seq student_width"],
    mask: Bool[Tensor, "batch seq"],
    heads: int,
) -> Float[Tensor, "ours theirs"]:
    """`relations_loss` of a layer with itself (such as QQ), for all pairs of layers at once; float64.

    As entropy and cross-entropy, each layer's softmax is taken once rather than once a pair, and the pairs are a matrix
    product. That loses the digits of a divergence below about 1e-6, which a loss would miss.
    """
    weights = (mask / mask.sum(1, keepdim=True).clamp(min=1) / heads / len(mask))[None, :, :, None]
    total = torch.zeros(len(student), len(teacher), dtype=torch.float64)
    for head in range(heads):
        theirs, ours = (_log_relations(x, mask, head, heads) for x in (teacher, student))
        shares = theirs.exp() * weights
        entropies = (shares * theirs).flatten(1).sum(1)
        total += (entropies - ours.flatten(1) @ shares.flatten(1).T).double().cpu()
    return total.clamp(min=0)


def measure_fidelity(run: Run) -> dict[str, Any]:
    """The facts of a trained student: `fidelity` to its teacher on validation texts, 4 decimals.

    Empty without a teacher, and with fewer texts than CKA can be estimated from. Costs seconds: one pass of both models
    over some 8,192 tokens, and a softmax for each layer, head and relation.
    """
    if run.teacher is None or len(run.validation) < FEWEST_TEXTS:
        return {}
    begun = time.monotonic()
    run.student.train(False)
    found = fidelity(run.teacher, run.student, _readings(run), _heads_of(run.phases))
    return {
        "fidelity": {
            "teacher": run.config.teacher, "texts": found.texts, "relation_heads": found.relation_heads,
            "cka": found.cka, "relation_kl": found.relation_kl, "seconds": round(time.monotonic() - begun, 1),
        }
    }  # fmt: skip


def _similarities(vectors: Float[Tensor, "texts width"]) -> Float[Tensor, "texts texts"]:
    """The U-centred Gram matrix (Szekely and Rizzo, 2014), divided by its norm; float64.

    The product of two of them is the unbiased HSIC of Song et al. up to a factor that a ratio cancels.
    """
    centred = vectors.double() - vectors.double().mean(0)
    gram = (centred @ centred.T).fill_diagonal_(0.0)
    texts, sums = len(gram), gram.sum(0)
    gram = gram - (sums[:, None] + sums[None, :] - sums.sum() / (texts - 1)) / (texts - 2)
    gram.fill_diagonal_(0.0)
    norm: Tensor = torch.linalg.vector_norm(gram)
    return gram / norm.clamp(min=torch.finfo(gram.dtype).tiny)


def _alignment(layers: Float[Tensor, "layers texts width"]) -> Float[Tensor, "layers pairs"]:
    return torch.stack([_similarities(vectors.cpu()).flatten() for vectors in layers])


def _log_relations(
    vectors: Float[Tensor, "layers batch seq width"], mask: Bool[Tensor, "batch seq"], head: int, heads: int
) -> Float[Tensor, "layers batch seq seq"]:
    size = vectors.shape[-1] // heads
    # What stands at padding may be NaN, which no bias takes out of a score.
    part = vectors[..., head * size : (head + 1) * size].masked_fill(~mask[None, :, :, None], 0.0)
    scores = torch.stack([relation_scores(layer, layer, 1).squeeze(1) for layer in part])
    return functional.log_softmax(scores + key_bias(mask).squeeze(1), dim=-1)


def _everything(model: PreTrainedModel) -> Wanted:
    depth = depth_of(model)
    return Wanted(layers=tuple(range(1, depth + 1)), hidden=tuple(range(depth + 1)))


def _vectors(seen: Seen, relation: str) -> Float[Tensor, "layers batch seq width"]:
    return torch.stack([getattr(layer, relation[0]) for layer in seen.projections.values()])


def _matrix(values: Float[Tensor, "ours theirs"]) -> Matrix:
    """Rounded; the sum turns -0.0 into 0.0."""
    return tuple(tuple(round(value, 4) + 0.0 for value in row) for row in values.tolist())


def _common_divisor(*widths: int) -> int:
    return max(heads for heads in range(1, MOST_HEADS + 1) if not any(width % heads for width in widths))


def _heads_of(phases: Sequence[Phase]) -> int | None:
    """What the recipe trains with, so that the last divergence is the loss that training saw."""
    relations = [o for phase in phases for o in phase.objectives if isinstance(o, Relations)]
    return next((o.relation_heads for o in relations if o.relation_heads is not None), None)


def beginnings(texts: Texts) -> Iterator[Batch]:
    """The first tokens of texts spread evenly over a split, which may be sorted by label; the longest first."""
    lengths = [min(length, TOKENS_OF_A_TEXT) for length in texts.lengths]
    count = min(TEXTS, len(texts), max(FEWEST_TEXTS, TOKENS * len(texts) // max(sum(lengths), 1)))
    left = sorted((place * len(texts) // count for place in range(count)), key=lambda text: lengths[text])
    while left:
        room = max(1, BATCH_TOKENS // max(lengths[left[-1]], 1))
        batch = texts.batch(left[-room:])
        inputs = {name: tensor[:, :TOKENS_OF_A_TEXT] for name, tensor in batch.inputs.items()}
        yield replace(batch, inputs=inputs, mask=batch.mask[:, :TOKENS_OF_A_TEXT])
        left = left[:-room]


def _readings(run: Run) -> Iterator[Reading]:
    for batch in beginnings(run.validation):
        there = batch.to(run.accelerator.device)
        yield Reading(there.inputs, student_inputs(run, there), there.mask)
