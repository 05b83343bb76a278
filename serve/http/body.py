"""Request bodies, parsed once: bytes in, a typed request out, or a `Problem` that says what to send instead."""

import asyncio
import json
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from serve.http.requests import Choice
from serve.limits import Limits
from serve.problem import Problem

SPELLED_OUT = frozenset({"inputs", "input", "query", "texts", "prompt_name", "truncation_direction"})
"""Fields whose fault is told by their description: pydantic would tell what it missed of the first shape it tried."""

RequestType = TypeVar("RequestType", bound=Choice)


async def read_json(request: Request, limits: Limits) -> Any:
    """The body's JSON, read no further than its limits allow; `Problem` 400, 408, 413 or 415."""
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
            body = await _read_stream(request, limits)
    except TimeoutError:
        message = f"the body took longer than {limits.body_seconds:g} s to arrive"
        raise Problem(408, "Validation", message, {"Connection": "close"}) from None
    return _decode(body)


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


def parse(kind: type[RequestType], tree: Any) -> RequestType:
    """JSON as a request; `Problem` 422 when it is of another shape."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise _explain(kind, error) from None


def _decode(body: bytes) -> Any:
    """`Problem` 400 when it is no JSON in UTF-8."""
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise Problem(400, "Validation", "the body is not UTF-8") from None
    except RecursionError:
        raise Problem(400, "Validation", "the body is nested too deeply") from None
    except ValueError as error:  # also integers of more digits than Python reads
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise Problem(400, "Validation", f"the body is not valid JSON{where}") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _explain(kind: type[BaseModel], error: ValidationError) -> Problem:
    """The first fault, in words that hold nothing of the request but its known field names."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if not fault["loc"]:
        return Problem(422, "Validation", "the body is not a JSON object")
    field = str(fault["loc"][0])
    message = f"`{field}`: {fault['msg']}"
    if fault["type"] == "missing" and len(fault["loc"]) == 1:
        message = f"`{field}` is missing"
    elif field in SPELLED_OUT:
        described = " ".join(str(kind.model_fields[field].description).split())
        message = f"`{field}` is not what it should be: {described}"
    return Problem(422, "Validation", message, param=field)
