"""How the service behaves beyond which bundles it serves: the file of `understudy serve --config FILE`."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from artifact.config import Config, parse_config, read_yaml
from serve.limits import Limits

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


def read_service_config(path: Path | None) -> ServiceConfig:
    """The file's content, all defaults for None; `ConfigError` that lists every fault, with its place."""
    return ServiceConfig() if path is None else parse_config(ServiceConfig, read_yaml(path), where=str(path))


def follow_environment(config: ServiceConfig, environment: Mapping[str, str]) -> ServiceConfig:
    """`config`, with the collector of OpenTelemetry's own variable if it names none; `ConfigError` for no address."""
    endpoint = environment.get(COLLECTOR)
    if config.telemetry or not endpoint:
        return config
    telemetry = parse_config(Telemetry, {"endpoint": endpoint}, where=COLLECTOR)
    return config.model_copy(update={"telemetry": telemetry})
