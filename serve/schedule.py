"""Which waiting texts are computed next, together: the rule alone, without clock, thread or model.

    waiting = Schedule[str](batch_tokens=512)
    rows = waiting.add(["ab", "c"], lengths=[9, 7], now=12.0)
    batch = waiting.take(now=12.1)

A text is a *row*. Of the rows that wait, a *window* is looked at: those whose turn came first, up to some batches.
Inside the window rows of like length go together, so that little is padded, and short ones go first, so that they do
not wait behind long ones; a row that has waited beyond the age limit goes before all, with those that fit it best.

A request of many texts is spread: the turn of each of its rows comes as much later as those before it take to compute,
so that a client who sends little need not wait until one who sends much is done (start-time fair queueing).
"""

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

WINDOW_BATCHES = 8
"""Batches that the window has tokens for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Row(Generic[Item]):
    """One text that waits."""

    item: Item
    length: int
    """In tokens."""
    turn: tuple[float, int]
    """When its turn comes, in seconds of the caller's clock; of equals, in order of arrival."""


class Schedule(Generic[Item]):
    """Rows that wait, of any number of requests."""

    def __init__(self, *, batch_tokens: int, age_limit_seconds: float = 0.05) -> None:
        self._batch_tokens = batch_tokens
        self._age_limit_seconds = age_limit_seconds
        self._rows: list[Row[Item]] = []
        self._arrivals = 0
        self._seconds_per_token = 0.0
        self.tokens = 0
        """Of all rows that wait."""

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, items: Sequence[Item], lengths: Sequence[int], now: float) -> list[Row[Item]]:
        """The rows of one request, in its order."""
        rows, before = [], 0
        for item, length in zip(items, lengths, strict=True):
            self._arrivals += 1
            turn = (now + before * self._seconds_per_token, self._arrivals)
            rows.append(Row(item=item, length=length, turn=turn))
            before += length
        for row in rows:
            bisect.insort(self._rows, row, key=_turn_of)
        self.tokens += before
        return rows

    def drop(self, rows: Iterable[Row[Item]]) -> None:
        """Forget those of `rows` that still wait: whoever asked has gone."""
        gone = set(rows)
        self._keep([row for row in self._rows if row not in gone])

    def take(self, now: float) -> list[Row[Item]]:
        """The rows to compute next, out of the waiting ones; at least one unless none waits.

        Padded to the longest of them they are at most `batch_tokens`, unless a single row is longer than that.
        """
        if not self._rows:
            return []
        window = self._window()
        first = self._rows[0]
        late = now - first.turn[0] > self._age_limit_seconds
        batch = self._around(first, window) if late else self._shortest(window)
        taken = set(batch)
        self._keep([row for row in self._rows if row not in taken])
        return batch

    def computed(self, tokens: int, seconds: float) -> None:
        """Learn what a token costs, of which a request of many texts is spread by."""
        latest = seconds / max(1, tokens)
        self._seconds_per_token += 0.2 * (latest - self._seconds_per_token)

    def _keep(self, rows: list[Row[Item]]) -> None:
        self._rows = rows
        self.tokens = sum(row.length for row in rows)

    def _window(self) -> list[Row[Item]]:
        """By length, those of like length in order of their turns."""
        rows, tokens = list[Row[Item]](), 0
        for row in self._rows:
            if rows and tokens + row.length > WINDOW_BATCHES * self._batch_tokens:
                break
            rows.append(row)
            tokens += row.length
        return sorted(rows, key=lambda row: row.length)

    def _shortest(self, window: list[Row[Item]]) -> list[Row[Item]]:
        count = 1
        while count < len(window) and (count + 1) * window[count].length <= self._batch_tokens:
            count += 1
        return window[:count]

    def _around(self, first: Row[Item], window: list[Row[Item]]) -> list[Row[Item]]:
        """`first`, those nearest below it in length that fit, and none that is longer."""
        at = bisect.bisect_right([row.length for row in window], first.length)
        room = max(1, self._batch_tokens // max(1, first.length))
        others = [row for row in window[:at] if row is not first]
        return [first, *reversed(others[max(0, len(others) - room + 1) :])] if room > 1 else [first]


def _turn_of(row: Row[Item]) -> tuple[float, int]:
    return row.turn
