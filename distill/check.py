"""What can be known to fail before the first step, said before the first step."""

from transformers import PreTrainedModel

from artifact.errors import ModelError
from distill.architectures import layers_of
from distill.config import ModelConfig, Relations
from distill.schedule import parts_of


def check_phases(config: ModelConfig, teacher: PreTrainedModel | None, student: PreTrainedModel) -> None:
    """`ModelError` when a phase names a part, layer or number of heads that the models do not have."""
    parts = parts_of(student)
    for phase in config.phases:
        for part in phase.unfreeze:
            if part != "all" and part not in parts:
                raise ModelError(f"phase {phase.name!r} unfreezes {part!r}, expected all, {', '.join(parts)}")
        for objective in phase.objectives:
            if isinstance(objective, Relations) and teacher is not None:
                _check_relations(objective, teacher, student)


def _check_relations(objective: Relations, teacher: PreTrainedModel, student: PreTrainedModel) -> None:
    layers = len(layers_of(teacher))
    if objective.teacher_layer is not None and objective.teacher_layer > layers:
        raise ModelError(f"relations.teacher_layer is {objective.teacher_layer}, the teacher has layers 1 to {layers}")
    heads = objective.relation_heads
    if heads is None:
        theirs, ours = teacher.config.num_attention_heads, student.config.num_attention_heads
        if theirs != ours:
            raise ModelError(
                f"the teacher has {theirs} heads and the student {ours}; MiniLM needs the same number",
                "set relation_heads, as MiniLMv2 does, or give the student the teacher's number of heads",
            )
        return
    for name, model in (("teacher", teacher), ("student", student)):
        if model.config.hidden_size % heads:
            raise ModelError(
                f"relation_heads {heads} does not divide the {name}'s hidden size {model.config.hidden_size}"
            )
