"""`python -m pipeline.reference` writes docs/recipes.md: every field of a recipe, from its own docstring."""

import sys
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.recipe import Recipe

INTRODUCTION = """# Recipes

One YAML file is one experiment, from data to gate. Unknown keys are refused, and all faults are reported at once,
each with its path. `key.path=value` on the command line overrides a field, also inside lists, as in
`models.student.phases.0.epochs=5`.

*This page is written by `make docs` from the program itself.*
"""


def render() -> str:
    """The whole page, in the order in which a reader of a recipe meets the types."""
    return INTRODUCTION + "".join(_section(kind) for kind in _reachable(Recipe, {}))


def _reachable(kind: Any, seen: dict[type[BaseModel], None]) -> dict[type[BaseModel], None]:
    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in seen:
        seen[kind] = None
        for field in kind.model_fields.values():
            _reachable(field.annotation, seen)
    for argument in get_args(kind):
        _reachable(argument, seen)
    return seen


def _section(kind: type[BaseModel]) -> str:
    rows = "".join(_row(name, field) for name, field in kind.model_fields.items())
    about = " ".join((kind.__doc__ or "").split())
    return f"\n## {kind.__name__}\n\n{about}\n\n| field | type | default | meaning |\n|---|---|---|---|\n{rows}"


def _row(name: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"`{_value(field.get_default(call_default_factory=True))}`"
    meaning = " ".join((field.description or "").split())
    cells = (f"`{name}`", _type(field.annotation), default, meaning)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def _value(value: Any) -> str:
    if isinstance(value, BaseModel):
        return type(value).__name__
    return "none" if value is None else str(list(value) if isinstance(value, tuple) else value)


def _type(kind: Any) -> str:
    return " or ".join(dict.fromkeys(_names(kind)))


def _names(kind: Any) -> Iterator[str]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        yield from (f"`{argument}`" for argument in arguments)
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from _names(argument)
    elif origin is Annotated:
        yield from _names(arguments[0])
    elif origin is tuple:
        yield f"list of {_type(arguments[0])}"
    elif origin is dict:
        yield f"mapping of {_type(arguments[0])} to {_type(arguments[1])}"
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        yield f"[{kind.__name__}](#{kind.__name__.lower()})"
    else:
        yield {"str": "text", "int": "whole number", "float": "number", "bool": "true/false", "Path": "path"}.get(
            getattr(kind, "__name__", ""), "none"
        )


if __name__ == "__main__":
    sys.stdout.write(render())
