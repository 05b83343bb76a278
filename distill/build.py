"""Makes everything that a training run works with, and writes what comes out of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerFast as Tokenizer

from artifact.dataset import Example, read_info, read_split
from artifact.errors import TrainingError
from distill.architectures import architecture_of, depth_of, layers_of
from distill.cache_fill import open_cache
from distill.capture import Wanted
from distill.card import write_card
from distill.check import (
    check_batches,
    check_candidates,
    check_inputs,
    check_pairs,
    check_phases,
    check_spelling,
    check_words,
)
from distill.config import CorpusConfig, ModelConfig, Phase
from distill.config_starts import Checkpoint, Layers, Transplant
from distill.evaluation import word_floor
from distill.examples import NEGATIVES, Reads
from distill.heads import NO_HEAD, Head, load_model
from distill.held_out import held_out_texts
from distill.masking import Masker
from distill.objectives import make_projections, wanted_of
from distill.objectives.layers import Models
from distill.phases import written_out
from distill.reading import pruned, read_alike
from distill.state import Run
from distill.stream import Stream
from distill.student import build_start, count_parameters, load_tokenizer, save_model
from distill.text import Texts
from distill.transplant import transplant
from distill.word_head import add_word_head, as_masked_model, drop_word_head


@dataclass(frozen=True)
class Built:
    """A run, the student's own tokenizer, and what is known before training."""

    run: Run
    tokenizer: Tokenizer
    facts: dict[str, Any]


def build_run(
    config: ModelConfig,
    *,
    data: Path,
    start: Path,
    teacher: Path | None,
    corpora: Mapping[str, CorpusConfig],
    out: Path,
    body: Path | None = None,
) -> Built:
    """Load or make both models, read the texts, and check all that can be checked before the first step."""
    accelerator = _accelerator(config)
    set_seed(config.seed)
    info = read_info(data)
    head = Head.of(info.task, info.labels) if config.has_head else NO_HEAD
    trust = isinstance(config.start, Checkpoint) and config.start.trust_remote_code
    reading = read_alike(
        load_tokenizer(start, trust_remote_code=trust), load_tokenizer(teacher) if teacher is not None else None
    )
    student = build_start(config, body or start, head)
    facts: dict[str, Any] = {}
    if isinstance(config.start, Transplant) and body is not None:
        facts["transplant"] = transplant(
            student, old=load_tokenizer(body), new=reading.own, config=config.start, corpora=corpora
        )
    taught_by = load_model(teacher, head) if teacher is not None else None
    tokenizer = reading.tokenizer
    check_inputs(taught_by, student, config.max_tokens, len(tokenizer), len(reading.own))
    if config.vocabulary is not None:
        train, test = ([t for row in read_split(data, split) for t in row.texts] for split in ("train", "test"))
        reading = pruned(reading, student, config.vocabulary, train=train, corpora=corpora, held_out=test)
    phases = written_out(config.phases, student)
    facts["parameters"] = count_parameters(student)
    hides = check_words(phases, reading.spelling, corpora)
    if hides:
        keeps = start if isinstance(config.start, Checkpoint | Layers) else None
        facts["word_head"] = add_word_head(student, keeps, trust_remote_code=trust)
    if config.predicts_words:
        facts["parameters"] = count_parameters(as_masked_model(student))
    student.to(accelerator.device)
    if taught_by is not None:
        taught_by.to(accelerator.device).eval()
    models = _models(taught_by or student, student)
    check_spelling(phases, reading.spelling)
    reads = Reads(
        task=info.task, labels=info.labels, apart=not config.has_head, negatives=config.negatives or NEGATIVES,
        seed=config.seed,
    )  # fmt: skip
    if info.task == "response-selection":  # of a long conversation, its last turns count; said to who serves it, too
        tokenizer.truncation_side = reading.own.truncation_side = "left"
    check_pairs(phases, corpora, apart=reads.pairs_apart)
    first_position = check_phases(phases, models, taught_by, student)
    check_batches(phases, config.max_tokens, accelerator.num_processes)
    objectives = [objective for phase in phases for objective in phase.objectives]
    if config.compile:
        _compile(student)
    texts, validation = (
        Texts(tokenizer, read_split(data, split), config.max_tokens, split, reads) for split in ("train", "validation")
    )
    asked = info.task == "response-selection" and config.has_head
    check_candidates(phases, {"training": texts, "validation": validation}, asked=asked)
    held_out = _held_out(phases, corpora, tokenizer, config.max_tokens) if hides else {}
    run = Run(
        config=config, phases=phases, student=student, teacher=taught_by, models=models,
        projections=make_projections(objectives, models).to(accelerator.device),
        spelling=reading.spelling and reading.spelling.to(accelerator.device),
        texts=texts,
        corpora={
            name: Stream(tokenizer, corpus, config.max_tokens, holds_out=name in held_out)
            for name, corpus in corpora.items()
        },
        validation=validation,
        first_position=first_position, directory=out, accelerator=accelerator,
        masker=Masker.of(tokenizer) if hides else None, held_out=held_out, head=head,
    )  # fmt: skip
    facts |= {"vocabulary": reading.facts, "word_floors": _word_floors(run)}
    return Built(_with_cache(run), reading.own, {k: v for k, v in facts.items() if v})


