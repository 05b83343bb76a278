"""`understudy verify DIR`: is this what was sealed, and are its origins what it was made from?"""

from pathlib import Path
from typing import Any

from artifact.errors import ArtifactError
from artifact.manifest import Manifest, find_faults, open_artifact, read_manifest


def verify(directory: Path) -> list[str]:
    """What was verified, a line each; raises `ArtifactError` naming every file and origin that is not as sealed."""
    manifest = open_artifact(directory)
    faults = [fault for name in manifest.lineage for fault in _origin_faults(directory, manifest, name)]
    if faults:
        raise ArtifactError(f"{directory} is whole, but its origins are not:\n" + "\n".join(f"  {f}" for f in faults))
    size_bytes = sum(record.size_bytes for record in manifest.files.values())
    return [
        f"{directory} is a {manifest.kind}, sealed {manifest.created}",
        f"  digest   {manifest.digest}",
        f"  recipe   {manifest.recipe}",
        f"  files    {len(manifest.files)}, {size_bytes:,} bytes, all as sealed",
        *(
            f"  from     {name} {origin.digest[:12]} {_where(directory, origin.path)}"
            for name, origin in manifest.lineage.items()
        ),
        *(f"  parity   {line}" for line in _parity_lines(manifest.facts)),
    ]


def _origin_faults(directory: Path, manifest: Manifest, name: str) -> list[str]:
    origin = manifest.lineage[name]
    path = directory / origin.path
    if not origin.path or not path.is_dir():
        return []
    found = read_manifest(path)
    if found.digest != origin.digest:
        return [f"{name} at {path} has digest {found.digest[:12]}, this was made from {origin.digest[:12]}"]
    return [f"{name} at {path}: {fault}" for fault in find_faults(path, found)]


def _where(directory: Path, path: str) -> str:
    if not path:
        return "(outside)"
    return path if (directory / path).is_dir() else f"{path} (not here)"


def _parity_lines(facts: dict[str, Any]) -> list[str]:
    precisions: dict[str, Any] = facts.get("precisions", {})
    return [f"{name} {_flat(about['parity'])}" for name, about in precisions.items() if "parity" in about]


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (
            f"{k} {v:.2g}" if isinstance(v, float) else f"{k} {v}"
            for k, v in value.items()
            if not isinstance(v, dict | list)
        )
        return ", ".join(pairs)
    return str(value)
