"""What the OpenAPI description says of API keys and of `POST /admin/swap`."""

from typing import Any

from serve.http.replies import Swapped
from serve.http.requests import SwapRequest
from serve.problem import Problem

KEY_FAULTS = {
    "401": "The service asks for an API key, and none came that it accepts.",
    "421": "The service is not called by that name (Host header).",
}
"""Of any route."""
SWAP_FAULTS = {
    "403": "The key is not of role admin, or the config names no folder to swap from.",
    "404": "There is no such model or bundle.",
    "409": "Another swap is running, or the bundle cannot take the place of this one; nothing has changed.",
    "422": "The JSON is not of the shape asked for, or the bundle is damaged or does not run; nothing has changed.",
}
UNNAMED = "this service is not called 'example.org'; its config lists its names under `hosts`"
FAULT_EXAMPLES = {
    "401": Problem(401, "Unauthorized", "this API key is not accepted", code="invalid_api_key"),
    "403": Problem(403, "Forbidden", "this takes an API key of role admin"),
    "409": Problem(409, "Conflict", "another swap is running"),
    "421": Problem(421, "Validation", UNNAMED),
}
SWAP: dict[str, Any] = {
    "summary": "Another bundle for a model: verified, loaded and warm before it answers; no request fails meanwhile.",
    "requests": (SwapRequest,),
    "reply": Swapped,
    "example": {
        "model": "student",
        "from": "original",
        "to": "student-2",
        "digests": {"from": "9f86d081884c7d65", "to": "60303ae22b998861"},
        "seconds": 0.42,
    },
}
SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
WITH_KEY: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
EITHER_WAY = [{}, *WITH_KEY]
"""Whether a key is needed is the config's to say."""
