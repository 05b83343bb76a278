"""The part of the service's file on choosing among candidates, and whether it fits the models that are served.

selection:
cross/int8: {none_threshold: 0.62, retriever: bi/int8, k: 10}
"""

from collections.abc import Mapping

from pydantic import Field

from artifact.config import Config
from artifact.errors import ServeError
from serve.engine import Described, kind_of

MOST_RESCORED = 10
"""Candidates that a retriever leaves to the model that reads pairs, where nobody says how many."""


class SelectionConfig(Config):
    """How one model chooses."""

    none_threshold: float | None = Field(default=None, ge=0, le=2)
    """No candidate is right where the score for it (1 less the best probability, or cosine) is above this.

    Of validation, never of a test; of this model in this precision.
    """
    digest: str | None = None
    """Of the bundle that the threshold was chosen for (`/info` lists them): none that is swapped in is judged by it."""
    retriever: str | None = None
    """`model/precision` of a served embedding, which picks the candidates that this model reads; None: it reads all."""
    k: int = Field(default=MOST_RESCORED, ge=1)
    """How many the retriever picks."""


def check_selection(models: Mapping[str, Described], config: Mapping[str, SelectionConfig]) -> None:
    """`ServeError` for a name that is not served, a model that puts nothing in order, a threshold of another bundle."""
    for name, asked in config.items():
        model = _find(models, name, "selection")
        kind = kind_of(model)
        if kind not in ("reranker", "embedding") or model.problem == "regression":
            raise ServeError(f"selection names {name}, which gives no chance of being right", "name a ranking model")
        digest = getattr(model, "digest", None)
        if asked.digest is not None and asked.digest != digest:
            raise ServeError(
                f"the threshold of {name} was chosen for the bundle {asked.digest[:12]}, served is {str(digest)[:12]}",
                "choose it again on validation, with the bundle that is served",
            )
        if asked.retriever is not None:
            if kind != "reranker":
                raise ServeError(f"{name} reads no pairs, so nothing can be left to it", "name its model as retriever")
            if kind_of(_find(models, asked.retriever, f"the retriever of {name}")) != "embedding":
                raise ServeError(f"the retriever {asked.retriever} is no embedding model", "name one of head: none")


def _find(models: Mapping[str, Described], name: str, where: str) -> Described:
    if name not in models:
        raise ServeError(f"{where} names {name!r}, which is not served", f"name one of {', '.join(models)}")
    return models[name]
