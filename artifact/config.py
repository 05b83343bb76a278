"""Typed YAML: parse once at the door, refuse unknown keys, report every fault at once with its path."""

import difflib
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from artifact.errors import ConfigError


class Config(BaseModel):
    """Base of every config: frozen, keyword-only, no unknown keys, no NaN; field docstrings are its help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


ConfigType = TypeVar("ConfigType", bound=Config)


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys in silence; a recipe with two must be an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def load_config(kind: type[ConfigType], path: Path | None, overrides: Sequence[str] = ()) -> ConfigType:
    """The YAML file at `path` as `kind`, after `key.path=value` overrides (values are YAML); or these alone.

    Raises `ConfigError` naming every fault: a missing file, broken YAML, unknown keys, wrong types.
    """
    tree = read_yaml(path) if path is not None else {}
    for override in overrides:
        _apply(tree, override)
    return parse_config(kind, tree, where="the command line" if path is None else str(path))


def parse_config(kind: type[ConfigType], tree: Any, where: str) -> ConfigType:
    """`tree` as `kind`; `where` names its origin in errors."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        faults = [_describe(kind, fault) for fault in error.errors()]
        raise ConfigError(f"{where} has {_count(faults)}:\n" + "\n".join(f"  {f}" for f in faults)) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; `ConfigError` when it is missing, unreadable or not a mapping."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", "check the path; `ls recipes/` lists ours") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds {type(tree).__name__}, expected a mapping of keys to values")
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{override!r} is not an override", "write key.path=value, for example seed=2")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"the value of {override!r} is not valid YAML") from None
    *parents, last = key.split(".")
    node: Any = tree
    for depth, parent in enumerate(parents):
        node = _step(node, parent, ".".join(parents[: depth + 1]))
    if isinstance(node, list):
        node[_index(node, last, key)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ConfigError(f"override {key}: there is nothing to set inside a {type(node).__name__}")


def _step(node: Any, key: str, path: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, key, path)]
    if isinstance(node, dict):
        return node.setdefault(key, {})
    raise ConfigError(f"override {path}: its parent is a {type(node).__name__}, not a mapping")


def _index(node: list[Any], key: str, path: str) -> int:
    if key.isdigit() and int(key) < len(node):
        return int(key)
    raise ConfigError(f"override {path}: {key!r} is not one of the indices 0..{len(node) - 1}")


def _describe(kind: type[BaseModel], fault: Any) -> str:
    path = ".".join(str(part) for part in fault["loc"]) or "(the whole file)"
    if fault["type"] == "extra_forbidden":
        return f"{path}: unknown key{_suggestion(kind, fault['loc'])}"
    # A value error of ours names what it found; and what it was raised for may be a whole recipe.
    found = "" if fault["type"] in ("missing", "value_error") else f", found {_shorten(fault['input'])}"
    return f"{path}: {fault['msg'].removeprefix('Value error, ')}{found}"


def _suggestion(kind: type[BaseModel], location: tuple[int | str, ...]) -> str:
    names = sorted(_field_names(kind, set()))
    close = difflib.get_close_matches(str(location[-1]), names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _field_names(kind: Any, seen: set[Any]) -> set[str]:
    """Every field name reachable from `kind`: enough to guess what a misspelt key meant."""
    if kind in seen:
        return set()
    seen.add(kind)
    names: set[str] = set()
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            names |= {name} | _field_names(field.annotation, seen)
    for argument in getattr(kind, "__args__", ()):
        names |= _field_names(argument, seen)
    return names


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _count(faults: list[str]) -> str:
    return "one fault" if len(faults) == 1 else f"{len(faults)} faults"
