"""The `serve` extra in an environment of its own, and what that holds."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serve.package import ROOT

UNWANTED = ("torch", "transformers", "optimum", "onnx")
"""Packages that serving must not need."""

LIST = """
import importlib.metadata, importlib.util, json, sys
packages = {
    each.metadata["Name"].lower(): {
        "version": each.version,
        "size_bytes": sum(path.locate().stat().st_size for path in each.files or () if path.locate().is_file()),
    }
    for each in importlib.metadata.distributions()
}
found = [name for name in json.loads(sys.argv[1]) if importlib.util.find_spec(name)]
print(json.dumps({"packages": packages, "found": found}))
"""


def install(folder: Path, lock: Path) -> Path:
    """The interpreter of a new environment in `folder`, into which pip has installed `.[serve]` as `lock` has it."""
    source, environment = folder / "source", folder / "environment"
    # A copy, because setuptools leaves `build/` beside what it builds, and takes from it the next time.
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "out", "build", "node_modules", "*.egg-info"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    quiet = ["--quiet", "--disable-pip-version-check", "--progress-bar", "off"]
    pip = [sys.executable, "-m", "pip", "--python", python, "install", *quiet]
    subprocess.run([*pip, "--constraint", lock, f"{source}[serve]"], check=True)
    return python


def look(python: Path) -> dict[str, Any]:
    """Packages of the environment of `python` with version and bytes, and which of the unwanted ones it could import.

    Bytes are of the files that each package lists, compiled modules among them.
    """
    command = [python, "-I", "-c", LIST, json.dumps(UNWANTED)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def largest(packages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names by size, largest first."""
    return sorted(packages, key=lambda name: (-packages[name]["size_bytes"], name))
