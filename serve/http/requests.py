"""What requests may hold: a model for each body, and the limits in force.

Field names and defaults are those of text-embeddings-inference and, below `/v1`, of OpenAI; keys we do not know are
ignored, as both do, so that their clients work unchanged. `serve.http.body` makes these of bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from serve.engine import Side, Text
from serve.limits import Limits
from serve.problem import Problem

SIDES: Mapping[str, Side] = {"left": "left", "right": "right"}


class Choice(BaseModel):
    """What every body may hold: who answers."""

    model_config = ConfigDict(frozen=True, strict=True, use_attribute_docstrings=True)

    model: str | None = None
    """Which model answers: `student`, or `student/float32`; left out, the header `X-Model`, or the default."""


class Truncation(BaseModel):
    """What becomes of texts beyond the longest input."""

    model_config = Choice.model_config

    truncate: bool | None = None
    """Whether what lies beyond the longest input is dropped, as when left out; false refuses such a text with 413."""
    truncation_direction: Literal["Left", "Right", "left", "right"] | None = None
    """`Left` or `Right`: which end of such a text is dropped; left out, as the model was trained, as a rule `Right`.

    Of a pair, the longer text loses first.
    """

    @property
    def cut(self) -> Side | None:
        """That end; None where the request does not say."""
        return None if self.truncation_direction is None else SIDES[self.truncation_direction.lower()]


class _Prompt(BaseModel):
    model_config = Choice.model_config

    prompt_name: None = None
    """Only null: bundles hold no prompts, so put the words in front of the text."""


class PredictRequest(Choice, Truncation):
    """`POST /predict`."""

    inputs: str | list[str] | list[Annotated[list[str], Field(min_length=1, max_length=2)]] = Field(
        examples=["wake me at seven", ["Is it raining?", "Take an umbrella."], [["wake me"], ["play some jazz"]]]
    )
    """One text, or a list of two texts, which is one pair, or a list of lists of one or two texts, which is a batch.

    A list of one text is that text. A list of three or more is a batch of texts; text-embeddings-inference refuses it.
    """
    raw_scores: bool = False
    """Logits instead of probabilities."""

    @property
    def texts(self) -> list[Text]:
        """What is asked about, in order."""
        if isinstance(self.inputs, str):
            return [self.inputs]
        flat = [item for item in self.inputs if isinstance(item, str)]
        if len(flat) == 2:
            return [(flat[0], flat[1])]
        return [item if isinstance(item, str) else _text_of(item) for item in self.inputs]

    @property
    def is_batch(self) -> bool:
        """Whether a list of answers is expected, however short, and not one answer."""
        return isinstance(self.inputs, list) and not (
            len(self.inputs) <= 2 and all(isinstance(item, str) for item in self.inputs)
        )


class EmbedRequest(Choice, Truncation, _Prompt):
    """`POST /embed`."""

    inputs: str | list[str] = Field(examples=["wake me at seven", ["wake me", "play some jazz"]])
    """One text, or a list of texts."""
    normalize: bool = True
    """Vectors of length one."""
    dimensions: int | None = Field(default=None, ge=1)
    """Keep so many of the first columns, before `normalize`; left out, all."""


class SimilarityInputs(BaseModel):
    """Whom to compare with whom."""

    model_config = Choice.model_config

    source_sentence: str
    """The text that the others are compared with."""
    sentences: list[str]
    """A list of the others."""


class SimilarityParameters(Truncation, _Prompt):
    """How to read them."""


class SimilarityRequest(Choice):
    """`POST /similarity`."""

    inputs: SimilarityInputs = Field(
        examples=[{"source_sentence": "wake me", "sentences": ["wake me at seven", "play some jazz"]}]
    )
    """`source_sentence`, a text, and `sentences`, a list of texts to compare it with."""
    parameters: SimilarityParameters | None = None
    """`truncate` and `prompt_name`, as in `POST /embed`."""


class TokenizeRequest(Choice, _Prompt):
    """`POST /tokenize`."""

    inputs: str | list[str] = Field(examples=["wake me at seven", ["wake me", "play some jazz"]])
    """One text, or a list of texts."""
    add_special_tokens: bool = True
    """Whether to show what the model adds, such as `[CLS]`."""


class EmbeddingsRequest(Choice):
    """`POST /v1/embeddings`. What is longer than the longest input is cut as in training; `user` is ignored."""

    input: str | list[str] = Field(examples=["wake me at seven", ["wake me", "play some jazz"]])
    """One text, or a list of texts; not token ids, whose meaning depends on the tokenizer that made them."""
    encoding_format: Literal["float", "base64"] = "float"
    """Numbers, or the bytes of little-endian float32 in base64."""
    dimensions: int | None = Field(default=None, ge=1)
    """Keep so many of the first columns, scaled to length one again; left out, all."""


class SwapRequest(Choice):
    """`POST /admin/swap`."""

    model: str = Field(examples=["student"])
    """Which model, in all its precisions."""
    bundle: str = Field(examples=["student-2", "previous", "original"])
    """Name of a folder below `swap_from`; `previous`, served before the last swap; `original`, served at the start."""


def check_texts(texts: Sequence[Text], limits: Limits, field: str = "inputs") -> Sequence[Text]:
    """`texts` themselves; `Problem` 422 when there is none, 413 when they are too many or one is too long."""
    if not texts:
        raise Problem(422, "Empty", f"`{field}` is empty: send at least one text", param=field)
    if len(texts) > limits.texts:
        message = f"{len(texts)} texts in one request, at most {limits.texts} are taken"
        raise Problem(413, "Validation", message, param=field)
    longest = max(len(text) if isinstance(text, str) else len(text[0]) + len(text[1]) for text in texts)
    if longest > limits.characters:
        message = f"a text has {longest} characters, at most {limits.characters} are taken"
        raise Problem(413, "Validation", message, param=field)
    return texts


def _text_of(item: list[str]) -> Text:
    return item[0] if len(item) == 1 else (item[0], item[1])
