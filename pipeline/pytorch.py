"""The first model as people run it today, with `transformers` on PyTorch.

    PyTorchEngine.open(Path("out/demo/models/teacher"), threads=2, form="compiled")

It is a row of the report like any other, so it answers what the bundles answer: logits, of texts or of tokens, where an
answer starts and ends, and a sentence embedding (`pipeline.pytorch_model`). It gets what a careful user gives it:
inference mode, the same threads, a fast tokenizer, padding to the longest text, and scaled-dot-product attention, which
`transformers` picks itself where the family has it. Two more forms show what that is worth: attention longhand, and the
whole model through `torch.compile`.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from artifact.errors import BenchError, ModelError
from export.tasks import TaskName
from pipeline.pytorch_model import forward, open_model
from pipeline.rows_config import PyTorchForm, pytorch_row
from serve.engine import Computed, Floats, Outputs, Piece, Problem, Side, Text, Token, Tokens, outputs_of
from serve.passages.passage import Passage
from serve.threads import plan_threads
from serve.tokens import copy_untruncated, read_passages, show_tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer  # type: ignore[import-untyped]  # ships no types
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from export.pooling import Pooling

BATCH_TOKENS = 16_384
"""Padded tokens computed at once, as in `serve.runtime`: equal rights."""

WARM_UP = (["warm"], ["warm", "warm up " * 8], ["warm up " * 32] * 3)
"""Texts that a compiled model is run on when it is opened.

