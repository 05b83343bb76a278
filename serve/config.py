"""How the service behaves beyond which bundles it serves: the file of `understudy serve --config FILE`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from artifact.config import Config, parse_config, read_yaml
from artifact.errors import ConfigError
from serve.keys import ApiKey
from serve.limits import Limits
from serve.selection.config import SelectionConfig
from serve.trust.config import CascadeConfig, ShadowConfig

Openable = Literal["/", "/docs", "/openapi.json", "/info", "/metrics", "/v1/models"]
"""Routes that tell of the service and ask no model."""
COLLECTOR = "OTEL_EXPORTER_OTLP_ENDPOINT"
"""Variable in which all that speaks OpenTelemetry looks for its collector."""


class Telemetry(Config):
    """Where spans of the requests go."""

    endpoint: str = Field(pattern=r"^https?://\S+$")
    """Base address of an OTLP collector over HTTP, as in `OTEL_EXPORTER_OTLP_ENDPOINT`."""
    service_name: str | None = Field(default=None, min_length=1)
    """None: `OTEL_SERVICE_NAME`, else understudy."""


class ServiceConfig(Config):
    """The whole file; every part may be left out."""

    limits: Limits = Limits()
    telemetry: Telemetry | None = None
    """None: as `OTEL_EXPORTER_OTLP_ENDPOINT` says, else no spans."""
    api_keys: tuple[ApiKey, ...] = ()
    """Keys that are accepted, as `understudy key` makes them; none: everybody may ask, and nobody may swap."""
    open_routes: tuple[Openable, ...] = ("/", "/docs", "/openapi.json")
    """What `GET` answers without a key; `/health` and BentoML's probes always do.

    By default what says no more than its source does: the page has to open before it can ask for a key.
    """
    hosts: tuple[str, ...] | None = None
    """Names under which the service may be called (Host headers, without port); None: any name."""
    swap_from: Path | None = None
    """Folder whose bundles `POST /admin/swap` may exchange a model for, seen from this file; None: no swaps."""

    @field_validator("api_keys")
    @classmethod
    def _each_once(cls, keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
        for names in ([key.name for key in keys], [key.sha256 for key in keys]):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{', '.join(twice)} stands twice")
        return keys

    cascades: dict[str, CascadeConfig] | None = None
    """By the name that requests ask for."""
    shadow: ShadowConfig | None = None
    selection: dict[str, SelectionConfig] | None = None
    """By `model/precision`, how it chooses among candidates at `/rerank`."""
    candidate_cache_bytes: int = Field(default=64 * 2**20, ge=0)
    """What each worker may spend on vectors of candidates that it was offered before; 0 keeps none."""


def read_service_config(path: Path | None) -> ServiceConfig:
    """The file's content, all defaults for None; `ConfigError` that lists every fault, with its place."""
    if path is None:
        return ServiceConfig()
    config = parse_config(ServiceConfig, read_yaml(path), where=str(path))
    update: dict[str, object] = {}
    if config.swap_from is not None:
        folder = (path.parent / config.swap_from).resolve()
        if not folder.is_dir():
            raise ConfigError(f"{path}: swap_from: there is no folder {folder}", "name one, seen from the config's own")
        update["swap_from"] = folder
    if config.cascades:
        update["cascades"] = {name: each.below(path.parent) for name, each in config.cascades.items()}
    if config.shadow:
        update["shadow"] = config.shadow.below(path.parent)
    return config.model_copy(update=update)


def follow_environment(config: ServiceConfig, environment: Mapping[str, str]) -> ServiceConfig:
    """`config`, with the collector of OpenTelemetry's own variable if it names none; `ConfigError` for no address."""
    endpoint = environment.get(COLLECTOR)
    if config.telemetry or not endpoint:
        return config
    telemetry = parse_config(Telemetry, {"endpoint": endpoint}, where=COLLECTOR)
    return config.model_copy(update={"telemetry": telemetry})
