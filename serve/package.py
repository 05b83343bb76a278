"""Bundles to a Bento: a directory that `bentoml serve DIR` starts wherever the `serve` extra is installed.

The Bento is built in a store of its own, so the user's is left alone, and is kept unpacked: then its files can
be sealed, and verified, one by one.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifact.config import Config, read_yaml
from artifact.digest import hash_file, hash_json
from artifact.errors import ServeError
from artifact.manifest import MANIFEST, read_manifest, write_json
from artifact.stage import Stage, Work
from serve.lock import lock
from serve.settings import (
    PACKAGED,
    PACKAGED_CONFIG,
    PACKAGED_SERVICE,
    PACKAGED_SETTINGS,
    PackagedSettings,
    Settings,
    check_settings,
)

BENTO = "bento"
"""Folder of the Bento inside the output directory."""

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("serve", "artifact")
BENTOFILE = "bentofile.yaml"
REQUIREMENTS = "env/python/requirements.txt"
LOCK = "env/python/requirements.lock.txt"
"""Installed instead of the former where it is there: by the script that BentoML puts beside it, and by our image."""

VERSION = 3


class PackageRequest(Config):
    """What is asked of this stage; the bundles are its inputs."""

    default: str
    """Model that answers when a request names none."""


def package_stage(
    bundles: Mapping[str, Path], default: str, out: Path, *, service: Path | None = None
) -> tuple[Stage, Work]:
    """The stage that builds the Bento of `bundles`, and its work; `service` is as in `package`, sealed."""
    inputs = {f"bundle:{name}": directory for name, directory in bundles.items()}
    if service is not None:
        inputs["service"] = service
    config = PackageRequest(default=default)
    stage = Stage(name="package", version=VERSION, kind="package", out=out, config=config, inputs=inputs)
    return stage, lambda directory: package(bundles, default, directory, service=service)


def package(bundles: Mapping[str, Path], default: str, out: Path, *, service: Path | None = None) -> dict[str, Any]:
    """Build a Bento of `bundles`, by model name, into `out/bento`; the facts measured on it.

    `default` is the model that answers when a request names none. `service` is a folder with a `service.yaml`, as
    `understudy serve --config` takes one, and the files that it names; the Bento serves by it. Raises `ArtifactError`
    when a bundle is damaged, `ServeError` when none has that model, when a cascade does not fit the bundles, or when
    BentoML does not build.
    """
    config = service and service / PACKAGED_CONFIG
    check_settings(Settings(bundles=dict(bundles), default=default, config=config))
    with tempfile.TemporaryDirectory(prefix="understudy-") as temporary:
        context, home = Path(temporary, "context"), Path(temporary, "home")
        _stage(bundles, default, context, service)
        bento = _build(context, home, _version(bundles, default, service))
        shutil.move(bento, out / BENTO)
    locked = lock(_read_requirements(out / BENTO))
    (out / BENTO / LOCK).write_text("".join(f"{line}\n" for line in locked), encoding="utf-8")
    return _measure(out / BENTO)


def _stage(bundles: Mapping[str, Path], default: str, context: Path, service: Path | None) -> None:
    """The build context: our sources, the bentofile, copies of the bundles and of the service's files."""
    ignored = shutil.ignore_patterns("__pycache__")
    for source in SOURCES:
        shutil.copytree(ROOT / source, context / source, ignore=ignored)
    shutil.copy(ROOT / BENTOFILE, context / BENTOFILE)
    folders = {name: name.replace("/", "-") for name in bundles}
    for name, directory in bundles.items():
        shutil.copytree(directory, context / PACKAGED / folders[name])
    if service is not None:
        shutil.copytree(service, context / PACKAGED / PACKAGED_SERVICE, ignore=shutil.ignore_patterns(MANIFEST))
    settings = PackagedSettings(default=default, bundles=folders)
    write_json(context / PACKAGED / PACKAGED_SETTINGS, settings.model_dump(mode="json"))


def _version(bundles: Mapping[str, Path], default: str, service: Path | None) -> str:
    """Part of the tag: the same bundles give the same Bento, and the tag says so."""
    digests = {name: read_manifest(directory).digest for name, directory in bundles.items()}
    named = {"default": default, "bundles": digests}
    if service is not None:
        named["service"] = {path.name: hash_file(path) for path in sorted(service.iterdir()) if path.is_file()}
    return hash_json(named)[:16]


def _build(context: Path, home: Path, version: str) -> Path:
    """Run `bentoml build` in a process of its own, since it imports the service from the context, not ours."""
    environment = {**os.environ, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    command = [sys.executable, "-m", "bentoml", "build", str(context), "--version", version]
    done = subprocess.run(command, cwd=context, env=environment, capture_output=True, text=True, check=False)
    built = sorted(home.glob("bentos/*/*/bento.yaml"))
    if done.returncode or len(built) != 1:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise ServeError("bentoml build failed: " + (lines[-1].strip() if lines else f"exit {done.returncode}"))
    return built[0].parent


def _measure(bento: Path) -> dict[str, Any]:
    """What came out: the tag, sizes in bytes by top-level folder, the packages asked for, and their lock."""
    description = read_yaml(bento / "bento.yaml")
    sizes = {path.relative_to(bento).as_posix(): path.stat().st_size for path in bento.rglob("*") if path.is_file()}
    content: dict[str, int] = {}
    for name, size in sizes.items():
        content[_folder_of(name)] = content.get(_folder_of(name), 0) + size
    return {
        "tag": f"{description['name']}:{description['version']}",
        "size_bytes": sum(sizes.values()),
        "content_bytes": dict(sorted(content.items())),
        "packages": _read_requirements(bento),
        "locked": (bento / LOCK).read_text(encoding="utf-8").splitlines(),
    }


def _read_requirements(bento: Path) -> list[str]:
    lines = (bento / REQUIREMENTS).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def _folder_of(name: str) -> str:
    """`src/bundles/student/onnx/model.onnx` counts for `bundles/student`, other sources for their folder."""
    parts = name.split("/")
    depth = 3 if parts[:2] == ["src", PACKAGED] else 2
    return "/".join(parts[1:depth]) if parts[0] == "src" else parts[0]
