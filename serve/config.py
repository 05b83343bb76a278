"""How the service behaves beyond which bundles it serves: the file of `understudy serve --config FILE`."""

from pathlib import Path

from artifact.config import Config, parse_config, read_yaml
from serve.limits import Limits
from serve.trust.config import CascadeConfig, ShadowConfig


class ServiceConfig(Config):
    """The whole file; every part may be left out."""

    limits: Limits = Limits()
    cascades: dict[str, CascadeConfig] | None = None
    """By the name that requests ask for."""
    shadow: ShadowConfig | None = None


def read_service_config(path: Path | None) -> ServiceConfig:
    """The file's content, all defaults for None; `ConfigError` that lists every fault, with its place."""
    if path is None:
        return ServiceConfig()
    config = parse_config(ServiceConfig, read_yaml(path), where=str(path))
    cascades = config.cascades and {name: each.below(path.parent) for name, each in config.cascades.items()}
    return config.model_copy(
        update={"cascades": cascades, "shadow": config.shadow and config.shadow.below(path.parent)}
    )
