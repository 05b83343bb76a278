"""The OpenAPI 3.1 description of the routes; its schemas are those of the requests and replies themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from serve import VERSION
from serve.http import openapi_admin as admin
from serve.http.openapi_ours import OURS
from serve.http.openapi_ours import Asked as _Asked
from serve.http.replies import (
    OPENAI,
    Embeddings,
    Fault,
    Models,
    OpenAIFault,
    Prediction,
    Rank,
    Selection,
    ShownToken,
    tell,
)
from serve.http.requests import (
    EmbeddingsRequest,
    EmbedRequest,
    PredictRequest,
    SimilarityRequest,
    TokenizeRequest,
)
from serve.http.requests_passages import AnswerRequest, TagRequest
from serve.http.requests_rerank import RerankRequest
from serve.limits import Limits
from serve.problem import Problem

REFERENCE = "#/components/schemas/{model}"

FAULTS = {
    "400": "The body is not JSON in UTF-8.",
    "404": "There is no such model.",
    "408": "The body did not arrive in time.",
    "413": "The body, the number of texts or a text is too large.",
    "415": "The body is not declared to be JSON.",
    "422": "The JSON is not of the shape asked for, holds no text, or asks for what the model does not give.",
    "504": "Not answered within the seconds of the X-Request-Timeout header.",
    "429": "Too much waits already; Retry-After says for how many seconds to stay away.",
}
"""Of a route that takes a body."""
ANY_FAULTS = {**admin.KEY_FAULTS, "405": "The route does not take that method.", "500": "A fault of the service."}
PHASES = {
    "x-model": "Which model answered.",
    "x-tokenization-time": "Milliseconds spent on cutting texts into tokens.",
    "x-queue-time": "Milliseconds spent waiting for a turn.",
    "x-inference-time": "Milliseconds spent in the model.",
    "x-answered-by": "Of a cascade, and at most 16 texts: which model answered each, separated by commas.",
    "x-retriever": "Of `/rerank` with a retriever: which model picked the texts that were read.",
    "x-confidence": "Likewise: the probability that model gives its best label.",
}
TIMEOUT_PARAMETER = {
    "name": "X-Request-Timeout",
    "in": "header",
    "schema": {"type": "number", "exclusiveMinimum": 0},
    "description": "Seconds that the client waits: what is not answered by then is not computed any more.",
}
EXAMPLES = admin.FAULT_EXAMPLES | {
    str(problem.status): problem
    for problem in (
        Problem(400, "Validation", "the body is not valid JSON (line 1, column 2)"),
        Problem(404, "Validation", "there is no model 'nobody', there is default, student, student/int8"),
        Problem(405, "Validation", "this route does not take that method"),
        Problem(408, "Validation", "the body took longer than 10 s to arrive"),
        Problem(413, "Validation", "200 texts in one request, at most 128 are taken"),
        Problem(415, "Validation", "send JSON, with the header `Content-Type: application/json`"),
        Problem(422, "Validation", "`model`: Input should be a valid string", param="model"),
        Problem(429, "Overloaded", "the model is overloaded, try again later"),
        Problem(500, "Backend", "an unexpected fault of the service"),
        Problem(503, "Unhealthy", "the models are not warm yet"),
        Problem(504, "Timeout", "not answered within the 0.5 s of the X-Request-Timeout header"),
    )
}


@dataclass(frozen=True, kw_only=True)
class _Told:
    """A route that takes none."""

    summary: str
    media_type: str = "application/json"
    reply: Any = dict[str, Any]


PREDICTED = [{"label": "alarm", "score": 0.97}, {"label": "music", "score": 0.03}]
PREDICT = _Asked(
    summary="Every label with its score, highest first; a list of lists for a batch.",
    requests=(PredictRequest,),
    reply=list[Prediction] | list[list[Prediction]],
    example=PREDICTED,
)
EMBED = _Asked(
    summary="One vector for each text.", requests=(EmbedRequest,), reply=list[list[float]], example=[[0.6, -0.8]]
)
RERANK = _Asked(
    summary=(
        "The texts by how well they answer the query, best first: by a model of one label, which reads both together, "
        "or by the cosine of an embedding model. With `return_none`, an object of these and of the chance of none."
    ),
    requests=(RerankRequest,),
    reply=list[Rank] | Selection,
    example=[{"index": 1, "score": 0.93}, {"index": 0, "score": 0.12}],
)
ASKED: Mapping[str, _Asked] = {
    "/admin/swap": _Asked(**admin.SWAP, admin=True),
    "/": _Asked(
        summary=(
            "What suits the model: `/predict` of several labels, `/rerank` of one, `/embed` of none, `/tag` and "
            "`/answer` of one that reads token by token."
        ),
        requests=(PredictRequest, RerankRequest, EmbedRequest, TagRequest, AnswerRequest),
        reply=PREDICT.reply | EMBED.reply | RERANK.reply | OURS["/tag"].reply | OURS["/answer"].reply,
        example=PREDICTED,
    ),
    "/predict": PREDICT,
    "/embed": EMBED,
    "/rerank": RERANK,
    "/similarity": _Asked(
        summary="The cosine of each sentence's vector with that of the source sentence.",
        requests=(SimilarityRequest,),
        reply=list[float],
        example=[0.91, 0.08],
    ),
    "/tokenize": _Asked(
        summary="The tokens of each text, none cut off.",
        requests=(TokenizeRequest,),
        reply=list[list[ShownToken]],
        example=[[{"id": 4, "text": "wake", "special": False, "start": 0, "stop": 4}]],
    ),
    **OURS,
    "/v1/embeddings": _Asked(
        summary="One vector of length one for each text, as OpenAI wraps them.",
        requests=(EmbeddingsRequest,),
        reply=Embeddings,
        example={
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.6, -0.8]}],
            "model": "student/int8",
            "usage": {"prompt_tokens": 6, "total_tokens": 6},
        },
    ),
}
TOLD: Mapping[str, _Told] = {
    "/": _Told(summary="A page to try the models on.", media_type="text/html", reply=str),
    "/docs": _Told(summary="This description, for people.", media_type="text/html", reply=str),
    "/openapi.json": _Told(summary="This description, for machines."),
    "/info": _Told(summary="The default model, all models, limits, threads, digests and versions."),
    "/health": _Told(summary="200 once every model is warm."),
    "/metrics": _Told(summary="Metrics in the text format of Prometheus.", media_type="text/plain", reply=str),
    "/v1/models": _Told(summary="The models that give embeddings.", reply=Models),
}


@cache
def describe_api(limits: Limits) -> dict[str, Any]:
    """The document, with the limits in force spelled out."""
    types = {
        **{request.__name__: request for asked in ASKED.values() for request in asked.requests},
        **{path: told.reply for path, told in TOLD.items()},
        **{f"POST {path}": asked.reply for path, asked in ASKED.items()},
        "Fault": Fault,
        "OpenAIFault": OpenAIFault,
    }
    mode: JsonSchemaMode = "validation"
    adapters = [(name, mode, TypeAdapter(kind)) for name, kind in types.items()]
    found, shared = TypeAdapter.json_schemas(adapters, ref_template=REFERENCE)
    schemas = {name: schema for (name, _), schema in found.items()}
    paths: dict[str, dict[str, Any]] = {}
    for path, told in TOLD.items():
        paths.setdefault(path, {})["get"] = _describe_told(path, told, schemas)
    for path, asked in ASKED.items():
        paths.setdefault(path, {})["post"] = _describe_asked(path, asked, schemas)
    summary = ", ".join(f"{name} {value:,}" for name, value in limits.model_dump().items())
    return {
        "openapi": "3.1.0",
        "info": {"title": "Understudy", "version": VERSION, "description": f"Limits of this service: {summary}."},
        "paths": paths,
        "components": {"schemas": shared.get("$defs", {}), "securitySchemes": admin.SCHEMES},
        "security": admin.EITHER_WAY,
    }


def _describe_asked(path: str, asked: _Asked, schemas: Mapping[str, Any]) -> dict[str, Any]:
    header = {"name": "X-Model", "in": "header", "schema": {"type": "string"}, "description": "Which model answers."}
    bodies = [schemas[request.__name__] for request in asked.requests]
    schema = bodies[0] if len(bodies) == 1 else {"anyOf": bodies}
    done = _answer(asked.summary, schemas[f"POST {path}"], asked.example)
    if not asked.admin:
        done["headers"] = {
            name: {"schema": {"type": "string"}, "description": description} for name, description in PHASES.items()
        }
    return {
        "summary": asked.summary,
        "operationId": _identify("post", path),
        **({"security": admin.WITH_KEY} if asked.admin else {"parameters": [header, TIMEOUT_PARAMETER]}),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "examples": _examples_of(asked.requests)}},
        },
        "responses": {"200": done, **_faults(path, FAULTS | (admin.SWAP_FAULTS if asked.admin else {}) | ANY_FAULTS)},
    }


def _describe_told(path: str, told: _Told, schemas: Mapping[str, Any]) -> dict[str, Any]:
    faults = ANY_FAULTS | ({"503": "A model is not warm yet."} if path == "/health" else {})
    content = {told.media_type: {"schema": schemas[path]}}
    return {
        "summary": told.summary,
        "operationId": _identify("get", path),
        "responses": {"200": {"description": told.summary, "content": content}, **_faults(path, faults)},
    }


def _identify(method: str, path: str) -> str:
    return "_".join([method, *(part.replace(".", "_") for part in path.split("/") if part)])


def _faults(path: str, faults: Mapping[str, str]) -> dict[str, Any]:
    """In the shape of the family that `path` belongs to."""
    schema = {"$ref": REFERENCE.format(model="OpenAIFault" if path.startswith(OPENAI) else "Fault")}
    return {status: _answer(text, schema, tell(EXAMPLES[status], path)) for status, text in sorted(faults.items())}


def _answer(description: str, schema: Any, example: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}


def _examples_of(requests: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    """A body for each example of a field that has one, the other such fields at their first example."""
    bodies: dict[str, Any] = {}
    for request in requests:
        given = {name: field.examples for name, field in request.model_fields.items() if field.examples}
        first = {name: examples[0] for name, examples in given.items()}
        for name, examples in given.items():
            for example in examples:
                body = first | {name: example}
                if body not in [each["value"] for each in bodies.values()]:
                    bodies[f"{request.__name__}-{len(bodies) + 1}"] = {"value": body}
    return bodies