PyTorch compiles one graph for a lone text and one for several; both take any length from then on.
"""

MODEL = "UNDERSTUDY_MODEL"
"""Environment variable from which `pipeline.pytorch_service` reads the path of a model directory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PyTorchEngine:
    """A model directory, ready to answer; satisfies `serve.engine.Servable`."""

    name: str
    """`model/pytorch`, or one of its other forms."""
    labels: tuple[str, ...]
    embedding_size: int
    problem: Problem | None = "single-label"
    task: TaskName = "classification"
    vectors: "Pooling"
    """How one vector is made of a text, as the bundle does it."""
    max_tokens: int
    """Longest input in tokens, special ones included."""
    size_bytes: int
    """Weights as stored."""
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerFast"

    @classmethod
    def open(cls, directory: Path, *, threads: int | None = None, form: PyTorchForm = "sdpa") -> "PyTorchEngine":
        """The model at that path. Sets PyTorch's threads, and `TOKENIZERS_PARALLELISM`, for the whole process.

        Left out, `threads` is every core this process may use. A compiled model has answered before it is returned.
        Raises `ModelError` when the model does not load, `ServeError` when there are more threads than cores,
        `BenchError` when it does not compile here.
        """
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        with _loading(directory):
            about = json.loads((directory / "understudy.json").read_text(encoding="utf-8"))
            max_tokens = int(about["max_tokens"])
            weights = (directory / "model.safetensors").stat().st_size
        import torch  # takes seconds, which a missing model should not
        from transformers import AutoTokenizer

        torch.set_num_threads(plan_threads(threads=threads).intra_op_threads)
        attention = {"attn_implementation": "eager"} if form == "eager" else {}
        with _loading(directory):
            opened = open_model(directory, **attention)
            tokenizer = AutoTokenizer.from_pretrained(directory, use_fast=True)  # type: ignore[no-untyped-call]  # theirs
        engine = cls(
            name=pytorch_row(about.get("name", directory.name), form),
            labels=opened.labels,
            problem=opened.problem,
            task=opened.task,
            vectors=opened.pooling,
            embedding_size=opened.model.config.hidden_size,
            max_tokens=max_tokens,
            size_bytes=weights,
            model=compile_model(opened.model) if form == "compiled" else opened.model,
            tokenizer=tokenizer,
        )
        if form == "compiled":
            _run_once(engine)
        return engine

    @property
    def threads(self) -> int:
        """Intra-op threads, read back from PyTorch."""
        import torch

        return torch.get_num_threads()

    @property
    def pooling(self) -> str:
        """How one vector is made of a text."""
        return self.vectors.mode

    @property
    def batch_tokens(self) -> int:
        """Padded tokens computed at once."""
        return BATCH_TOKENS

    def show_tokens(self, texts: Sequence[str], *, special: bool) -> list[list[Token]]:
        """The tokens of each text, none cut off; with those the model adds of its own when `special`."""
        return show_tokens(self.whole, texts, special=special)

    def read(self, texts: Sequence[Text]) -> tuple[list[Passage], float]:
        """`texts` as tokens, none cut off, and the seconds it took."""
        return read_passages(self.whole, texts)

    @cached_property
    def whole(self) -> "Tokenizer":
        """The tokenizer without truncation and padding, which every call of the other sets anew."""
        return copy_untruncated(self.tokenizer.backend_tokenizer)

    def tokenize(self, texts: Sequence[Text], *, cut: Side | None = None) -> Tokens:  # noqa: ARG002 - one way only
        """`texts` as tokens, cut at `max_tokens` where the tokenizer itself cuts."""
        begun = time.perf_counter()
        encodings = self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens).encodings or []
        return Tokens(
            encodings=encodings,
            lengths=np.array([len(encoding) for encoding in encodings], dtype=np.int64),
            truncated=np.array([bool(encoding.overflowing) for encoding in encodings], dtype=np.bool_),
            seconds=time.perf_counter() - begun,
        )

    def compute(self, encodings: Sequence[Piece], *, wide: bool) -> Computed:  # noqa: ARG002 - it knows one way only
        """One forward pass, padded to the longest."""
        import torch

        rows = {
            "input_ids": [[*each.ids] for each in encodings],
            "token_type_ids": [[*each.type_ids] for each in encodings],
        }
        padded = self.tokenizer.pad(rows, padding=True)
        names = [*self.tokenizer.model_input_names]
        return forward(self.model, self.task, self.vectors, {name: torch.tensor(padded[name]) for name in names})

    def run(self, texts: Sequence[Text]) -> Outputs:
        """Answers to `texts`, or to pairs, in their order."""
        return self.infer(self.tokenize(texts))

    def infer(self, tokens: Tokens) -> Outputs:
        """The model's answers to `tokens`, in their order, padded to the longest of them all."""
        width = int(tokens.lengths.max(initial=1))
        rows = max(1, BATCH_TOKENS // width)
        computed: dict[str, list[Floats]] = {}
        for start in range(0, len(tokens.encodings), rows):
            for name, arrays in self.compute(tokens.encodings[start : start + rows], wide=True).items():
                computed.setdefault(name, []).extend(arrays)
        return outputs_of(self, tokens, computed, width * len(tokens.encodings))


@contextlib.contextmanager
def _loading(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(f"{directory} does not load in PyTorch: {str(error).splitlines()[0]}") from None


def compile_model(model: "PreTrainedModel") -> "PreTrainedModel":
    """`model`, to be compiled when it first runs, for texts of any number and length.

    Raises `BenchError` where there is no C++ compiler, without which PyTorch has nothing to compile for a CPU with.
    """
    import torch
    from torch._inductor import config as inductor

    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        hint = "install one or name it in CXX, or leave compiled out of rows.pytorch"
        raise BenchError(f"torch.compile needs a C++ compiler, and there is no {compiler} here", hint)
    inductor.compile_threads = 1  # no pool of compilers beside what is measured
    compiled: PreTrainedModel = torch.compile(model, dynamic=True)  # type: ignore[assignment]  # it answers as the model
    return compiled


def _run_once(engine: PyTorchEngine) -> None:
    """Compile now rather than while others are measured."""
    try:
        for texts in WARM_UP:
            engine.run(texts)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise BenchError(f"{engine.name} does not compile: {reason}", "leave compiled out of rows.pytorch") from error
