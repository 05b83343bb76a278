"""The OpenAPI 3.1 description of the routes, its schemas taken from the request models themselves."""

from typing import Any

from pydantic.json_schema import models_json_schema

from serve.requests import EmbedRequest, Limits, PredictRequest

REFERENCE = "#/components/schemas/{model}"

FAULT = {
    "type": "object",
    "required": ["error", "error_type"],
    "properties": {"error": {"type": "string"}, "error_type": {"type": "string"}},
}
LABELS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["label", "score"],
        "properties": {"label": {"type": "string"}, "score": {"type": "number"}},
    },
}
PREDICTIONS = {"oneOf": [LABELS, {"type": "array", "items": LABELS}]}
VECTORS = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}

FAULTS = {
    "400": "The body is not JSON in UTF-8.",
    "404": "There is no such model.",
    "405": "The route does not take that method.",
    "408": "The body did not arrive in time.",
    "413": "The body, the number of texts or a text is too large.",
    "415": "The body is not declared to be JSON.",
    "422": "The JSON is not of the shape asked for, or holds no text.",
    "429": "Too much waits already; Retry-After says for how many seconds to stay away.",
    "500": "A fault of the service.",
}
PHASES = ("x-model", "x-tokenization-time", "x-queue-time", "x-inference-time")


def describe_api(limits: Limits) -> dict[str, Any]:
    """The document, with the limits in force spelled out."""
    _, schemas = models_json_schema(
        [(PredictRequest, "validation"), (EmbedRequest, "validation")], ref_template=REFERENCE
    )
    summary = ", ".join(f"{name} {value:g}" for name, value in limits.model_dump().items())
    return {
        "openapi": "3.1.0",
        "info": {"title": "Understudy", "version": "1", "description": f"Limits of this service: {summary}."},
        "paths": {
            "/predict": {"post": _ask("Probability of each label, highest first.", "PredictRequest", PREDICTIONS)},
            "/embed": {"post": _ask("One vector for each text.", "EmbedRequest", VECTORS)},
            "/info": {"get": _tell("Models, limits, threads, digests and versions.", "application/json")},
            "/health": {"get": _tell("200 once every model is warm, else 503.", "application/json")},
            "/metrics": {"get": _tell("Metrics in the text format of Prometheus.", "text/plain")},
        },
        "components": {"schemas": {**schemas["$defs"], "Fault": FAULT}},
    }


def _ask(summary: str, model: str, answer: dict[str, Any]) -> dict[str, Any]:
    header = {"name": "X-Model", "in": "header", "schema": {"type": "string"}, "description": "Which model answers."}
    faults = {status: _answer(text, _reference("Fault")) for status, text in FAULTS.items()}
    done = _answer(summary, answer) | {"headers": {name: {"schema": {"type": "string"}} for name in PHASES}}
    return {
        "summary": summary,
        "parameters": [header],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _reference(model)}}},
        "responses": {"200": done, **faults},
    }


def _tell(summary: str, media_type: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": summary, "content": {media_type: {}}}}}


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _reference(model: str) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model)}
