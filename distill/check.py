"""What can be known to fail before the first step, said before the first step."""

from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel

from artifact.errors import ConfigError, DataError, ModelError
from distill.architectures import architecture_of
from distill.batch import first_position_of
from distill.config import CorpusConfig, Phase
from distill.config_objectives import Attention, Contrastive, MaskedLanguage, Ranking, Relations
from distill.evaluation import learns_classes, reads_head
from distill.objectives import wanted_of
from distill.objectives.layers import Models
from distill.objectives.relations import common_heads
from distill.schedule import freeze_all_but
from distill.spelling import Spelling
from distill.text import Texts


def check_phases(
    phases: Sequence[Phase], models: Models, teacher: PreTrainedModel | None, student: PreTrainedModel
) -> int:
    """`ModelError` when a phase names a part, layer or number of heads that the models do not have.

    Returns the first position of packed texts, 0 when none are packed.
    """
    for phase in phases:
        freeze_all_but(student, phase.unfreeze)
        wanted_of(phase.objectives, models)
        _check_reach(phase)
        for objective in phase.objectives:
            if isinstance(objective, Relations | Attention) and teacher is not None:
                heads = objective.relation_heads if isinstance(objective, Relations) else None
                theirs, ours = ((m.config.hidden_size, m.config.num_attention_heads) for m in (teacher, student))
                common_heads(theirs, ours, heads)
    if not any(phase.packing for phase in phases):
        return 0
    return first_position_of(*(model for model in (teacher, student) if model is not None))


def _check_reach(phase: Phase) -> None:
    read = {"head": reads_head(phase.objectives), "pooler": learns_classes(phase.objectives)}
    if not any(read.get(part, True) for part in phase.unfreeze):
        raise ModelError(
            f"phase {phase.name!r} unfreezes {', '.join(phase.unfreeze)}, but its objectives do not read the logits",
            "unfreeze layers or embeddings, or add the objective logits or labels",
        )


def check_words(phases: Sequence[Phase], spelling: Spelling | None, corpora: Mapping[str, CorpusConfig]) -> bool:
    """Whether a phase learns masked words; `ModelError` when it reads other pieces than the model has, or pairs."""
    masked = [phase for phase in phases if any(isinstance(o, MaskedLanguage) for o in phase.objectives)]
    if masked and spelling is not None:
        raise ModelError(
            f"phase {masked[0].name!r} masks the pieces of a vocabulary of which the model has only some",
            "leave `vocabulary` and `teacher` out, and let a model that starts from this one have them",
        )
    for phase in masked:
        if phase.corpus is not None and corpora[phase.corpus].source.pair_field is not None:
            raise ModelError(f"phase {phase.name!r} masks words, but {phase.corpus} has pairs", "remove its pair_field")
    return bool(masked)


def check_pairs(phases: Sequence[Phase], corpora: Mapping[str, CorpusConfig], *, apart: bool) -> None:
    """`ModelError` when a phase matches texts with their answers and reads none; `apart`: the data set has some."""
    for phase in phases:
        corpus = corpora[phase.corpus] if phase.corpus is not None else None
        has_pairs = apart if corpus is None else corpus.source.pair_field is not None
        if not has_pairs and any(isinstance(objective, Ranking | Contrastive) for objective in phase.objectives):
            raise ModelError(
                f"phase {phase.name!r} matches texts with their answers, and what it reads has none",
                "name a corpus with a pair_field, or set head: none on data of the task response-selection",
            )


def check_candidates(phases: Sequence[Phase], splits: Mapping[str, Texts], *, asked: bool) -> None:
    """An error when a phase learns among candidates and there are none: the wrong task (`asked`), or the wrong rows."""
    for phase in phases:
        if not phase.among_candidates:
            continue
        if not asked:
            raise ModelError(
                f"phase {phase.name!r} learns among candidates, which only a cross-encoder reads",
                "leave among_candidates out, or train a model with a head on data of the task response-selection",
            )
        for name, texts in splits.items():
            if not texts.queries:
                raise DataError(
                    f"phase {phase.name!r} learns among candidates, and no row of the {name} split has one that is "
                    "right and one that is not"
                )


def check_spelling(phases: Sequence[Phase], spelling: Spelling | None) -> None:
    """`ModelError` when a phase teaches to spell a student that lacks no piece."""
    for phase in phases:
        if phase.noise is not None and phase.noise.spells and not (spelling and spelling.spelt):
            raise ModelError(
                f"phase {phase.name!r} teaches to spell pieces that the student lacks, and it lacks none",
                "give the student a smaller `vocabulary`, or leave noise.spell_share and respell_share out",
            )


def check_batches(phases: Sequence[Phase], max_tokens: int, processes: int) -> None:
    """`ConfigError` when a phase's batch is smaller than it can be made, with the numbers."""
    for phase in phases:
        if phase.corpus is not None and phase.batch_tokens is None and phase.batch_size < processes:
            raise ConfigError(
                f"phase {phase.name!r}: batch_size is {phase.batch_size}, fewer than {processes} processes"
            )
        budget = (phase.batch_tokens or 0) // (processes if phase.corpus is not None else 1)
        if phase.packing and budget < max_tokens:
            raise ConfigError(
                f"phase {phase.name!r}: packing needs batch_tokens for at least one row of max_tokens, {max_tokens}, "
                f"found {budget}",
                "a corpus has its batch_tokens divided between the processes",
            )


def check_inputs(
    teacher: PreTrainedModel | None, student: PreTrainedModel, max_tokens: int, read: int, own: int
) -> None:
    """`ModelError` when a model has not as many embeddings or positions as asked.

    `read` pieces are the tokenizer's and the teacher's, `own` the student's.
    """
    for name, model, vocabulary in (("teacher", teacher, read), ("student", student, own)):
        if model is None:
            continue
        rows, positions = model.config.vocab_size, _positions(model)
        if vocabulary > rows:
            raise ModelError(
                f"the {name} has embeddings for {rows} pieces, the tokenizer has {vocabulary}",
                "teacher and student must share a vocabulary: start the student from its teacher",
            )
        if positions is not None and max_tokens > positions:
            raise ModelError(f"max_tokens is {max_tokens}, the {name} has positions for {positions}")


def _positions(model: PreTrainedModel) -> int | None:
    """Longest text that `model` can place; none where positions are relative."""
    if model.config.model_type in ("deberta-v2", "modernbert"):
        return None
    first = architecture_of(model).first_position
    return int(model.config.max_position_embeddings) - (first(model.config) if first is not None else 0)
