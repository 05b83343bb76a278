"""Request bodies, parsed once: bytes in, a typed request out, or a `Problem` that says what to send instead.

Field names and defaults are those of text-embeddings-inference; keys we do not know are ignored, as it does, so
that its clients work unchanged. Where it and we differ: a list of two texts is two texts, never a pair.
"""

import asyncio
import json
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from artifact.config import Config
from serve.replies import Problem


class Limits(Config):
    """What one request, and all that wait together, may ask for."""

    body_bytes: int = Field(default=1_000_000, gt=0)
    """Longest request body; beyond it 413."""
    body_seconds: float = Field(default=10, gt=0)
    """Longest time a body may take to arrive; beyond it 408."""
    texts: int = Field(default=128, gt=0)
    """Most texts of one request; beyond it 413."""
    characters: int = Field(default=50_000, gt=0)
    """Longest text; beyond it 413."""
    queued_tokens: int = Field(default=65_536, gt=0)
    """Tokens that may wait for one model, estimated; beyond it 429. A model that is idle takes any request."""


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, use_attribute_docstrings=True)

    model: str | None = None
    """Which model answers: `student`, or `student/float32`; left out, the header `X-Model`, or the default."""
    truncate: bool = True
    """Whether what lies beyond the longest input is dropped; otherwise such a text is refused with 413."""


class PredictRequest(_Body):
    """`POST /predict`."""

    inputs: str | list[str] | list[list[str]]
    """One text, or a list of texts, or a list of lists of one text each."""
    raw_scores: bool = False
    """Logits instead of probabilities."""


class EmbedRequest(_Body):
    """`POST /embed`."""

    inputs: str | list[str]
    """One text, or a list of texts."""
    normalize: bool = True
    """Vectors of length one."""


RequestType = TypeVar("RequestType", PredictRequest, EmbedRequest)


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body, read no further than its limits allow; `Problem` 400, 408, 413 or 415."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise Problem(415, "Validation", "send JSON, with the header `Content-Type: application/json`")
    declared = request.headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit()):
        raise Problem(400, "Validation", "the Content-Length header is not a number")
    if len(declared) > 18 or int(declared) > limits.body_bytes:
        _refuse_body(limits)
    try:
        async with asyncio.timeout(limits.body_seconds):
            return await _read_stream(request, limits)
    except TimeoutError:
        message = f"the body took longer than {limits.body_seconds:g} s to arrive"
        raise Problem(408, "Validation", message, {"Connection": "close"}) from None


async def _read_stream(request: Request, limits: Limits) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limits.body_bytes:
            _refuse_body(limits)
        chunks.append(chunk)
    return b"".join(chunks)


def _refuse_body(limits: Limits) -> NoReturn:
    # Closed, because the rest of the body would otherwise have to be read before the next request.
    message = f"the body is longer than {limits.body_bytes} bytes"
    raise Problem(413, "Validation", message, {"Connection": "close"})


def parse(kind: type[RequestType], body: bytes) -> RequestType:
    """`body` as a request; `Problem` 400 when it is no JSON in UTF-8, 422 when it is JSON of another shape."""
    try:
        tree = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise Problem(400, "Validation", "the body is not UTF-8") from None
    except RecursionError:
        raise Problem(400, "Validation", "the body is nested too deeply") from None
    except ValueError as error:  # also integers of more digits than Python reads
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise Problem(400, "Validation", f"the body is not valid JSON{where}") from None
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise Problem(422, "Validation", _explain(kind, error)) from None


def texts_of(request: PredictRequest | EmbedRequest, limits: Limits) -> list[str]:
    """The texts asked about, one or many; `Problem` 422 for none and for pairs, 413 for too many or too long."""
    inputs = request.inputs
    texts = [inputs] if isinstance(inputs, str) else [_single(item) for item in inputs]
    if not texts:
        raise Problem(422, "Empty", "`inputs` is empty: send at least one text")
    if len(texts) > limits.texts:
        raise Problem(413, "Validation", f"{len(texts)} texts in one request, at most {limits.texts} are taken")
    longest = max(map(len, texts))
    if longest > limits.characters:
        raise Problem(413, "Validation", f"a text has {longest} characters, at most {limits.characters} are taken")
    return texts


def _single(item: str | list[str]) -> str:
    if isinstance(item, str):
        return item
    if len(item) != 1:
        raise Problem(422, "Validation", "this model judges single texts: each inner list holds exactly one")
    return item[0]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _explain(kind: type[BaseModel], error: ValidationError) -> str:
    """The first fault, in words that hold nothing of the request but its known field names."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if not fault["loc"]:
        return "the body is not a JSON object"
    field = str(fault["loc"][0])
    if fault["type"] == "missing":
        return f"`{field}` is missing"
    if field == "inputs":
        return f"`inputs` is not what it should be: {_describe_inputs(kind)}"
    return f"`{field}`: {fault['msg']}"


def _describe_inputs(kind: type[BaseModel]) -> Any:
    return kind.model_fields["inputs"].description
