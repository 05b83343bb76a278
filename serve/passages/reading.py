"""What one request has a model read, token by token: each of its texts in as many windows as it takes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from serve.engine import Floats, Text, Tokens
from serve.passages.passage import Passage
from serve.passages.windows import Window, open_windows, share_out
from serve.problem import Problem

BYTES_PER_TOKEN = 3
"""A guess, as `serve.batching.lane` makes it."""


class Reader(Protocol):
    """An engine that gives whole texts as tokens; `serve.runtime.Runtime` is one."""

    @property
    def max_tokens(self) -> int:
        """Longest input in tokens."""

    def read(self, texts: Sequence[Text]) -> tuple[list[Passage], float]:
        """The texts as tokens, none cut off, and the seconds it took; any thread may call it at any time."""


@dataclass(kw_only=True)
class Reading:
    """Texts, and once they are tokenized, their passages and windows."""

    engine: Reader
    texts: Sequence[Text]
    overlap: int
    """Tokens that neighbouring windows share, or more."""
    truncate: bool | None = None
    """True reads the first window of each text alone, false refuses a text that needs a second."""
    passages: list[Passage] = field(default_factory=list)
    windows: list[list[Window]] = field(default_factory=list)
    """Of each passage, in its order."""

    @property
    def cost(self) -> int:
        """Tokens that will be computed, guessed from bytes."""
        return sum(self._guess(text) for text in self.texts)

    def tokenize(self) -> Tokens:
        """The windows of all texts, one after the other; `Problem` 413 when one is too long, or a question is."""
        whole, seconds = self.engine.read(self.texts)
        self.passages = [self._fit(passage) for passage in whole]
        self.windows = [open_windows(passage, self.engine.max_tokens, self.overlap) for passage in self.passages]
        pieces = [window for windows in self.windows for window in windows]
        return Tokens(
            encodings=pieces,
            lengths=np.array([max(1, len(piece)) for piece in pieces], dtype=np.int64),
            truncated=np.zeros(len(pieces), dtype=np.bool_),
            seconds=seconds,
        )

    def deal(self, arrays: Sequence[Floats]) -> list[Sequence[Floats]]:
        """`arrays`, one for each window of all, as those of each passage."""
        ends = np.cumsum([len(windows) for windows in self.windows]).tolist()
        return [arrays[end - len(windows) : end] for windows, end in zip(self.windows, ends, strict=True)]

    def _fit(self, passage: Passage) -> Passage:
        most = self.engine.max_tokens
        room = most - passage.around
        if len(passage.body) <= room:
            return passage
        if room < most // 4:
            message = f"a question leaves {max(0, room)} of {most} tokens to its context, fewer than {most // 4}"
            raise Problem(413, "Validation", message, param="inputs")
        if self.truncate is False:
            raise Problem(413, "Validation", f"a text is longer than {most} tokens and `truncate` is false")
        return passage.head(room) if self.truncate else passage

    def _guess(self, text: Text) -> int:
        whole = text if isinstance(text, str) else "".join(text)
        tokens = 2 + len(whole.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN
        if tokens <= self.engine.max_tokens:
            return tokens
        return self.engine.max_tokens if self.truncate else tokens * 3 // 2


def join(windows: Sequence[Window], arrays: Sequence[Floats]) -> Floats:
    """`[tokens, …]`: what was said of each token of a passage, in the window where it stands furthest from an edge.

    `arrays` are `[tokens, …]` of all tokens of a window, one for each of them.
    """
    shares = share_out([window.part for window in windows])
    cuts = [
        array[window.before + share.start - window.part.start : window.before + share.stop - window.part.start]
        for window, share, array in zip(windows, shares, arrays, strict=True)
    ]
    return np.concatenate(cuts)
