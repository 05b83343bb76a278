"""What requests see of a model: a lane to ask, and the answer that comes out of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from serve.engine import Outputs, Servable, Side, Text, Token, Tokens

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came out of a lane, and how long each phase took, in seconds."""

    outputs: Outputs
    tokenization: float
    queue: float
    inference: float
    answered_by: tuple[str, ...] | None = None
    """Which model answered each text; None of a lane of one model."""
    confidence: NDArray[np.float64] | None = None
    """`[batch]`: how sure that model is of its answer; None likewise."""


class Lane(Protocol):
    """What requests ask: one model, or a cascade of two."""

    @property
    def engine(self) -> Servable:
        """What answers."""

    @property
    def queued_tokens(self) -> int:
        """Tokens of requests that wait here or are being computed, estimated."""

    async def run(self, texts: Sequence[Text], *, cut: Side | None = None) -> Answer:
        """The answer, each text's own; `Problem` 429 at once when too much waits.

        What is too long loses tokens at the end `cut`; None: as the model was trained.
        """

    async def run_tokens(self, tokenize: Callable[[], Tokens], cost: int) -> Answer:
        """As `run`, of tokens that `tokenize` makes on any thread; `cost` is a guess of how many."""

    async def show_tokens(self, texts: Sequence[str], *, special: bool) -> list[list[Token]]:
        """The engine's tokens, of whole texts."""

    async def work_out(self, job: Callable[[], Result], cost: int) -> Result:
        """What `job` makes of an answer of `cost` tokens, where that keeps nobody waiting."""

    async def warm_up(self, texts: Sequence[Text]) -> None:
        """Compute whatever a request may be the first to need."""

    async def drain(self) -> None:
        """Return once all that was admitted is answered; nothing may be asked any more."""

    def refuse_when_full(self) -> None:
        """`Problem` 429 when no request would be admitted."""
