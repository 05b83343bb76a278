"""Where bundles may be taken from, and whether one may take another's place."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from serve.bundle import BundleInfo
from serve.problem import Problem, quote

ORIGINAL = "original"
"""Name of the bundle that a model was started with, wherever that lies."""
PREVIOUS = "previous"
"""Name of the bundle that was served before the last swap."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""One component of a path that can be neither hidden nor a way up."""


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """The bundles that can be named."""

    folder: Path | None
    """Holds one bundle in each of its folders; None: nothing may be swapped."""
    original: Mapping[str, Path]
    """By model, what it was started with."""
    home: Path | None = None
    """Where the workers of one service keep what they share; None where there is one."""

    def find(self, model: str, name: str) -> Path:
        """Where the bundle called `name` lies; `Problem` 403 without a shelf, 404 when it has no such bundle."""
        if self.folder is None:
            raise Problem(403, "Forbidden", "the config of this service names no folder to swap from (`swap_from`)")
        if name == ORIGINAL and model in self.original:
            return self.original[model]
        root = self.folder.resolve()
        directory = (root / name).resolve() if NAME.fullmatch(name) else root
        if directory == root or not directory.is_relative_to(root) or not directory.is_dir():
            raise Problem(404, "Validation", f"there is no bundle {quote(name)} to swap to", param="bundle")
        return directory


def differences(served: BundleInfo, offered: BundleInfo, precisions: Iterable[str]) -> list[str]:
    """Why clients of one bundle could not be answered by the other, one line each; empty when they can.

    `precisions` are those that requests may name. The longest input may differ, and so may everything inside.
    """
    found = [
        f"its {name} is {getattr(offered, name)!r}, not {getattr(served, name)!r}"
        for name in ("task", "problem", "embedding_size")
        if getattr(served, name) != getattr(offered, name)
    ]
    if served.labels != offered.labels:
        found.append(_compare_labels(served.labels, offered.labels))
    lost = [name for name in precisions if name not in offered.precisions]
    if lost:
        found.append(f"it lacks the precision {', '.join(lost)}")
    outputs = [name for name in served.outputs if name not in offered.outputs]
    if outputs:
        found.append(f"its graphs do not give {', '.join(outputs)}")
    return found


def _compare_labels(served: tuple[str, ...], offered: tuple[str, ...]) -> str:
    if sorted(served) == sorted(offered):
        return "its labels are in another order"
    missing = [label for label in served if label not in offered]
    return f"it has {len(offered)} labels for {len(served)}, and {len(missing)} of these are missing"
