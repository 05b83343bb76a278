"""What a student is asked to match: one file an objective, its maths a pure function; here they are wired.

A new objective is a config in `distill/config_objectives.py`, a file here, and a case in `_wants` and in `loss_of`.
"""

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor, nn

from artifact.errors import ModelError
from distill.capture import Seen, Wanted
from distill.config_objectives import (
    Attention,
    Contrastive,
    Embedding,
    Hidden,
    Labels,
    Logits,
    MaskedLanguage,
    Objective,
    Pooling,
    Ranking,
    Relations,
)
from distill.heads import Answers
from distill.objectives.attention import attention_loss
from distill.objectives.embedding import cosines, embedding_loss, pool, similarity_loss
from distill.objectives.hidden import hidden_loss
from distill.objectives.labels import chance_loss, labels_loss, quantity_loss
from distill.objectives.layers import Models, layer_pairs
from distill.objectives.logits import Weights, chance_divergence, logits_error, logits_loss
from distill.objectives.mlm import masked_loss
from distill.objectives.ranking import contrastive_loss, in_batch_loss, margin_mse_loss
from distill.objectives.relations import relations_loss


def wanted_of(objectives: Sequence[Objective], models: Models) -> tuple[Wanted, Wanted]:
    """What these objectives need to see of the teacher and of the student."""
    wants = [_wants(objective, models) for objective in objectives]
    return _union([theirs for theirs, _ in wants]), _union([ours for _, ours in wants])


def read_whole(objectives: Sequence[Objective]) -> bool:
    """Whether none of these compares token with token, so that teacher and student may read a text in other pieces."""
    return all(isinstance(objective, Logits | Labels) for objective in objectives)


def reads_words(objectives: Sequence[Objective]) -> bool:
    """Whether masked words are learnt."""
    return any(isinstance(objective, MaskedLanguage) for objective in objectives)


def loss_of(  # noqa: PLR0911 - one a kind
    objective: Objective,
    teacher: Seen,
    student: Seen,
    *,
    mask: Bool[Tensor, "batch seq"],
    labels: Tensor,
    models: Models,
    projections: nn.ModuleDict,
    answers: Answers = "rivals",
    weights: Weights = None,
) -> Float[Tensor, ""]:
    """The unweighted loss of one objective on one batch; several layers add up. No gradient reaches the teacher.

    `labels`, `weights` and the logits are rows, as `distill.judging` makes them. Of masked words, `labels` are the
    tokens to be found, and the student's logits its scores of pieces there; of pairs encoded apart, they number the
    texts that answer, those that read alike alike.
    """
    teacher = teacher.detached()
    match objective:
        case Relations(pairs=pairs, relation_heads=heads):
            losses = [
                relations_loss(teacher.projections[t], student.projections[s], mask, pairs, heads)
                for t, s in layer_pairs(objective, models)
            ]
            return sum(losses[1:], losses[0])
        case Attention(measure=measure):
            losses = [
                attention_loss(teacher.projections[t], student.projections[s], mask, measure)
                for t, s in layer_pairs(objective, models)
            ]
            return sum(losses[1:], losses[0])
        case Hidden(measure=measure, tokens=tokens):
            losses = [
                hidden_loss(
                    teacher.hidden[t], _project(projections, f"hidden-{s}", student.hidden[s], teacher.hidden[t]),
                    mask, measure=measure, tokens=tokens,
                )
                for t, s in layer_pairs(objective, models)
            ]  # fmt: skip
            return sum(losses[1:], losses[0])
        case Embedding(measure=measure, pooling=pooling):
            theirs, ours = _embeddings(teacher, student, mask, pooling, models)
            if measure == "similarity":
                return similarity_loss(theirs, ours)
            return embedding_loss(theirs, _project(projections, "embedding", ours, theirs), measure)
        case Ranking() | Contrastive():
            return _matching_loss(objective, teacher, student, mask=mask, models=models, labels=labels)
        case Logits():
            return _opinion_loss(objective, _logits(teacher), _logits(student), answers, weights)
        case Labels(smoothing=smoothing):
            return _known_loss(_logits(student), labels, smoothing, answers)
        case MaskedLanguage():
            return masked_loss(_logits(student), labels)


def make_projections(objectives: Sequence[Objective], models: Models) -> nn.ModuleDict:
    """Linear maps from the student's width to the teacher's, for what cannot be compared without; never deployed."""
    names: list[str] = []
    differ = models.teacher_width != models.student_width
    for objective in objectives:
        if isinstance(objective, Hidden) and (differ or objective.measure == "kld"):
            names += [f"hidden-{student}" for _, student in layer_pairs(objective, models)]
        if isinstance(objective, Embedding) and differ and objective.measure != "similarity":
            names.append("embedding")
    return nn.ModuleDict({name: nn.Linear(models.student_width, models.teacher_width) for name in names})


