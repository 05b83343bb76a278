"""A teacher assistant: as deep as the teacher and as wide as the student, so that neither step is too large.

MiniLM's rule (arXiv 2002.10957, section 3.3): a student of at most half the teacher's layers and at most half its width
learns from an assistant, which has learnt from the teacher with the same objectives.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from artifact.errors import ModelError
from distill.config import ModelConfig
from distill.config_starts import Checkpoint, Layers, Random, Scratch, Slice, Transplant
from distill.sources import locate


@dataclass(frozen=True)
class Shape:
    """Layers and width of a model."""

    layers: int
    hidden_size: int


def with_assistants(models: Mapping[str, ModelConfig]) -> dict[str, ModelConfig]:
    """`models` with an assistant before each student that asks for one and needs one by the rule.

    The assistant of `student` is `student-assistant`, and takes the teacher's place. Raises `ModelError` where the
    name is taken.
    """
    shapes: dict[str, Shape] = {}
    result: dict[str, ModelConfig] = {}
    for name, config in models.items():
        asks = config.assistant == "auto"
        made = _assistant_of(config, shapes[config.teacher or ""]) if asks else None
        if made is not None:
            assistant = f"{name}-assistant"
            if assistant in models:
                raise ModelError(f"the assistant of {name!r} would be {assistant!r}, a model of the recipe")
            result[assistant] = made
            config = config.model_copy(update={"teacher": assistant})  # noqa: PLW2901 - the same model, taught by another
        if asks or any(other.assistant for other in models.values()):
            shapes[name] = _shape_of(config, shapes)
        result[name] = config.model_copy(update={"assistant": None})
    return result


def _assistant_of(config: ModelConfig, teacher: Shape) -> ModelConfig | None:
    start = config.start
    if not isinstance(start, Random | Slice):
        return None
    layers = start.layers if isinstance(start, Random) else len(start.layers)
    if 2 * layers > teacher.layers or 2 * start.hidden_size > teacher.hidden_size:
        return None
    depth = teacher.layers if isinstance(start, Random) else tuple(range(teacher.layers))
    return config.model_copy(update={"start": start.model_copy(update={"layers": depth}), "assistant": None})


def _shape_of(config: ModelConfig, shapes: Mapping[str, Shape]) -> Shape:
    match config.start:
        case Checkpoint(source=source) | Transplant(source=source) if source.startswith("model:"):
            return shapes[source.removeprefix("model:")]
        case Checkpoint(source=source) | Transplant(source=source):
            return _read_shape(locate(source))
        case Layers(layers=layers):
            return Shape(len(layers), shapes[config.teacher or ""].hidden_size)
        case Slice(layers=layers, hidden_size=width):
            return Shape(len(layers), width)
        case Random(layers=depth, hidden_size=width) | Scratch(layers=depth, hidden_size=width):
            return Shape(depth, width)


def _read_shape(directory: Path) -> Shape:
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    layers, width = (next((config[k] for k in names if k in config), None) for names in _NAMES)
    if layers is None or width is None:
        raise ModelError(f"{directory} does not say how many layers it has and how wide they are")
    return Shape(layers, width)


_NAMES = (("num_hidden_layers", "n_layers"), ("hidden_size", "dim"))
