"""Manifest, seal and open: `manifest.json` is written last, so a directory without one is no artefact."""

import importlib.metadata
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from artifact.config import Config
from artifact.digest import RECORDS, hash_file, hash_json, list_files
from artifact.errors import ArtifactError

MANIFEST = "manifest.json"
WORKING = "working.json"

RECORDED_PACKAGES = (
    "torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnxruntime", "tokenizers", "bentoml", "numpy",
    "accelerate", "datasets", "scikit-learn",
)  # fmt: skip


class Request(Config):
    """What a stage was asked for; its hash, `recipe`, answers "need I run?"."""

    stage: str
    """Name of the stage, such as `distill`."""
    version: int
    """Version of the stage's own logic: raise it when the same config would give another result."""
    config: dict[str, Any]
    """The stage's config, as JSON."""
    inputs: dict[str, str]
    """Digest of each input, by the input's name."""

    @property
    def recipe(self) -> str:
        """SHA-256 of all of it."""
        return hash_json(self.model_dump(mode="json"))


class FileRecord(Config):
    """One file of an artefact."""

    sha256: str
    size_bytes: int


class Origin(Config):
    """Where one input came from."""

    digest: str
    path: str
    """Relative to the artefact's own directory when below the same output folder, else as it was given."""


class Manifest(Config):
    """What an artefact is: asked for by `request`, made from `lineage`, holding `files`, measured as `facts`."""

    schema_version: int = 1
    kind: str
    """`dataset`, `model`, `bundle`, `floor`, `calibration`, `evaluation`, `benchmark`, `report`, `selection` or
    `package`."""
    request: Request
    recipe: str
    """Hash of what was asked."""
    digest: str
    """Hash of what came out: the file hashes, `records/` left out."""
    files: dict[str, FileRecord]
    lineage: dict[str, Origin]
    facts: dict[str, Any]
    """What was measured; never what was merely asked for."""
    versions: dict[str, str]
    created: str
    """UTC, ISO 8601."""


def seal(
    directory: Path, *, kind: str, request: Request, lineage: Mapping[str, Origin], facts: Mapping[str, Any]
) -> Manifest:
    """Hash every file below `directory` and write its manifest, atomically and last."""
    files = {name: _record(directory / name) for name in list_files(directory)}
    manifest = Manifest(
        kind=kind,
        request=request,
        recipe=request.recipe,
        digest=digest_of(files),
        files=files,
        lineage=dict(lineage),
        facts=dict(facts),
        versions=installed_versions(),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    write_json(directory / MANIFEST, manifest.model_dump(mode="json"))
    (directory / WORKING).unlink(missing_ok=True)
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """The manifest of `directory`, its files not yet verified; `ArtifactError` when there is none or it is broken."""
    path = directory / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        missing = "is not sealed (no manifest.json)" if directory.is_dir() else "does not exist"
        raise ArtifactError(f"{directory} {missing}", "run the stage that makes it") from None
    except (OSError, ValidationError, ValueError) as error:
        raise ArtifactError(f"{path} is not a manifest: {str(error).splitlines()[0]}") from None
    for name in manifest.files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ArtifactError(f"{path} names a file outside its directory: {name!r}")
    return manifest


def open_artifact(directory: Path, kind: str | None = None) -> Manifest:
    """The manifest of `directory` after its files were verified.

    Raises `ArtifactError` when it is not sealed, not of `kind`, or when a file is missing or changed (named).
    """
    manifest = read_manifest(directory)
    if kind is not None and manifest.kind != kind:
        raise ArtifactError(f"{directory} is a {manifest.kind}, expected a {kind}")
    faults = list(find_faults(directory, manifest))
    if faults:
        raise ArtifactError(f"{directory} is not what was sealed: " + "; ".join(faults), "make it again with --force")
    return manifest


def find_faults(directory: Path, manifest: Manifest) -> list[str]:
    """What differs between the files on disk and the manifest, one line each; empty when all is as sealed."""
    faults = []
    for name, record in manifest.files.items():
        path = directory / name
        if not path.is_file():
            faults.append(f"{name} is missing")
        elif path.stat().st_size != record.size_bytes:
            faults.append(f"{name} has {path.stat().st_size} bytes, sealed with {record.size_bytes}")
        elif hash_file(path) != record.sha256:
            faults.append(f"{name} was changed (its SHA-256 is not the sealed one)")
    if manifest.digest != digest_of(manifest.files):
        faults.append("manifest.json was changed: its digest is not that of its files")
    if manifest.recipe != manifest.request.recipe:
        faults.append("manifest.json was changed: its recipe hash is not that of its request")
    return faults


def digest_of(files: Mapping[str, FileRecord]) -> str:
    """Hash over names and hashes of the files, logs left out."""
    return hash_json({name: record.sha256 for name, record in files.items() if not name.startswith(f"{RECORDS}/")})


def installed_versions() -> dict[str, str]:
    """Version of each package that can change a result, where installed."""
    found = {}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write_json(path: Path, value: Any, *, indent: int | None = 2) -> None:
    """Replace `path` in one step: a reader sees the old file or the new one, never half of either.

    Without `indent` it is one line.

    Raises `ArtifactError` when it cannot be written, such as on a full disk; nothing is left of it then.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=indent, ensure_ascii=False, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        hint = "make room, or name a directory you may write to with --out, and run the same command again"
        raise ArtifactError(f"cannot write {path}: {error.strerror}", hint) from None


def _record(path: Path) -> FileRecord:
    if path.is_symlink():
        raise ArtifactError(f"{path} is a symbolic link; an artefact holds plain files")
    return FileRecord(sha256=hash_file(path), size_bytes=path.stat().st_size)
