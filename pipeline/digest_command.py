"""The `understudy digest` command: its options, and what it prints."""

import argparse
import json
import sys
from pathlib import Path

TEXT = "the digest that a cache of a recipe's output is keyed by; runs nothing"


def add_digest(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `understudy`."""
    command = commands.add_parser("digest", help=TEXT, description=TEXT)
    command.add_argument("recipe", type=Path, metavar="RECIPE", help="YAML file, such as recipes/demo.yaml")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="override a field, as for `run`")
    command.add_argument("--json", action="store_true", help="also the recipe's name and a digest for each stage")
    command.set_defaults(action=_digest)


def _digest(options: argparse.Namespace) -> int:
    from pipeline.digest import digest_recipe

    found = digest_recipe(options.recipe, options.overrides)
    sys.stdout.write((json.dumps(found) if options.json else found["digest"]) + "\n")
    return 0
