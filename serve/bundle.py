"""A bundle on disk: graphs by precision, a tokenizer, and `understudy.json`, which says what they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from artifact.config import Config, parse_config, read_yaml
from artifact.errors import ArtifactError, ConfigError
from artifact.manifest import open_artifact
from serve.engine import Problem, Side
from serve.external import check_external_data

DESCRIPTION = "understudy.json"
TOKENIZER = "tokenizer.json"


BY_TOKEN: Mapping[str, Problem] = {"token-classification": "token-labels", "question-answering": "answer-span"}
"""Tasks whose graphs say something of every token, and what."""


class Padding(Config):
    """How short texts are filled up to the longest of their batch."""

    id: int = Field(ge=0)
    token_type_id: int = Field(default=0, ge=0)
    side: Literal["left", "right"] = "right"


class Pooling(Config):
    """How the graph makes one vector of a text."""

    mode: Literal["mean", "cls", "max"] = "mean"
    normalize: bool = True


class DomainGate(Config):
    """When a text counts as unlike those the model knows, for one precision."""

    threshold: float = Field(gt=0)
    """A text farther than this is out of domain."""
    quantile: float = Field(gt=0, lt=1)
    """The share of held-out texts that the threshold lets pass."""
    fitted_texts: int = Field(gt=0)
    held_out_texts: int = Field(gt=0)


class BundleInfo(Config):
    """`understudy.json`: everything serving needs to know that the graph does not say."""

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Model, such as `student`."""
    task: Literal["classification", "ranking", "token-classification", "question-answering", "embedding"]
    problem: Problem | None = None
    """What the columns of a classifier's logits are; None for any other task."""
    pooling: Pooling = Pooling()
    labels: tuple[str, ...] = ()
    """Columns of the logits."""
    max_tokens: int = Field(gt=0)
    """Longest input in tokens, special ones included."""
    precisions: dict[str, str] = Field(min_length=1)
    """Graph file of each precision; the first is the one meant when none is named."""
    outputs: dict[str, tuple[str, ...]]
    """Axes of each output of the graph."""
    embedding_size: int = Field(ge=0)
    padding: Padding
    inputs: tuple[str, ...]
    """Names of the graph's inputs."""
    truncation_side: Side = "right"
    """Which end of a text that is too long was dropped in training, and is where a request does not say."""
    domain: dict[str, DomainGate] | None = None
    """By precision, where the graphs measure how far a text is from those the model knows."""

    @property
    def means(self) -> Problem | None:
        """What the logits are; None where they rank, or where there are none."""
        return self.problem or BY_TOKEN.get(self.task)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle whose every file was found to be as sealed."""

    directory: Path
    info: BundleInfo
    digest: str

    def graph(self, precision: str | None = None) -> tuple[str, Path]:
        """The precision meant and its graph; `ArtifactError` when the bundle has no such precision."""
        chosen = precision or next(iter(self.info.precisions))
        if chosen not in self.info.precisions:
            offered = ", ".join(self.info.precisions)
            raise ArtifactError(f"{self.directory} has no precision {chosen!r}", f"it has {offered}")
        return chosen, self.directory / self.info.precisions[chosen]


def open_bundle(directory: Path) -> Bundle:
    """The bundle at `directory`, its hashes verified and its description parsed.

    Raises `ArtifactError`: not sealed, not a bundle, a file missing or changed (named), a description that does not
    parse or names a file that was not sealed, or a graph that reads one.
    """
    manifest = open_artifact(directory, kind="bundle")
    info = _read_description(directory)
    unsealed = [name for name in (TOKENIZER, *info.precisions.values()) if name not in manifest.files]
    if unsealed:
        raise ArtifactError(f"{directory} lacks {', '.join(unsealed)}", "export it again with --force")
    for graph in info.precisions.values():
        check_external_data(directory, graph, manifest.files)
    return Bundle(directory=directory, info=info, digest=manifest.digest)


def size_of(graph: Path) -> int:
    """Bytes of a graph as stored, its weights included."""
    weights = graph.with_name(graph.name + "_data")
    return graph.stat().st_size + (weights.stat().st_size if weights.exists() else 0)


def _read_description(directory: Path) -> BundleInfo:
    path = directory / DESCRIPTION
    try:
        return parse_config(BundleInfo, read_yaml(path), where=str(path))
    except ConfigError as error:
        raise ArtifactError(error.problem, "export it again with --force") from None
