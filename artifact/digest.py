"""Hashes of what was asked and of what came out."""

import hashlib
import json
from pathlib import Path
from typing import Any

UNSEALED = ("manifest.json", "working.json")
"""Files of an artefact's directory that are about it, not part of it."""

RECORDS = "records"
"""Folder of logs inside an artefact: verified like the rest, but no part of the digest, since clocks differ."""


def hash_json(value: Any) -> str:
    """SHA-256 of the canonical JSON form: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_directory(directory: Path) -> str:
    """Digest of a directory not sealed by us, such as a teacher's; links are followed (the Hub cache has them)."""
    return hash_json({name: hash_file(directory / name) for name in list_files(directory)})


def list_files(directory: Path) -> list[str]:
    """Relative POSIX names of the files below `directory` that belong to the artefact, sorted."""
    files = (path for path in directory.rglob("*") if path.is_file())
    names = (path.relative_to(directory).as_posix() for path in files)
    return sorted(name for name in names if name not in UNSEALED and not _is_ours(name))


def _is_ours(name: str) -> bool:
    return name.endswith(".lock") or "__pycache__/" in name
