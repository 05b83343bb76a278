"""Texts to logits and embeddings with ONNX Runtime, `tokenizers` and numpy alone.

    runtime = Runtime.open(Path("out/demo/bundles/student"), "int8")
    runtime.run(["wake me at seven"]).logits

Texts are sorted by length and cut into batches of a bounded number of padded tokens, so that little time goes
to padding and memory does not follow the longest text of a large call.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer  # type: ignore[import-untyped]  # ships no types

from artifact.errors import ArtifactError
from serve.bundle import ANSWERED, TOKENIZER, Bundle, BundleInfo, open_bundle, size_of
from serve.engine import (
    DOMAIN,
    PER_TOKEN,
    Computed,
    Floats,
    Integers,
    Outputs,
    Piece,
    Problem,
    Text,
    Token,
    Tokens,
    outputs_of,
    scores_of,
)
from serve.session import open_session, open_tokenizer
from serve.threads import plan_threads
from serve.tokens import mend, show_tokens

BATCH_TOKENS = 512
"""Padded tokens computed at once by default.

Small on purpose: what a CPU gains from large batches it has gained by then, while padding grows with the batch.
A six-layer encoder of width 384 on two cores answered 128 texts of mixed lengths (median 20 tokens, longest 250)
5 to 8 times as fast with 512 as with the 16 384 that suit an accelerator; anything from 64 to 512 was alike.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Runtime:
    """One precision of one bundle, ready to answer; satisfies `serve.engine.Engine`."""

    name: str
    """`model/precision`, such as `student/int8`."""
    bundle: Bundle
    size_bytes: int
    """Weights and graph as stored."""
    batch_tokens: int
    session: onnxruntime.InferenceSession
    """Runs on all threads of the plan."""
    tokenizer: Tokenizer
    narrow: onnxruntime.InferenceSession | None = None
    """Runs on the thread that calls; None: `session` does."""
    domain_threshold: float | None = None
    """How far a text may be from those the model knows; None for a graph that does not say."""

    @classmethod
    def open(
        cls,
        bundle: Path | Bundle,
        precision: str | None = None,
        *,
        threads: int | None = None,
        name: str | None = None,
        batch_tokens: int = BATCH_TOKENS,
        shared: bool = False,
    ) -> "Runtime":
        """The bundle at that path, verified and loaded; the first precision it lists when none is named.

        An opened bundle is not verified again. Left out, `name` is the bundle's own, and `threads` every core this
        process may use. `shared` opens the graph a second time, for runs of one thread each beside one another.
        Sets `TOKENIZERS_PARALLELISM` for the process, or the tokenizer's own thread pool would come on top of the
        plan. Raises `ArtifactError` when the bundle is damaged or does not load, `ServeError` when `threads` is
        more than there are cores.
        """
        plan = plan_threads(threads=threads)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        if opened.info.task not in ANSWERED:
            found = f"{opened.directory} is a bundle for {opened.info.task}"
            raise ArtifactError(found, f"the runtime answers {', '.join(ANSWERED)}; optimum opens it")
        chosen, graph = opened.graph(precision)
        session = open_session(graph, opened.info, plan.intra_op_threads)
        beside = shared and plan.intra_op_threads > 1
        gate = (opened.info.domain or {}).get(chosen)
        return cls(
            name=name or f"{opened.info.name}/{chosen}",
            bundle=opened,
            size_bytes=size_of(graph),
            batch_tokens=batch_tokens,
            session=session,
            narrow=open_session(graph, opened.info, 1) if beside else None,
            tokenizer=open_tokenizer(opened.directory / TOKENIZER, opened.info.max_tokens),
            domain_threshold=gate.threshold if gate else None,
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the columns of the logits."""
        return self.bundle.info.labels

    @property
    def problem(self) -> Problem | None:
        """What the logits are."""
        return self.bundle.info.problem

    @property
    def embedding_size(self) -> int:
        """Columns of the embeddings."""
        return self.bundle.info.embedding_size

    @property
    def max_tokens(self) -> int:
        """Longest input in tokens, special ones included."""
        return self.bundle.info.max_tokens

    @property
    def threads(self) -> int:
        """Intra-op threads, read back from the session."""
        return int(self.session.get_session_options().intra_op_num_threads)

    @property
    def pooling(self) -> str:
        """How the graph makes one vector of a text."""
        return self.bundle.info.pooling.mode

    def run(self, texts: Sequence[Text]) -> Outputs:
        """Answers to `texts` in their order; any string is a text, the empty one and broken Unicode too."""
        return self.infer(self.tokenize(texts))

    def scores(self, texts: Sequence[Text]) -> Floats:
        """`[batch, labels]`: the probability of each label; what a regression measures, as it is."""
        return scores_of(self.run(texts).logits, self.problem)

    def show_tokens(self, texts: Sequence[str], *, special: bool) -> list[list[Token]]:
        """The tokens of each text, none cut off; with those the model adds of its own when `special`."""
        return show_tokens(self.tokenizer, texts, special=special)

    def tokenize(self, texts: Sequence[Text]) -> Tokens:
        """`texts` as tokens, cut at `max_tokens`, a pair at its longer half; a lone surrogate becomes U+FFFD."""
        begun = time.perf_counter()
        encodings = self.tokenizer.encode_batch_fast([mend(text) for text in texts])
        lengths = np.array([max(1, len(encoding)) for encoding in encodings], dtype=np.int64)
        truncated = np.array([bool(encoding.overflowing) for encoding in encodings], dtype=np.bool_)
        seconds = time.perf_counter() - begun
        return Tokens(encodings=encodings, lengths=lengths, truncated=truncated, seconds=seconds)

    def infer(self, tokens: Tokens) -> Outputs:
        """The graph's answers to `tokens`, in their order."""
        rows = len(tokens.lengths)
        columns: dict[str, list[Floats]] = {name: [np.empty(0, np.float32)] * rows for name in self.wanted.values()}
        padded_tokens = 0
        for batch in cut_batches(tokens.lengths, self.batch_tokens):
            computed = self.compute([tokens.encodings[row] for row in batch], wide=True)
            for name, arrays in computed.items():
                for row, array in zip(batch, arrays, strict=True):
                    columns[name][row] = array
            padded_tokens += len(batch) * int(tokens.lengths[batch].max())
        return outputs_of(self, tokens, columns, padded_tokens)

    def compute(self, encodings: Sequence[Piece], *, wide: bool) -> Computed:
        """One run of the graph over `encodings`, padded to the longest of them."""
        session = self.session if wide else self.narrow or self.session
        found = session.run(list(self.wanted), pad(encodings, self.bundle.info))
        return {
            name: self._trim(array, encodings) if name in PER_TOKEN else list(array)
            for name, array in zip(self.wanted.values(), found, strict=True)
        }

    @cached_property
    def wanted(self) -> dict[str, str]:
        """The graph's outputs that are asked for, and what we call each."""
        axes = self.bundle.info.outputs
        plain = {"logits": len(self.labels), "sentence_embedding": self.embedding_size, DOMAIN: 1}
        names = {name: name for name, columns in plain.items() if columns and len(axes.get(name, ())) in (1, 2)}
        per_token = {"start_logits": "start_logits", "end_logits": "end_logits"}
        if len(axes.get("logits", ())) == 3:
            per_token["logits"] = "token_logits"
        return names | {name: ours for name, ours in per_token.items() if name in axes}

    def _trim(self, array: Floats, encodings: Sequence[Piece]) -> list[Floats]:
        """`[batch, seq, …]` as one array a row, without padding."""
        left, width = self.bundle.info.padding.side == "left", array.shape[1]
        sizes = [len(encoding) for encoding in encodings]
        return [row[width - size :] if left else row[:size] for row, size in zip(array, sizes, strict=True)]


def cut_batches(lengths: Integers, batch_tokens: int) -> list[Integers]:
    """Row numbers in batches of like lengths, longest first, each at most `batch_tokens` when padded (or one row).

    Longest first, because the allocator then reuses for the small batches what it took for the large one.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        rows = max(1, batch_tokens // int(lengths[order[start]]))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def pad(encodings: Sequence[Piece], info: BundleInfo) -> dict[str, Integers]:
    """The graph's inputs, `[batch, seq]` each, as wide as the longest text."""
    width = max(1, *(len(encoding) for encoding in encodings))
    shape = (len(encodings), width)
    ids = np.full(shape, info.padding.id, dtype=np.int64)
    types = np.full(shape, info.padding.token_type_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    for row, encoding in enumerate(encodings):
        length = len(encoding)
        slots = max(1, length)  # a text without tokens keeps one, or its mean over no token would be NaN
        start = 0 if info.padding.side == "right" else width - slots
        ids[row, start : start + length] = encoding.ids
        types[row, start : start + length] = encoding.type_ids
        mask[row, start : start + slots] = 1
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: feed[name] for name in info.inputs}
