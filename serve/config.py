"""How the service behaves beyond which bundles it serves: the file of `understudy serve --config FILE`."""

from pathlib import Path

from artifact.config import Config, parse_config, read_yaml
from serve.limits import Limits


class ServiceConfig(Config):
    """The whole file; every part may be left out."""

    limits: Limits = Limits()


def read_service_config(path: Path | None) -> ServiceConfig:
    """The file's content, all defaults for None; `ConfigError` that lists every fault, with its place."""
    return ServiceConfig() if path is None else parse_config(ServiceConfig, read_yaml(path), where=str(path))
