"""Run a stage exactly once: fresh is skipped, interrupted goes on, an output of another recipe is never overwritten.

stage = Stage(kind="model", out=Path("out/demo/student"), name="distill", version=1, config=config, inputs={...})
manifest = run_stage(stage, work=lambda directory: facts, force=False)
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from artifact.config import Config
from artifact.errors import ArtifactError, RecipeMismatchError
from artifact.manifest import (
    MANIFEST,
    WORKING,
    Manifest,
    Origin,
    Request,
    open_artifact,
    read_manifest,
    seal,
    write_json,
)

Work = Callable[[Path], Mapping[str, Any]]
"""Fills a directory and returns the facts measured on the way."""


Result = TypeVar("Result")


class State(Enum):
    """What an output directory is, seen from a stage about to run."""

    FRESH = "fresh"
    """Sealed, from this very recipe: nothing to do."""
    NEW = "new"
    """Nothing there: run."""
    INTERRUPTED = "interrupted"
    """Begun from this very recipe, not sealed: go on."""
    OTHER = "other"
    """Made, or begun, from another recipe: refuse unless forced."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One piece of work: what is asked, of which sealed inputs, into which directory."""

    name: str
    """`data`, `distill`, `export`, `floor`, `calibration`, `baseline`, `evaluate`, `bench`, `report`, `selection` or
    `package`."""
    version: int
    kind: str
    """Kind of the artefact that comes out."""
    out: Path
    config: Config
    inputs: Mapping[str, Path] = field(default_factory=dict)
    """Sealed directories this stage reads, by name."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Digests of inputs that are no artefacts of ours, such as a data file or a teacher from the Hub."""
    keeps: tuple[str, ...] = ()
    """What an interrupted run may leave that the work goes on from, as patterns below `out`; the rest is lost."""

    @property
    def can_go_on(self) -> bool:
        """Whether an interrupted run left something to go on from."""
        return any(any(self.out.glob(pattern)) for pattern in self.keeps)


def digest_sealed(directory: Path) -> str:
    """Digest of what was sealed in `directory`; raises `ArtifactError` when nothing was."""
    return read_manifest(directory).digest


def request_of(stage: Stage, digest_input: Callable[[Path], str] = digest_sealed) -> tuple[Request, dict[str, Origin]]:
    """What `stage` asks for and where its inputs lie; raises `ArtifactError` when an input is not sealed.

    `digest_input` names an input by something else than its content, for a request whose inputs are not made yet.
    """
    inputs = dict(stage.digests)
    lineage = {name: Origin(digest=digest, path="") for name, digest in stage.digests.items()}
    for name, directory in stage.inputs.items():
        inputs[name] = digest_input(directory)
        lineage[name] = Origin(digest=inputs[name], path=_relative(directory, stage.out))
    # What is left out is not asked for: a new optional field must not make every older output another recipe's.
    config = stage.config.model_dump(mode="json", exclude_none=True)
    return Request(stage=stage.name, version=stage.version, config=config, inputs=inputs), lineage


def find_state(out: Path, request: Request) -> State:
    """Which of the four states `out` is in; `ArtifactError` when it is fresh but damaged, or not ours at all."""
    if (out / MANIFEST).exists():
        manifest = read_manifest(out)
        if manifest.recipe != request.recipe:
            return State.OTHER
        open_artifact(out)
        return State.FRESH
    if (out / WORKING).exists():
        return State.INTERRUPTED if _begun(out) == request else State.OTHER
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ArtifactError(f"{out} exists and was not made by understudy", "name another directory with --out")
    return State.NEW


def run_stage(
    stage: Stage, work: Work, *, force: bool = False, announce: Callable[[State], None] | None = None
) -> Manifest:
    """The sealed output of `stage`, worked for only when it is not there yet; `announce` hears the state first.

    `force` replaces an output that another recipe made, or that was damaged. Raises `RecipeMismatchError` without it,
    `ArtifactError` when an input is not sealed, another run holds the directory, or it cannot be written.
    """
    request, lineage = request_of(stage)
    with _exclusive(stage.out):
        state = _state_or_replace(stage, request, force)
        if announce is not None:
            announce(state)
        if state is State.FRESH:
            return read_manifest(stage.out)
        if state is State.NEW or not stage.can_go_on:
            _clear(stage.out)
        _writable(stage.out, lambda: stage.out.mkdir(parents=True, exist_ok=True))
        write_json(stage.out / WORKING, request.model_dump(mode="json"))
        for directory in stage.inputs.values():
            open_artifact(directory)
        facts = work(stage.out)
        return seal(stage.out, kind=stage.kind, request=request, lineage=lineage, facts=facts)


def differing_fields(before: Any, now: Any, path: str = "") -> list[str]:
    """Where two JSON trees differ: `path: before -> now`, one line a leaf."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        return [line for key in keys for line in differing_fields(before.get(key), now.get(key), f"{path}.{key}")]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return [line for index, (a, b) in pairs for line in differing_fields(a, b, f"{path}.{index}")]
    return [] if before == now else [f"{path.lstrip('.')}: {_shorten(before)} -> {_shorten(now)}"]


def _state_or_replace(stage: Stage, request: Request, force: bool) -> State:
    out = stage.out
    try:
        state = find_state(out, request)
    except ArtifactError:
        if not force or not ((out / MANIFEST).exists() or (out / WORKING).exists()):
            raise
        state = State.OTHER
    if state is State.OTHER and not _worth_keeping(stage):
        return State.NEW
    if state is not State.OTHER:
        return state
    if not force:
        raise RecipeMismatchError(_explain(out, request), "add --force to replace it, or keep both with another --out")
    _clear(out)
    return State.NEW


def _worth_keeping(stage: Stage) -> bool:
    """Whether work would be lost: a sealed output, or a part of one that a run could go on from."""
    return stage.can_go_on or (stage.out / MANIFEST).exists()


def _explain(out: Path, request: Request) -> str:
    begun = read_manifest(out).request if (out / MANIFEST).exists() else _begun(out)
    if begun is None:
        return f"{out} was begun by another version of understudy"
    lines = differing_fields(begun.model_dump(mode="json"), request.model_dump(mode="json"))
    more = [f"... and {len(lines) - 8} more"] if len(lines) > 8 else []
    return f"{out} was made from another recipe:\n" + "\n".join(f"    {line}" for line in lines[:8] + more)


def _begun(out: Path) -> Request | None:
    try:
        return Request.model_validate(json.loads((out / WORKING).read_text(encoding="utf-8")))
    except ValueError:
        return None


def _clear(out: Path) -> None:
    if out.exists():
        _writable(out, lambda: shutil.rmtree(out))


@contextlib.contextmanager
def _exclusive(out: Path) -> Iterator[None]:
    """Hold `out` against a second run; the kernel lets go when the process ends, however it ends."""
    _writable(out, lambda: out.parent.mkdir(parents=True, exist_ok=True))
    path = out.parent / f".{out.name}.lock"
    with _writable(out, lambda: path.open("w")) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ArtifactError(f"another run is working on {out}", "wait for it, or name another --out") from None
        yield


def _writable(out: Path, action: Callable[[], Result]) -> Result:
    try:
        return action()
    except OSError as error:
        hint = "name a directory you may write to with --out"
        raise ArtifactError(f"cannot write {out}: {error.strerror} ({error.filename})", hint) from None


def _relative(directory: Path, out: Path) -> str:
    """`directory` as seen from `out`, so that an output folder can be moved as a whole."""
    return Path(os.path.relpath(directory.resolve(), out.resolve())).as_posix()


def _shorten(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 48 else text[:45] + "..."
