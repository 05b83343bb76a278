"""Where a pretrained model lies: an installed package, a directory, or the Hugging Face Hub."""

import importlib.util
from pathlib import Path

from artifact.errors import ModelError

WANTED_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.py")
"""What is fetched from the Hub: weights as safetensors only, never a pickle."""


def locate(source: str) -> Path:
    """The local directory of `source`: `package:NAME/path`, a directory, or a Hub id (fetched on first use).

    Raises `ModelError` when there is no such thing, or when it carries no safetensors weights.
    """
    directory = _directory_of(source)
    if not (directory / "config.json").is_file():
        raise ModelError(f"{source} holds no config.json", "name a model directory in Hugging Face format")
    if not list(directory.glob("*.safetensors")):
        hint = "convert it once with `model.save_pretrained(DIR)`; pickled weights are never loaded"
        raise ModelError(f"{source} holds no safetensors weights", hint)
    return directory


def _directory_of(source: str) -> Path:
    if source.startswith("package:"):
        return _package_directory(source.removeprefix("package:"))
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1:
        raise ModelError(f"there is no directory {source}", "name a directory, a Hub id, or package:NAME/path")
    return _hub_directory(source)


def _package_directory(name: str) -> Path:
    package, _, inside = name.partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        hint = f"`pip install {package.replace('_', '-')}`, or name another teacher"
        raise ModelError(f"the package {package!r} is not installed", hint)
    directory = Path(spec.submodule_search_locations[0]) / inside
    if not directory.is_dir():
        raise ModelError(f"the package {package!r} has no folder {inside!r}")
    return directory


def _hub_directory(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(name, allow_patterns=list(WANTED_FILES)))
    except HFValidationError:
        raise ModelError(f"{name!r} is neither a directory nor a Hub id") from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        hint = "check the id and the connection, or give the path of a local copy"
        raise ModelError(f"cannot fetch {name!r} from the Hub: {reason}", hint) from None
