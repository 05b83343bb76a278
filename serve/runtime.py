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
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Encoding, Tokenizer  # type: ignore[import-untyped]  # ships no types

from artifact.errors import ArtifactError
from serve.bundle import ANSWERED, TOKENIZER, Bundle, BundleInfo, open_bundle, size_of
from serve.engine import Floats, Integers, Outputs, Problem, Text, Token, scores_of
from serve.session import open_session, open_tokenizer
from serve.threads import plan_threads
from serve.tokens import mend, show_tokens

BATCH_TOKENS = 512
"""Padded tokens computed at once by default.

Small on purpose: what a CPU gains from large batches it has gained by then, while padding grows with the batch.
A six-layer encoder of width 384 on two cores answered 128 texts of mixed lengths (median 20 tokens, longest 250)
5 to 8 times as fast with 512 as with the 16 384 that suit an accelerator; anything from 64 to 512 was alike.
"""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Texts as the graph wants them, not yet padded."""

    encodings: Sequence[Encoding]
    lengths: Integers
    """`[batch]`, at least 1: a text without any token counts its one slot of padding."""
    seconds: float
    """Time it took."""


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
    tokenizer: Tokenizer

    @classmethod
    def open(
        cls,
        bundle: Path | Bundle,
        precision: str | None = None,
        *,
        threads: int | None = None,
        name: str | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> "Runtime":
        """The bundle at that path, verified and loaded; the first precision it lists when none is named.

        An opened bundle is not verified again. Left out, `name` is the bundle's own, and `threads` every core this
        process may use. Sets `TOKENIZERS_PARALLELISM` for the process, or the tokenizer's own thread pool would
        come on top of the plan. Raises `ArtifactError` when the bundle is damaged or does not load, `ServeError`
        when `threads` is more than there are cores.
        """
        plan = plan_threads(threads=threads)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        if opened.info.task not in ANSWERED:
            found = f"{opened.directory} is a bundle for {opened.info.task}"
            raise ArtifactError(found, f"the runtime answers {', '.join(ANSWERED)}; optimum opens it")
        chosen, graph = opened.graph(precision)
        return cls(
            name=name or f"{opened.info.name}/{chosen}",
            bundle=opened,
            size_bytes=size_of(graph),
            batch_tokens=batch_tokens,
            session=open_session(graph, opened.info, plan.intra_op_threads),
            tokenizer=open_tokenizer(opened.directory / TOKENIZER, opened.info.max_tokens),
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
        return Tokens(encodings=encodings, lengths=lengths, seconds=time.perf_counter() - begun)

    def infer(self, tokens: Tokens) -> Outputs:
        """The graph's answers to `tokens`, in their order."""
        rows, info = len(tokens.lengths), self.bundle.info
        logits = np.zeros((rows, len(info.labels)), dtype=np.float32)
        embeddings = np.zeros((rows, info.embedding_size), dtype=np.float32)
        targets = {"logits": logits, "sentence_embedding": embeddings}
        wanted = [name for name, array in targets.items() if array.shape[1] and name in info.outputs]
        padded_tokens = 0
        for batch in cut_batches(tokens.lengths, self.batch_tokens):
            feed = pad([tokens.encodings[row] for row in batch], info)
            for name, answer in zip(wanted, self.session.run(wanted, feed), strict=True):
                targets[name][batch] = answer
            padded_tokens += feed["input_ids"].size
        return Outputs(
            logits=logits,
            embeddings=embeddings,
            tokens=tokens.lengths,
            truncated=np.array([bool(encoding.overflowing) for encoding in tokens.encodings], dtype=np.bool_),
            padded_tokens=padded_tokens,
            tokenization_seconds=tokens.seconds,
        )


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


def pad(encodings: Sequence[Encoding], info: BundleInfo) -> dict[str, Integers]:
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
