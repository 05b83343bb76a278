"""`understudy verify DIR`: is this what was sealed, of what it was made from, and does it still answer as it did?"""

from pathlib import Path
from typing import Any

from artifact.errors import ArtifactError
from artifact.manifest import Manifest, find_faults, open_artifact, read_manifest


def verify(directory: Path) -> list[str]:
    """What was verified, a line each: files, origins back to the first, and for a bundle its answers, asked again.

    Raises `ArtifactError` naming every file and origin that is not as sealed, `ParityError` when a graph of a bundle no
    longer answers as it did or has lost nodes it was fast by.
    """
    manifest = open_artifact(directory)
    lines, faults = _trace(directory, manifest)
    if faults:
        raise ArtifactError(f"{directory} is whole, but its origins are not:\n" + "\n".join(f"  {f}" for f in faults))
    size_bytes = sum(record.size_bytes for record in manifest.files.values())
    return [
        f"{directory} is a {manifest.kind}, sealed {manifest.created}",
        f"  digest   {manifest.digest}",
        f"  recipe   {manifest.recipe}",
        f"  files    {len(manifest.files)}, {size_bytes:,} bytes, all as sealed",
        *(f"  from     {line}" for line in lines),
        *(f"  parity   {line}" for line in _parity_lines(manifest.facts)),
        *(f"  again    {line}" for line in _prove_again(directory, manifest)),
    ]


def _trace(directory: Path, manifest: Manifest, depth: int = 0) -> tuple[list[str], list[str]]:
    """Origins, and theirs, as far as they lie here: a line each, and what is not as it was."""
    lines, faults = [], []
    for name, origin in manifest.lineage.items():
        lines.append(f"{'  ' * depth}{name} {origin.digest[:12]} {_where(directory, origin.path)}")
        path = directory / origin.path
        if not origin.path or not path.is_dir():
            continue
        found = read_manifest(path)
        if found.digest != origin.digest:
            faults.append(f"{name} at {path} has digest {found.digest[:12]}, this was made from {origin.digest[:12]}")
        faults += [f"{name} at {path}: {fault}" for fault in find_faults(path, found)]
        further, more = _trace(path, found, depth + 1)
        lines += further
        faults += more
    return lines, faults


def _prove_again(directory: Path, manifest: Manifest) -> list[str]:
    if manifest.kind != "bundle":
        return []
    from export.proof import prove_again

    parity = manifest.request.config.get("parity", {})
    return prove_again(directory, manifest.facts, parity.get("float32_max_abs_error", 0.0))


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
