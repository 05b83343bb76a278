"""The head of a masked language model, on a student that is built as a classifier.

transformers has a class for each task, all around one encoder. Here the modules that `AutoModelForMaskedLM` adds to
the encoder become modules of the classifier, under the names that class gives them: they learn, are checkpointed and
averaged with everything else, and whoever asks the model for classes never runs them.
"""

from pathlib import Path
from typing import Literal

from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForMaskedLM, PreTrainedModel

from artifact.errors import ModelError

HEADS: dict[str, tuple[str, ...]] = {
    "bert": ("cls",),
    "roberta": ("lm_head",),
    "xlm-roberta": ("lm_head",),
    "camembert": ("lm_head",),
    "mpnet": ("lm_head",),
    "distilbert": ("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),
    "electra": ("generator_predictions", "generator_lm_head"),
    "albert": ("predictions",),
    "deberta-v2": ("cls",),
    "modernbert": ("head", "decoder"),
}
"""By `model_type`: the modules that hidden states go through, one after the other, to become scores of pieces."""

_SHARED = frozenset({("modernbert", "head")})
"""A module that the classifier has too."""


def add_word_head(
    student: PreTrainedModel, checkpoint: Path | None, *, trust_remote_code: bool = False
) -> Literal["checkpoint", "new"]:
    """Give `student` the head in `checkpoint`, or a new one where there is none; says which.

    Scores are products with the token embeddings, where the model's config ties them. Raises `ModelError` for an
    architecture without such a head, and for a checkpoint that cannot be read.
    """
    names = _names_of(student)
    found = False
    if checkpoint is None:
        full = AutoModelForMaskedLM.from_config(  # type: ignore[no-untyped-call]  # untyped upstream
            student.config, trust_remote_code=trust_remote_code
        )
    else:
        try:
            full, notes = AutoModelForMaskedLM.from_pretrained(
                checkpoint, use_safetensors=True, trust_remote_code=trust_remote_code, output_loading_info=True,
                dtype=student.dtype,
            )  # fmt: skip
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ModelError(f"cannot load {checkpoint} as a masked language model: {reason}") from None
        found = not any(key.split(".")[0] in names for key in notes["missing_keys"])
    for name in names:
        if (student.config.model_type, name) not in _SHARED:
            student.add_module(name, full.get_submodule(name))
    decoder = full.get_output_embeddings()
    if student.config.tie_word_embeddings:
        decoder.weight = student.get_input_embeddings().weight
    return "checkpoint" if found else "new"


def score_pieces(student: PreTrainedModel, states: Float[Tensor, "places hidden"]) -> Float[Tensor, "places vocab"]:
    """What `student` thinks stands in some places, from their last hidden states."""
    for name in _names_of(student):
        states = student.get_submodule(name)(states)
    return states


def as_masked_model(student: PreTrainedModel) -> PreTrainedModel:
    """The encoder and the word head of `student` as transformers' own class, weights shared; without its classifier."""
    full: PreTrainedModel = AutoModelForMaskedLM.from_config(  # type: ignore[no-untyped-call]  # untyped upstream
        student.config
    )
    setattr(full, full.base_model_prefix, student.base_model)
    for name in _names_of(student):
        setattr(full, name, student.get_submodule(name))
    full.config = student.config
    return full


def drop_word_head(student: PreTrainedModel) -> None:
    """Take off what `add_word_head` gave."""
    for name in _names_of(student):
        if (student.config.model_type, name) not in _SHARED and hasattr(student, name):
            delattr(student, name)


def _names_of(student: PreTrainedModel) -> tuple[str, ...]:
    kind = student.config.model_type
    if kind not in HEADS or not getattr(student.config, "legacy", True):
        raise ModelError(
            f"no masked language model is known for {kind!r}, expected one of {', '.join(sorted(HEADS))}"
            f"{' (with `legacy: true`)' if kind in HEADS else ''}",
            "add its modules to distill/word_head.py",
        )
    return HEADS[kind]
