"""Builds the model that a run starts from, and counts parameters as the papers do."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer

from artifact.errors import ModelError
from distill.architectures import ARCHITECTURES, architecture_of, embeddings_of, layers_of
from distill.compress import compress_embeddings
from distill.config import ModelConfig
from distill.config_starts import Checkpoint, Layers, Random, Scratch, Slice, Transplant
from distill.heads import Head, load_model
from distill.shape import Shape, with_shape
from distill.slicing import narrow


def load_classifier(directory: Path, labels: Sequence[str], *, trust_remote_code: bool = False) -> PreTrainedModel:
    """The model in `directory` with a classification head for `labels`; `load_model` for that task."""
    return load_model(directory, Head(tuple(labels)), trust_remote_code=trust_remote_code)


def load_tokenizer(directory: Path, *, trust_remote_code: bool = False) -> Tokenizer:
    """The fast tokenizer in `directory`; `ModelError` when it has none, since spans and serving need one."""
    try:
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call]  # untyped upstream
            directory, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"cannot load the tokenizer in {directory}: {str(error).strip().splitlines()[0]}") from None
    if not tokenizer.is_fast:
        raise ModelError(f"{directory} has no fast tokenizer", "add a tokenizer.json to it")
    return tokenizer


def build_start(config: ModelConfig, source: Path, head: Head) -> PreTrainedModel:
    """The untrained model: `source` itself, some of its layers, a narrower cut of them, or random weights of a shape.

    `source` is the checkpoint's directory, the teacher's where the start is made from the teacher, or a vocabulary's.
    Raises `ModelError` when the teacher has not what the start asks for, with the numbers.
    """
    match config.start:
        case Checkpoint(trust_remote_code=trust):
            return load_model(source, head, trust_remote_code=trust)
        case Transplant():
            return load_model(source, head)
        case Layers(layers=layers):
            return keep_layers(load_model(source, head), layers)
        case Slice(layers=layers) as start:
            teacher = keep_layers(load_model(source, head), layers)
            return narrow(teacher, with_shape(teacher.config, _shape_of(start, len(layers))))
        case Random(layers=layers, embeddings=embeddings) as start:
            teacher = load_model(source, head)
            student: PreTrainedModel = type(teacher)(with_shape(teacher.config, _shape_of(start, layers)))
            if embeddings is not None:
                compress_embeddings(teacher, student, centred=embeddings == "pca")
            return student
        case Scratch() as start:
            return _from_scratch(start, load_tokenizer(source), head)


def keep_layers(teacher: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """A copy of `teacher` with only the layers at the 0-based indices `kept`, in that order.

    Raises `ModelError` for layers that do not exist, for ALBERT, whose layers share one set of weights, and for
    ModernBERT where global and local attention would change places.
    """
    row = architecture_of(teacher)
    if row.shared:
        raise ModelError(
            f"start.layers names {list(kept)}, but the layers of an {teacher.config.model_type} share their weights: "
            "there is none to pick",
            "start from `random`, with fewer layers",
        )
    count = len(layers_of(teacher))
    wrong = [index for index in kept if not 0 <= index < count]
    if wrong:
        raise ModelError(f"start.layers names {wrong}, expected indices of the teacher's layers, 0 to {count - 1}")
    config = copy.deepcopy(teacher.config)
    setattr(config, row.layer_count, len(kept))
    if hasattr(config, "global_attn_every_n_layers"):
        config.global_attn_every_n_layers = _global_attention_step(kept, config.global_attn_every_n_layers)
    student: PreTrainedModel = type(teacher)(config)
    prefix = f"{teacher.base_model_prefix}.{row.layers}."
    state = {k: v for k, v in teacher.state_dict().items() if not k.startswith(prefix)}
    for new, old in enumerate(kept):
        state |= {f"{prefix}{new}.{k}": v for k, v in layers_of(teacher)[old].state_dict().items()}
    student.load_state_dict(state)
    return student


def count_parameters(model: PreTrainedModel) -> dict[str, int]:
    """Parameters of the embeddings, of the Transformer layers, and of the rest (pooler and head), and in all.

    `embedding` holds positions, types and their normalisation too. MiniLM's Table 4 counts the token table alone, as
    its 23.4 M = 30,522 x 768 shows: that is `token_embedding`, a part of `embedding`. Its totals hold everything.
    """
    embedding = sum(p.numel() for p in embeddings_of(model).parameters())
    transformer = sum(p.numel() for p in layers_of(model).parameters())
    total = sum(p.numel() for p in model.parameters())
    return {
        "embedding": embedding,
        "token_embedding": model.get_input_embeddings().get_parameter("weight").numel(),
        "transformer": transformer,
        "head": total - embedding - transformer,
        "total": total,
    }


def save_model(
    model: PreTrainedModel, tokenizer: Tokenizer, directory: Path, *, name: str, max_tokens: int,
    task: str = "classification",
) -> None:  # fmt: skip
    """Write the Hugging Face layout: config, safetensors, tokenizer, and our `understudy.json`."""
    model.config._name_or_path = ""  # noqa: SLF001 - no path of this machine in an artefact
    model.save_pretrained(directory, safe_serialization=True)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.model_max_length = max_tokens
    tokenizer.init_kwargs.pop("name_or_path", None)
    if tokenizer.truncation_side == "left":
        tokenizer.init_kwargs["truncation_side"] = "left"
    tokenizer.save_pretrained(directory)
    about = {"schema_version": 1, "name": name, "task": task, "max_tokens": max_tokens}
    (directory / "understudy.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _from_scratch(start: Scratch, tokenizer: Tokenizer, head: Head) -> PreTrainedModel:
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    known = {name: index for name, index in ids.items() if index is not None}
    config = AutoConfig.for_model(start.architecture, vocab_size=len(tokenizer), **known)
    first = ARCHITECTURES[start.architecture].first_position
    config.max_position_embeddings = start.positions + (first(config) if first is not None else 0)
    head.write(config)
    return head.on(with_shape(config, _shape_of(start, start.layers)))


def _shape_of(start: Random | Slice | Scratch, layers: int) -> Shape:
    intermediate_size = start.intermediate_size or 4 * start.hidden_size  # of the student's width, not the teacher's
    return Shape(layers, start.hidden_size, start.heads, intermediate_size)


def _global_attention_step(kept: Sequence[int], step: int) -> int:
    """ModernBERT attends globally in every `step`-th layer, the first one included; the step that keeps it so."""
    wanted = [index % step == 0 for index in kept]
    steps: tuple[int, ...] = (step, *range(1, len(kept) + 1))
    for n in steps:
        # the first layer is also the only one without a normalisation before it
        if kept[0] == 0 and wanted == [index % n == 0 for index in range(len(kept))]:
            return n
    raise ModelError(
        f"start.layers names {list(kept)}, but a ModernBERT begins with layer 0 and attends globally in every n-th "
        f"layer: in this teacher in 0, {step}, {2 * step}, ...",
        f"for example {list(range(len(kept)))}, or {[step * index for index in range(len(kept))]}",
    )
