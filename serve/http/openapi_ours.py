"""What `serve.http.openapi` says of our own routes: an entry each, like those of the others in its tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from serve.http.replies import Classification, FoundAnswer, TextSpan
from serve.http.requests_passages import AnswerRequest, ClassifyRequest, TagRequest


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A route that takes a body."""

    summary: str
    requests: tuple[type[BaseModel], ...]
    """Of the shapes a body may have."""
    reply: Any
    """Type of the answer."""
    example: Any
    """An answer."""
    admin: bool = False
    """Whether it is an admin's to ask, of no model."""


OURS: Mapping[str, Asked] = {
    "/tag": Asked(
        summary="The spans of a text, with their characters; a list of lists for a batch.",
        requests=(TagRequest,),
        reply=list[TextSpan] | list[list[TextSpan]],
        example=[{"label": "TIME", "score": 0.98, "start": 11, "end": 16, "text": "seven"}],
    ),
    "/answer": Asked(
        summary="Where a context answers a question, and how likely it does not; a list of several, or for a batch.",
        requests=(AnswerRequest,),
        reply=FoundAnswer | list[FoundAnswer] | list[list[FoundAnswer]],
        example={"answer": "at seven", "score": 0.91, "start": 8, "end": 16, "no_answer_score": 0.04},
    ),
    "/classify": Asked(
        summary="The best label and how far it may be trusted; a list for a batch.",
        requests=(ClassifyRequest,),
        reply=Classification | list[Classification],
        example={
            "model": "student/int8",
            "label": "alarm",
            "score": 0.97,
            "scores": [{"label": "alarm", "score": 0.97}, {"label": "music", "score": 0.03}],
            "answered_by": "student/int8",
            "confidence": 0.97,
            "out_of_domain": None,
            "escalated": False,
        },
    ),
}
