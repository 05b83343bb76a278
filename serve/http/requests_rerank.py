"""What a request of `/rerank` may hold: text-embeddings-inference's fields, and ours for choosing what is said next."""

from collections.abc import Sequence

from pydantic import BaseModel, Field

from serve.engine import Side
from serve.http.requests import Choice, Truncation


class Turn(BaseModel):
    """What somebody said."""

    model_config = Choice.model_config

    utterance: str
    """The words."""
    speaker: str | None = None
    """Who said them; left out, the words stand alone."""


class RerankRequest(Choice, Truncation):
    """`POST /rerank`. The last four fields are ours; without them, the answer is text-embeddings-inference's."""

    query: str | list[Turn] = Field(examples=["Is it raining?", [{"speaker": "ann", "utterance": "Is it raining?"}]])
    """What is asked: a text, or a list of turns, each with an `utterance` and, if known, its `speaker`.

    Turns are joined as they are for training, a line each (`ann: Is it raining?`), and lose the first ones where they
    are too long, unless `truncation_direction` says otherwise.
    """
    texts: list[str] = Field(examples=[["Take an umbrella.", "The train is late."]])
    """A list of texts to be put in order."""
    raw_scores: bool = False
    """Logits instead of chances; the cosine of an embedding is the same either way."""
    return_text: bool = False
    """Repeat each text beside its place."""
    return_none: bool = False
    """Say how likely it is that none of the texts is right: the answer is then an object of `ranks` and `none`."""
    retriever: str | None = None
    """An embedding model that picks the `k` texts which the model reads; the others follow in the retriever's order.

    Left out, as the service is configured: as a rule, the model reads all texts.
    """
    k: int | None = Field(default=None, ge=1)
    """How many texts the retriever picks; left out, as the service is configured, else 10."""

    @property
    def asked(self) -> str:
        """The query as the model reads it."""
        return self.query if isinstance(self.query, str) else join_turns(self.query)

    @property
    def end(self) -> Side | None:
        """Where what is too long is cut: of turns the first are dropped, where the request does not say."""
        return self.cut or (None if isinstance(self.query, str) else "left")


def join_turns(turns: Sequence[Turn]) -> str:
    """A conversation as one text, a line a turn: what a data set's `turn_separator` is where a recipe names none."""
    return "\n".join(turn.utterance if turn.speaker is None else f"{turn.speaker}: {turn.utterance}" for turn in turns)
