"""What requests of our own routes may hold: texts to tag, questions to answer, texts to classify."""

from typing import Literal

from pydantic import BaseModel, Field

from serve.engine import Text
from serve.http.requests import Choice, PredictRequest

MOST_ANSWERS = 100
MOST_ANSWER_TOKENS = 100


class TagRequest(Choice):
    """`POST /tag`."""

    inputs: str | list[str] = Field(examples=["wake me at seven", ["wake me", "play some jazz"]])
    """One text, or a list of texts."""
    aggregation: Literal["spans", "tokens"] = "spans"
    """`spans` joins words that belong together and leaves out what is none; `tokens` shows every token's label."""
    truncate: bool | None = None
    """Left out, a text that is longer than the longest input is read in windows; true reads the first window alone,
    false refuses such a text with 413."""
    truncation_direction: Literal["Right"] = "Right"
    """Only `Right`: it is the end of a text that is dropped."""

    @property
    def texts(self) -> list[str]:
        """What is to be tagged, in order."""
        return [self.inputs] if isinstance(self.inputs, str) else self.inputs


class Question(BaseModel):
    """What is asked, and where the answer may stand."""

    model_config = Choice.model_config

    question: str
    """What is asked."""
    context: str
    """The text that is searched, however long."""


class AnswerRequest(Choice):
    """`POST /answer`."""

    inputs: Question | list[Question] = Field(
        examples=[
            {"question": "will it rain", "context": "rain tomorrow"},
            [{"question": "wake me at", "context": "seven"}, {"question": "play some", "context": "me some jazz"}],
        ]
    )
    """`question` and `context`, two texts; or a list of such."""
    top_k: int = Field(default=1, ge=1, le=MOST_ANSWERS)
    """How many answers: one is shown by itself, several as a list."""
    max_answer_tokens: int = Field(default=30, ge=1, le=MOST_ANSWER_TOKENS)
    """Longest answer in tokens."""

    @property
    def pairs(self) -> list[Text]:
        """Question and context, in order."""
        asked = [self.inputs] if isinstance(self.inputs, Question) else self.inputs
        return [(each.question, each.context) for each in asked]


class ClassifyRequest(PredictRequest):
    """`POST /classify`; `inputs` as in `POST /predict`."""

    top_k: int | None = Field(default=None, ge=1)
    """How many labels to show, best first; left out, all."""
