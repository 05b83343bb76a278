"""A whole text as a tokenizer has it, with the characters of each token."""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A text as tokens, none cut off, with what the model puts around them; of a pair, the second text."""

    text: str
    ids: Sequence[int]
    """Of all tokens, special ones and those of a pair's first text included."""
    type_ids: Sequence[int]
    body: range
    """Places in `ids` of the text's own tokens; empty for a text without any."""
    starts: Sequence[int]
    """First character of each token of the body, white space left out."""
    stops: Sequence[int]
    """One past its last character; as `starts` for a token of no character, or of white space alone."""
    words: Sequence[int]
    """The word that each token of the body belongs to, counted from 0."""
    opened: bool
    """Whether the first of `ids` is one the model adds, such as `[CLS]`."""

    @property
    def around(self) -> int:
        """Tokens that every window holds beside its part of the body."""
        return len(self.ids) - len(self.body)

    def characters(self, first: int, end: int) -> tuple[int, int] | None:
        """What tokens `first` up to `end` of the body stand for, from its first character to one past its last.

        None for tokens without any.
        """
        found = [token for token in range(first, end) if self.starts[token] < self.stops[token]]
        if not found:
            return None
        return min(self.starts[token] for token in found), max(self.stops[token] for token in found)

    def head(self, tokens: int) -> "Passage":
        """As if the text had ended after so many tokens of its body; with all that stands around them."""
        stop = self.body.start + min(tokens, len(self.body))
        return replace(
            self,
            ids=[*self.ids[:stop], *self.ids[self.body.stop :]],
            type_ids=[*self.type_ids[:stop], *self.type_ids[self.body.stop :]],
            body=range(self.body.start, stop),
            starts=self.starts[:tokens],
            stops=self.stops[:tokens],
            words=self.words[:tokens],
        )
