"""What can be known to fail before the first step, said before the first step."""

from transformers import PreTrainedModel

from artifact.errors import ModelError
from distill.architectures import layers_of
from distill.config import ModelConfig
from distill.config_objectives import Relations
from distill.objectives.relations import common_heads
from distill.schedule import freeze_all_but


def check_phases(config: ModelConfig, teacher: PreTrainedModel | None, student: PreTrainedModel) -> None:
    """`ModelError` when a phase names a part, layer or number of heads that the models do not have."""
    for phase in config.phases:
        freeze_all_but(student, phase.unfreeze)
        for objective in phase.objectives:
            if isinstance(objective, Relations) and teacher is not None:
                _check_relations(objective, teacher, student)


def _check_relations(objective: Relations, teacher: PreTrainedModel, student: PreTrainedModel) -> None:
    layers = len(layers_of(teacher))
    if objective.teacher_layer is not None and objective.teacher_layer > layers:
        raise ModelError(f"relations.teacher_layer is {objective.teacher_layer}, the teacher has layers 1 to {layers}")
    theirs, ours = ((m.config.hidden_size, m.config.num_attention_heads) for m in (teacher, student))
    common_heads(theirs, ours, objective.relation_heads)
