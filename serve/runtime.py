"""Texts to logits and embeddings with ONNX Runtime, `tokenizers` and numpy alone.

    runtime = Runtime.open(Path("out/demo/bundles/student"), "int8")
    runtime.run(["wake me at seven"]).logits

Texts are sorted by length and cut into batches of a bounded number of padded tokens, so that little time goes
to padding and memory does not follow the longest text of a large call.
"""

import contextlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer  # type: ignore[import-untyped]  # ships no types

from artifact.digest import hash_json
from serve.bundle import TOKENIZER, Bundle, open_bundle, size_of
from serve.engine import (
    DOMAIN,
    KINDS_BY_TOKEN,
    PER_TOKEN,
    Computed,
    Floats,
    Integers,
    Outputs,
    Piece,
    Problem,
    Side,
    Text,
    Token,
    Tokens,
    outputs_of,
    scores_of,
)
from serve.packed import packed
from serve.padding import cut_batches, pad
from serve.passages.passage import Passage
from serve.session import open_session, open_tokenizer
from serve.threads import plan_threads
from serve.tokens import copy_cutting, copy_untruncated, mend, read_passages, show_tokens

BATCH_TOKENS = 512
"""Padded tokens computed at once by default.

Small on purpose: what a CPU gains from large batches it has gained by then, while padding grows with the batch.
A six-layer encoder of width 384 on two cores answered 128 texts of mixed lengths (median 20 tokens, longest 250)
5 to 8 times as fast with 512 as with the 16 384 that suit an accelerator; anything from 64 to 512 was alike.
"""

THREAD_TOKENS = 256
"""Padded tokens of a run on one thread, in a call of many texts: what it works on stays in the cache of one core."""


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
        process may use. `shared` is for serving: the graph is opened a second time, for runs of one thread each beside
        one another, and its weights are those of `serve.packed`. Sets `TOKENIZERS_PARALLELISM` for the process, or the
        tokenizer's own thread pool would come on top of the plan. Raises `ArtifactError` when the bundle is damaged or
        does not load, `ServeError` when `threads` is more than there are cores.
        """
        plan = plan_threads(threads=threads)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        chosen, graph = opened.graph(precision)
        with contextlib.ExitStack() as stack:
            key = hash_json({"bundle": opened.digest, "precision": chosen})[:32]
            laid_out = stack.enter_context(packed(graph, key)) if shared else graph
            session = open_session(laid_out, opened.info, plan.intra_op_threads)
            narrow = open_session(laid_out, opened.info, 1) if shared and plan.intra_op_threads > 1 else None
        gate = (opened.info.domain or {}).get(chosen)
        runtime = cls(
            name=name or f"{opened.info.name}/{chosen}",
            bundle=opened,
            size_bytes=size_of(graph),
            batch_tokens=batch_tokens,
            session=session,
            narrow=narrow,
            tokenizer=open_tokenizer(opened.directory / TOKENIZER, opened.info.max_tokens, opened.info.truncation_side),
            domain_threshold=gate.threshold if gate else None,
        )
        if runtime.problem in KINDS_BY_TOKEN:
            _ = runtime.whole  # opened now rather than by the first request
        return runtime

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the columns of the logits."""
        return self.bundle.info.labels

    @property
    def digest(self) -> str:
        """Of the whole bundle."""
        return self.bundle.digest

    @property
    def problem(self) -> Problem | None:
        """What the logits are."""
        return self.bundle.info.means

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
        return show_tokens(self.whole, texts, special=special)

    def read(self, texts: Sequence[Text]) -> tuple[list[Passage], float]:
        """`texts` as tokens, none cut off, with their characters, and the seconds it took; of a pair, the second's."""
        return read_passages(self.whole, texts)

    @cached_property
    def whole(self) -> Tokenizer:
        """The tokenizer without truncation: a second one, for the setting is shared by all threads that use it."""
        return copy_untruncated(self.tokenizer)

    @cached_property
    def turned(self) -> Tokenizer:
        """The tokenizer that cuts at the other end than training did; a second one, as `whole` is."""
        side: Side = "left" if self.bundle.info.truncation_side == "right" else "right"
        return copy_cutting(self.tokenizer, self.max_tokens, side)

    def tokenize(self, texts: Sequence[Text], *, cut: Side | None = None) -> Tokens:
        """`texts` as tokens, `max_tokens` at most, cut at that end; None: at the bundle's.

        A pair is cut at its longer half. A lone surrogate becomes U+FFFD.
        """
        tokenizer = self.tokenizer if cut in (None, self.bundle.info.truncation_side) else self.turned
        begun = time.perf_counter()
        encodings = tokenizer.encode_batch_fast([mend(text) for text in texts])
        lengths = np.array([max(1, len(encoding)) for encoding in encodings], dtype=np.int64)
        truncated = np.array([bool(encoding.overflowing) for encoding in encodings], dtype=np.bool_)
        seconds = time.perf_counter() - begun
        return Tokens(encodings=encodings, lengths=lengths, truncated=truncated, seconds=seconds)

    def infer(self, tokens: Tokens) -> Outputs:
        """The graph's answers to `tokens`, in their order."""
        rows = len(tokens.lengths)
        columns: dict[str, list[Floats]] = {name: [np.empty(0, np.float32)] * rows for name in self.wanted.values()}
        padded_tokens = 0
        beside = self.narrow is not None and rows > 1
        batches = cut_batches(tokens.lengths, self._share_of(tokens) if beside else self.batch_tokens)
        spread = self._threads.map if beside else map
        runs = spread(partial(self._compute_rows, tokens, wide=not beside), batches)
        for batch, computed in zip(batches, runs, strict=True):
            for name, arrays in computed.items():
                for row, array in zip(batch, arrays, strict=True):
                    columns[name][row] = array
            padded_tokens += len(batch) * int(tokens.lengths[batch].max())
        return outputs_of(self, tokens, columns, padded_tokens)

    def _share_of(self, tokens: Tokens) -> int:
        """Tokens of a run on one thread: few texts are shared out, so that no thread stands idle."""
        return min(THREAD_TOKENS, max(int(tokens.lengths.max()), -(-int(tokens.lengths.sum()) // self.threads)))

    def _compute_rows(self, tokens: Tokens, batch: Integers, *, wide: bool) -> Computed:
        return self.compute([tokens.encodings[row] for row in batch], wide=wide)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="runtime")

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
