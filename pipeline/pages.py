"""Templates of our pages: what comes from data is escaped, and a name that a template misspells is an error."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127) if chr(code) not in "\t\n"}
"""Control characters as Python writes them: in HTML they are errors or nothing, and fonts have no pictures of them."""

MOST_CHARACTERS = 400
"""Of a text that is quoted."""


def render_template(name: str, **values: Any) -> str:
    """The template `name` of this package, filled; the same values give the same bytes."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(name).render(**values)


def quote(text: str) -> str:
    """`text` for a page: control characters written out, the rest of a very long one as a count."""
    left = len(text) - MOST_CHARACTERS
    shown = f"{text[:MOST_CHARACTERS]}… ({left:,} more characters)" if left > 0 else text
    return shown.translate(CONTROLS)
