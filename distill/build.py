"""Makes everything that a training run works with, and writes what comes out of it."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer

from artifact.dataset import read_info, read_split
from distill.architectures import depth_of
from distill.card import write_card
from distill.check import check_inputs, check_phases, same_tokens
from distill.config import CorpusConfig, ModelConfig
from distill.config_starts import Checkpoint
from distill.corpus import cut, read_records
from distill.objectives import make_projections
from distill.objectives.layers import Models
from distill.phases import written_out
from distill.state import Run
from distill.stream import Stream
from distill.student import build_start, count_parameters, load_classifier, load_tokenizer, save_model
from distill.text import Texts
from distill.vocabulary import count_pieces, coverage, new_id_of, prune_embeddings, prune_vocabulary

VOCABULARY_TEXTS = 200_000
"""Texts of each corpus that are counted before a vocabulary is pruned."""


@dataclass(frozen=True)
class Built:
    """A run, the student's own tokenizer, and what is known before training."""

    run: Run
    tokenizer: Tokenizer
    labels: tuple[str, ...]
    facts: dict[str, Any]


def build_run(
    config: ModelConfig,
    *,
    data: Path,
    start: Path,
    teacher: Path | None,
    corpora: Mapping[str, CorpusConfig],
    out: Path,
) -> Built:
    """Load or make both models, read the texts, and check all that can be checked before the first step."""
    accelerator = _accelerator(config)
    set_seed(config.seed)
    labels = read_info(data).labels
    trust = isinstance(config.start, Checkpoint) and config.start.trust_remote_code
    tokenizer = load_tokenizer(start, trust_remote_code=trust)
    student = build_start(config, start, labels)
    taught_by = load_classifier(teacher, labels) if teacher is not None else None
    if teacher is not None and teacher != start:
        same_tokens(_pieces(load_tokenizer(teacher)), _pieces(tokenizer))
    check_inputs(taught_by, student, config.max_tokens, len(tokenizer))
    texts = {split: [e.text for e in read_split(data, split)] for split in ("train", "test")}
    pruned = _prune(config, student, tokenizer, train=texts["train"], corpora=corpora, held_out=texts["test"])
    student.to(accelerator.device)
    if taught_by is not None:
        taught_by.to(accelerator.device).eval()
    phases = written_out(config.phases, student)
    models = _models(taught_by or student, student)
    first_position = check_phases(phases, models, taught_by, student)
    objectives = [objective for phase in phases for objective in phase.objectives]
    if config.compile:
        _compile(student)
    run = Run(
        config=config, phases=phases, student=student, teacher=taught_by, models=models,
        projections=make_projections(objectives, models).to(accelerator.device),
        lookup=None if pruned.lookup is None else pruned.lookup.to(accelerator.device),
        texts=Texts(tokenizer, read_split(data, "train"), config.max_tokens, "train"),
        corpora={name: Stream(tokenizer, corpus, config.max_tokens) for name, corpus in corpora.items()},
        validation=Texts(tokenizer, read_split(data, "validation"), config.max_tokens, "validation"),
        first_position=first_position, directory=out, accelerator=accelerator,
    )  # fmt: skip
    facts = {"parameters": count_parameters(student), "vocabulary": pruned.facts}
    return Built(run, pruned.tokenizer, labels, {k: v for k, v in facts.items() if v})


def save_result(built: Built, facts: Mapping[str, Any], name: str) -> None:
    """Write the model, its tokenizer and its card into the run's directory."""
    run = built.run
    save_model(run.student, built.tokenizer, run.directory, name=name, max_tokens=run.config.max_tokens)
    write_card(run.directory, name, run.config, facts, built.labels)


@dataclass(frozen=True)
class _Pruned:
    tokenizer: Tokenizer
    lookup: Tensor | None
    facts: dict[str, Any]


def _prune(
    config: ModelConfig, student: PreTrainedModel, tokenizer: Tokenizer, *, train: Sequence[str],
    corpora: Mapping[str, CorpusConfig], held_out: Sequence[str],
) -> _Pruned:  # fmt: skip
    """The student's own vocabulary, and its id for each of the teacher's."""
    if config.vocabulary is None:
        return _Pruned(tokenizer, None, {})
    counts: Counter[int] = count_pieces(tokenizer, train)
    for corpus in corpora.values():
        counts.update(count_pieces(tokenizer, _texts_of(corpus)))
    pruned = prune_vocabulary(tokenizer, counts, config.vocabulary)
    rows = student.config.vocab_size
    prune_embeddings(student, pruned.kept)
    covered = coverage(tokenizer, pruned.kept, held_out)
    facts = {
        "pieces": len(pruned.kept), "pieces_before": rows,
        "held_out_tokens_covered": round(covered.tokens, 5), "held_out_texts_covered": round(covered.texts, 5),
    }  # fmt: skip
    # A byte-level tokenizer has no unknown piece: what it lost reads as padding would, which is kept.
    unknown = tokenizer.unk_token_id if tokenizer.unk_token_id is not None else tokenizer.pad_token_id
    return _Pruned(pruned.tokenizer, new_id_of(pruned.kept, rows, unknown), facts)


def _texts_of(corpus: CorpusConfig) -> Iterator[str]:
    units = (text for record in read_records(corpus) for text in cut(record.text, corpus.unit))
    return itertools.islice(units, VOCABULARY_TEXTS)


def _pieces(tokenizer: Tokenizer) -> list[str]:
    ids: Iterable[tuple[str, int]] = tokenizer.get_vocab().items()
    return [piece for piece, _ in sorted(ids, key=lambda item: item[1])]


def _models(teacher: PreTrainedModel, student: PreTrainedModel) -> Models:
    return Models(
        teacher_depth=depth_of(teacher), student_depth=depth_of(student), teacher_width=teacher.config.hidden_size,
        student_width=student.config.hidden_size, teacher_kind=teacher.config.model_type,
    )  # fmt: skip


def _accelerator(config: ModelConfig) -> Accelerator:
    """`TrainingError` where the device cannot compute in the asked precision."""
    from artifact.errors import TrainingError

    precision = {"float32": "no", None: "no"}.get(config.precision, config.precision)
    try:
        accelerator = Accelerator(mixed_precision=precision)
    except ValueError as error:
        raise TrainingError(f"precision {config.precision}: {error}", "use bf16 or float32") from None
    if config.precision == "fp16" and accelerator.device.type == "cpu":
        raise TrainingError("precision fp16 needs a GPU", "use bf16 or float32")
    torch.set_float32_matmul_precision("highest")
    return accelerator


def _compile(student: PreTrainedModel) -> None:
    """Compile what no hook looks into: the parts of each layer beside the attention's projections."""
    from distill.architectures import architecture_of, layers_of

    row = architecture_of(student)
    hooked = {path.split(".")[0] for path in (row.query, row.key, row.value, row.fused) if path}
    for layer in layers_of(student):
        for name, child in layer.named_children():
            if name not in hooked:
                child.compile(dynamic=True)
