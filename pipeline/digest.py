"""`understudy digest`: what a cache of a recipe's output is keyed by, told before anything was made.

A sealed stage is fresh when its request is the same, and a request holds the digests of the inputs' content. That is
not known before they are made, so here each input is named by its own request instead: from the same recipe, data,
checkpoints and stage versions follow the same names. Two recipes that share a stage share its line.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artifact.digest import hash_json
from artifact.manifest import installed_versions
from artifact.stage import digest_sealed, request_of
from pipeline.recipe import Recipe, load_recipe
from pipeline.stages import steps_of


def digest_recipe(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """`recipe`, its name; `digest`, of everything; `packages`, of the versions installed; `stages`, by output folder.

    `packages` is apart, since no stage looks at it: what another version of a library made is fresh all the same, and
    whoever keeps a cache decides (ours starts anew). Trains nothing and imports no torch; data files and checkpoints
    are read for their hashes, and a checkpoint of the Hub is fetched first.

    Raises `ConfigError`, `DataError` or `ModelError` when the recipe, its data or a checkpoint is not there.
    """
    recipe = load_recipe(path, overrides)
    stages, packages = _digest_stages(recipe), hash_json(installed_versions())
    return {
        "recipe": recipe.name,
        "digest": hash_json({"packages": packages, "stages": stages}),
        "packages": packages,
        "stages": stages,
    }


def _digest_stages(recipe: Recipe) -> dict[str, str]:
    """Hash of each step's request, by the folder it makes; planned below an empty folder, so nothing there counts."""
    planned: dict[Path, str] = {}

    def digest_input(directory: Path) -> str:
        # What no step makes lies there already, such as the bundles of a baseline.
        return planned[directory] if directory in planned else digest_sealed(directory)

    with tempfile.TemporaryDirectory(prefix="understudy-") as empty:
        root = Path(empty)
        for step in steps_of(recipe, root):
            stage, _ = step.make()
            planned[step.out] = request_of(stage, digest_input)[0].recipe
    return {out.relative_to(root).as_posix(): digest for out, digest in planned.items()}