def _wants(objective: Objective, models: Models) -> tuple[Wanted, Wanted]:
    match objective:
        case Relations() | Attention():
            pairs = layer_pairs(objective, models)
            return Wanted(layers=tuple(t for t, _ in pairs)), Wanted(layers=tuple(s for _, s in pairs))
        case Hidden():
            pairs = layer_pairs(objective, models)
            return Wanted(hidden=tuple(t for t, _ in pairs)), Wanted(hidden=tuple(s for _, s in pairs))
        case Embedding() | Ranking():
            return Wanted(hidden=(models.teacher_depth,)), Wanted(hidden=(models.student_depth,))
        case Logits():
            return Wanted(logits=True), Wanted(logits=True)
        case Labels():
            return Wanted(), Wanted(logits=True)
        case (
            MaskedLanguage() | Contrastive()
        ):  # scores of pieces are made of the last states, in the hidden places only
            return Wanted(), Wanted(hidden=(models.student_depth,))


def _matching_loss(
    objective: Ranking | Contrastive,
    teacher: Seen,
    student: Seen,
    *,
    mask: Bool[Tensor, "batch seq"],
    models: Models,
    labels: Tensor,
) -> Float[Tensor, ""]:
    ours = _scores(pool(student.hidden[models.student_depth], mask, objective.pooling))
    if isinstance(objective, Contrastive):
        return contrastive_loss(ours, objective.temperature, labels[: len(ours)])  # the same for text and answer
    theirs = _scores(pool(teacher.hidden[models.teacher_depth], mask, objective.pooling))
    in_batch = objective.measure == "in_batch"
    return in_batch_loss(theirs, ours, objective.temperature) if in_batch else margin_mse_loss(theirs, ours)


def _opinion_loss(
    objective: Logits, teacher: Tensor, student: Tensor, answers: Answers, weights: Weights
) -> Float[Tensor, ""]:
    if objective.measure == "mse" or answers == "quantity":
        return logits_error(teacher, student, weights)
    if answers == "chance":
        return chance_divergence(teacher, student, objective.temperature)
    return logits_loss(teacher, student, objective.temperature, weights)


def _known_loss(student: Tensor, labels: Tensor, smoothing: float, answers: Answers) -> Float[Tensor, ""]:
    if answers == "quantity":
        return quantity_loss(student, labels)
    return (chance_loss if answers == "chance" else labels_loss)(student, labels, smoothing)


def _union(wants: Sequence[Wanted]) -> Wanted:
    return Wanted(
        layers=tuple(sorted({layer for want in wants for layer in want.layers})),
        hidden=tuple(sorted({layer for want in wants for layer in want.hidden})),
        logits=any(want.logits for want in wants),
    )


def _project(projections: nn.ModuleDict, name: str, states: Tensor, teacher: Tensor) -> Tensor:
    """The student's `states` as wide as the teacher's; `ModelError` where the two widths were not foreseen."""
    projected: Tensor = projections[name](states) if name in projections else states
    if projected.shape[-1] != teacher.shape[-1]:
        raise ModelError(
            f"{name}: the student's vectors have {projected.shape[-1]} numbers, the teacher's {teacher.shape[-1]}",
            "make the projections with `make_projections`, from the models' own widths",
        )
    return projected


def _embeddings(
    teacher: Seen, student: Seen, mask: Bool[Tensor, "batch seq"], pooling: Pooling, models: Models
) -> tuple[Tensor, Tensor]:
    states = teacher.hidden[models.teacher_depth], student.hidden[models.student_depth]
    return pool(states[0], mask, pooling), pool(states[1], mask, pooling)


def _scores(embeddings: Float[Tensor, "texts width"]) -> Float[Tensor, "pairs pairs"]:
    """Cosines of the first half's texts with the second half's: a batch of pairs is all texts, then all their answers.

    The validation split has no pairs; its halves are any texts, and the teacher's scores are matched all the same.
    """
    half = len(embeddings) // 2
    return cosines(embeddings[:half], embeddings[half : 2 * half])


def _logits(seen: Seen) -> Tensor:
    if seen.logits is None:
        raise RuntimeError("logits were not asked for; `wanted_of` and `loss_of` disagree")
    return seen.logits