def save_result(built: Built, facts: Mapping[str, Any], name: str) -> None:
    """Write the model, its tokenizer and its card into the run's directory."""
    run, masked = built.run, built.run.config.predicts_words
    model = as_masked_model(run.student) if masked else run.student
    if not masked and run.masker is not None:
        drop_word_head(run.student)
    if run.head == NO_HEAD and not masked:
        model = cast("PreTrainedModel", run.student.base_model)
    task = "masked language" if masked else "embedding" if run.head == NO_HEAD else run.head.task
    save_model(model, built.tokenizer, run.directory, name=name, max_tokens=run.config.max_tokens, task=task)
    write_card(run.directory, name, run.config, facts, run.head)


def _held_out(
    phases: Sequence[Phase], corpora: Mapping[str, CorpusConfig], tokenizer: Tokenizer, max_tokens: int
) -> dict[str, Texts]:
    """Of the corpora that phases of masked words read, as far as they hold any out."""
    names = {phase.corpus for phase in phases if phase.corpus and phase.objectives[0].kind == "mlm"}
    found = {name: [Example(text=text, label=-1) for text in held_out_texts(corpora[name])] for name in sorted(names)}
    return {name: Texts(tokenizer, rows, max_tokens, name) for name, rows in found.items() if rows}


def _word_floors(run: Run) -> dict[str, dict[str, float]]:
    """What each phase of masked words has to beat."""
    return {phase.name: word_floor(run, phase) for phase in run.phases if phase.objectives[0].kind == "mlm"}


def _with_cache(run: Run) -> Run:
    """`run` with what its cached phases want of the teacher, on disk."""
    cached = [objective for phase in run.phases if phase.cache_teacher for objective in phase.objectives]
    wanted, _ = wanted_of(cached, run.models)
    if run.teacher is None or wanted == Wanted():
        return run
    directory = run.checkpoint.parent / "teacher-cache"
    return replace(run, cache=open_cache(run.teacher, run.texts, wanted, directory, run.accelerator))


def _models(teacher: PreTrainedModel, student: PreTrainedModel) -> Models:
    return Models(
        teacher_depth=depth_of(teacher), student_depth=depth_of(student), teacher_width=teacher.config.hidden_size,
        student_width=student.config.hidden_size, teacher_kind=teacher.config.model_type,
    )  # fmt: skip


def _accelerator(config: ModelConfig) -> Accelerator:
    """`TrainingError` where the device cannot compute in the asked precision."""
    precision = {"float32": "no", None: "no"}.get(config.precision, config.precision)
    AcceleratorState._reset_state()  # noqa: SLF001 - it keeps the precision of the first model that a process trains
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
    row = architecture_of(student)
    hooked = {path.split(".")[0] for path in (row.query, row.key, row.value, row.fused) if path}
    for layer in layers_of(student):
        for name, child in layer.named_children():
            if name not in hooked:
                child.compile(dynamic=True)
