"""Texts longer than a model reads, as windows that overlap, and which window to ask about which token."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from serve.passages.passage import Passage


@dataclass(frozen=True, kw_only=True)
class Window:
    """As much of a passage as the model reads at once; a `serve.engine.Piece`."""

    ids: Sequence[int]
    type_ids: Sequence[int]
    before: int
    """Tokens ahead of the body's: special ones, and the first text of a pair."""
    part: range
    """Tokens of the passage's body that it holds."""

    def __len__(self) -> int:
        return len(self.ids)


def cut_windows(length: int, room: int, overlap: int) -> list[range]:
    """`length` tokens as parts of at most `room`, neighbours sharing `overlap` or more, as few as that takes.

    All are of one length, so that nothing is padded when they run together, and spread evenly. Any `overlap + 1`
    tokens in a row stand together in one of them. `overlap` is less than `room`.
    """
    if length <= room:
        return [range(length)]
    steps = -(-(length - room) // (room - overlap))
    starts = [step * (length - room) // steps for step in range(steps + 1)]
    return [range(start, start + room) for start in starts]


def share_out(windows: Sequence[range]) -> list[range]:
    """Of each window the tokens that stand further from its edges than in any other; each token once.

    The beginning and the end of the text are no edges: nothing is missing there. Of two windows alike in this, the
    first has the token.
    """
    # Windows of one length: a token is furthest from the edges where it is nearest to the middle.
    bounds = [(left.start + right.stop + 1) // 2 for left, right in pairwise(windows)]
    return [range(*ends) for ends in pairwise([0, *bounds, windows[-1].stop])]


def open_windows(passage: Passage, max_tokens: int, overlap: int) -> list[Window]:
    """The passage as windows of at most `max_tokens`, each with all that stands around the body.

    `overlap` gives way where there is little room: it is never more than half of it.
    """
    body = passage.body
    room = max(1, max_tokens - passage.around)
    return [
        Window(
            ids=_cut(passage.ids, body, part),
            type_ids=_cut(passage.type_ids, body, part),
            before=body.start,
            part=part,
        )
        for part in cut_windows(len(body), room, min(overlap, room // 2))
    ]


def _cut(values: Sequence[int], body: range, part: range) -> list[int]:
    inner = values[body.start + part.start : body.start + part.stop]
    return [*values[: body.start], *inner, *values[body.stop :]]
