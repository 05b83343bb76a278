"""What the service reads from its environment, or from the folder `bundles/` beside it inside a Bento.

UNDERSTUDY_BUNDLES   name=path pairs, separated as in PATH: `student=out/bundles/student:teacher=...`
                     (`student/int8=path` loads that precision alone)
UNDERSTUDY_DEFAULT   model that answers when a request names none: `student/int8`
UNDERSTUDY_CONFIG    file of limits and more: `serve.config`; left out, the one that a Bento carries
UNDERSTUDY_CACHE     folder of this service alone, for what its workers make once and share: `serve.packed`
UNDERSTUDY_HOME      folder where the workers agree on swaps; needed where there are several and the config allows swaps
UNDERSTUDY_HOSTS     names under which the service may be called, with commas between, beside those of the config
UNDERSTUDY_WORKERS   processes, 1 by default
UNDERSTUDY_THREADS   threads that compute in each; left out, an equal share of the cores
"""

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from artifact.config import Config, parse_config, read_yaml
from artifact.errors import ServeError
from serve.bundle import open_bundle
from serve.config import ServiceConfig, read_service_config
from serve.selection.config import check_selection
from serve.trust.check import Model, check_trust

BUNDLES = "UNDERSTUDY_BUNDLES"
DEFAULT = "UNDERSTUDY_DEFAULT"
CONFIG = "UNDERSTUDY_CONFIG"
CACHE = "UNDERSTUDY_CACHE"
HOME = "UNDERSTUDY_HOME"
HOSTS = "UNDERSTUDY_HOSTS"
WORKERS = "UNDERSTUDY_WORKERS"
THREADS = "UNDERSTUDY_THREADS"
CHECKED = "UNDERSTUDY_CHECKED"
"""Set by the command that has just checked the settings, so that BentoML's supervisor does not once more."""

PACKAGED = "bundles"
"""Folder of bundles beside `serve/`, where a Bento carries them."""
PACKAGED_SETTINGS = "service.json"
PACKAGED_SERVICE = ".service"
"""Folder below it of the service's own file and what that names; no model can be called so."""
PACKAGED_CONFIG = "service.yaml"


class PackagedSettings(Config):
    """`bundles/service.json`: what the Bento was built to answer with."""

    default: str
    bundles: dict[str, str] = Field(min_length=1)
    """Folder of each model's bundle, below `bundles/`."""


class Settings(Config):
    """Which bundles to serve, and how."""

    bundles: dict[str, Path] = Field(min_length=1)
    """By model, or by model/precision to load that precision alone."""
    default: str | None = None
    """None: the student, else the first model; in int8 where it has that."""
    config: Path | None = None
    """File of `serve.config.ServiceConfig`; None: all defaults."""


def read_settings(environment: Mapping[str, str], root: Path) -> Settings:
    """The settings in `environment`, else those packaged below `root`; `ServeError` when there are none."""
    default, config = environment.get(DEFAULT) or None, environment.get(CONFIG)
    more = {"config": Path(config) if config else None}
    if environment.get(BUNDLES):
        return Settings(bundles=parse_bundles(environment[BUNDLES]), default=default, **more)
    packaged = root / PACKAGED / PACKAGED_SETTINGS
    if not packaged.is_file():
        raise ServeError("there is no bundle to serve", f"set {BUNDLES}=name=path, or run `python -m serve BUNDLE`")
    found = parse_config(PackagedSettings, read_yaml(packaged), where=str(packaged))
    bundles = {name: root / PACKAGED / folder for name, folder in found.bundles.items()}
    ours = root / PACKAGED / PACKAGED_SERVICE / PACKAGED_CONFIG
    if more["config"] is None and ours.is_file():
        more["config"] = ours
    return Settings(bundles=bundles, default=default or found.default, **more)


def check_settings(settings: Settings) -> None:
    """Raises `ArtifactError` when a bundle is damaged or lacks a precision.

    `ServeError` when none has the default model, or when a cascade or the shadow does not fit the bundles.
    """
    config = read_service_config(settings.config)
    names: list[str] = []
    models: dict[str, Model] = {}
    for key, directory in settings.bundles.items():
        name, _, precision = key.partition("/")
        bundle = open_bundle(directory)
        found = [bundle.graph(precision)[0]] if precision else list(bundle.info.precisions)
        names += [name, *(f"{name}/{each}" for each in found)]
        model = Model(labels=bundle.info.labels, problem=bundle.info.means, digest=bundle.digest)
        models |= {f"{name}/{each}": model for each in found}
    names += check_trust(models, config)
    check_selection(models, config.selection or {})
    if settings.default is not None and settings.default not in names:
        problem = f"there is no model {settings.default!r} to answer by default"
        raise ServeError(problem, f"name one of {', '.join(names)}")


def home_from(environment: Mapping[str, str], workers: int, config: ServiceConfig) -> Path | None:
    """Where the workers agree on swaps; `ServeError` when several would swap and have no such place."""
    home = environment.get(HOME)
    if not home and workers > 1 and config.swap_from is not None:
        raise ServeError(f"{workers} workers cannot follow each other's swaps", f"set {HOME} to a folder of theirs")
    if not home:
        return None
    Path(home).mkdir(parents=True, exist_ok=True)
    return Path(home)


def with_hosts(config: ServiceConfig, environment: Mapping[str, str]) -> ServiceConfig:
    """`config`, its hosts joined by those of `environment`."""
    found = tuple(filter(None, environment.get(HOSTS, "").split(",")))
    return config.model_copy(update={"hosts": (*(config.hosts or ()), *found)}) if found else config


def parse_bundles(text: str) -> dict[str, Path]:
    """`name=path` pairs as written in `UNDERSTUDY_BUNDLES`; `ServeError` for anything else."""
    bundles: dict[str, Path] = {}
    for pair in filter(None, text.split(os.pathsep)):
        name, equals, path = pair.partition("=")
        if not (name and equals and path) or name in bundles:
            raise ServeError(f"{BUNDLES} holds {pair!r}", f"write name=path pairs, separated by {os.pathsep!r}")
        bundles[name] = Path(path)
    return bundles


def read_count(environment: Mapping[str, str], name: str) -> int | None:
    """A positive number of `environment`, None when it is not set; `ServeError` when it is no such number."""
    text = environment.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10_000):
        raise ServeError(f"{name} is {text!r}", "set it to a positive whole number")
    return int(text)
