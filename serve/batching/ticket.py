"""What one request waits for at one model: its rows, dealt out to runs and gathered again."""

from collections import deque

import numpy as np

from serve.engine import Computed, Floats, Tokens


class Ticket:
    """The texts of one request, until all are computed or nobody wants them.

    Once it is handed to a crew, it is touched under the crew's lock alone, until it is finished.
    """

    def __init__(self, tokens: Tokens, arrived: float) -> None:
        self.tokens = tokens
        self.arrived = arrived
        """When the request came in, by the monotonic clock."""
        self.served = arrived
        """When one of its rows was last dealt out; before the first, `arrived`."""
        self.waiting = deque(np.argsort(tokens.lengths, kind="stable").tolist())
        """Rows not dealt out yet, the shortest first."""
        self.left = len(tokens.lengths)
        """Rows not computed yet."""
        self.padded_tokens = 0
        self.begun: float | None = None
        """When the first of its rows was run."""
        self.ended = arrived
        self.error: Exception | None = None
        self.dropped = False
        """Whether nobody waits for the answer any more."""
        self._columns: dict[str, list[Floats | None]] = {}

    @property
    def is_begun(self) -> bool:
        """Whether some row was dealt out."""
        return len(self.waiting) < len(self.tokens.lengths)

    def put(self, row: int, place: int, computed: Computed) -> None:
        """Keep what a run gave for `row`, which was its row `place`."""
        for name, arrays in computed.items():
            column = self._columns.setdefault(name, [None] * len(self.tokens.lengths))
            column[row] = arrays[place]
        self.left -= 1

    def fail(self, error: Exception) -> None:
        """Ends it: what is not dealt out yet never will be."""
        self.error = self.error or error
        self.waiting.clear()
        self.left = 0

    @property
    def columns(self) -> Computed:
        """What all its rows gave, in their order; for a ticket of which none is left."""
        return {name: [array for array in arrays if array is not None] for name, arrays in self._columns.items()}
