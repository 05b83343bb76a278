"""JSON replies: those of text-embeddings-inference bare, those below `/v1` as OpenAI wraps them, faults likewise."""

import json
from collections.abc import Mapping
from typing import Any, Literal, NotRequired

import orjson
from starlette.responses import Response
from typing_extensions import TypedDict  # Python 3.11's own has no required keys that pydantic could read

from serve.problem import Problem

OPENAI = "/v1/"
"""Below it, faults are shaped as OpenAI's."""


class Fault(TypedDict):
    """What went wrong, in text-embeddings-inference's shape."""

    error: str
    error_type: str


class OpenAIFaultDetail(TypedDict):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIFault(TypedDict):
    """What went wrong, in OpenAI's shape."""

    error: OpenAIFaultDetail


class Prediction(TypedDict):
    """One label and how likely it is."""

    label: str
    score: float


class OutOfDomain(TypedDict):
    """How far a text is from those the model knows."""

    score: float
    flag: bool | None
    """Whether that is too far; null where no threshold is known."""


class Classification(TypedDict):
    """What a text is, who says so, and how sure that one is."""

    model: str
    """Who was asked."""
    label: str
    """The best."""
    score: float
    """Of that label."""
    scores: list[Prediction]
    """Best first."""
    answered_by: str
    confidence: float | None
    """Probability of the best label, whether or not `score` is a logit; null for a regression."""
    out_of_domain: OutOfDomain | None
    """Null when the model does not say."""
    escalated: bool
    """Whether the model asked was too unsure, and another answered."""


class TextSpan(TypedDict):
    """A part of a text, what it is and how likely: characters from `start` up to `end` of the text as it was sent."""

    label: str
    score: float
    start: int
    end: int
    text: str


class FoundAnswer(TypedDict):
    """An answer and its place in the context; empty, from 0 to 0, where it is likeliest that there is none."""

    answer: str
    score: float
    start: int
    end: int
    no_answer_score: float
    """How likely it is that the context does not answer."""


class Rank(TypedDict):
    """One text's place: `index` among the texts as they were sent."""

    index: int
    score: float
    text: NotRequired[str]
    rescored: NotRequired[bool]
    """Where there is a retriever: whether the model read this text. If not, `score` is the retriever's cosine."""


class NoneOfThem(TypedDict):
    """How likely it is that none of the texts is right."""

    score: float
    """1 less the best text's probability, or cosine."""
    threshold: float | None
    """The score above which none is; null where the service knows no such threshold of this model."""
    flag: bool | None
    """Whether it is; null likewise."""


class Selection(TypedDict):
    """The texts best first, and whether any of them is right."""

    ranks: list[Rank]
    none: NoneOfThem


class ShownToken(TypedDict):
    """One token; `start` and `stop` count characters, and are null where the model added it."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class Embedding(TypedDict):
    """One text's vector: numbers, or their bytes in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(TypedDict):
    """Tokens read, special ones included."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(TypedDict):
    """The vectors of all texts, in order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


Digests = TypedDict("Digests", {"from": str, "to": str})
"""SHA-256 over the files of each bundle."""
Swapped = TypedDict("Swapped", {"model": str, "from": str, "to": str, "digests": Digests, "seconds": float})
"""Which bundle a model was served from, and which it is served from now; `seconds` from the asking to the last answer
of the one before."""


class Model(TypedDict):
    """A model that gives embeddings; `created` is when this service began, in seconds since 1970."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(TypedDict):
    """The models below `/v1`."""

    object: Literal["list"]
    data: list[Model]


def reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`value` as JSON without NaN; `ValueError` when it holds one."""
    return Response(encode(value), status, dict(headers or {}), media_type="application/json")


def encode(value: Any) -> bytes:
    """`value` as JSON in UTF-8; `ValueError` when it holds a NaN or an infinity.

    orjson is several times as fast on vectors, but writes NaN as null and refuses half a surrogate pair: what may be
    the first and what is the second is left to `json`, which refuses the one and escapes the other.
    """
    try:
        body = orjson.dumps(value)
    except orjson.JSONEncodeError:
        body = b"null"
    if b"null" not in body:
        return body
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def reply_problem(problem: Problem, path: str) -> Response:
    """The response that tells `problem`, in the shape of the family that `path` belongs to."""
    return reply(tell(problem, path), problem.status, problem.headers)


def tell(problem: Problem, path: str) -> Fault | OpenAIFault:
    """The body of that response."""
    if not path.startswith(OPENAI):
        return {"error": str(problem), "error_type": problem.error_type}
    kinds = {429: "rate_limit_error", 500: "server_error", 503: "server_error", 504: "server_error"}
    kind = kinds.get(problem.status, "invalid_request_error")
    return {"error": {"message": str(problem), "type": kind, "param": problem.param, "code": problem.code}}
