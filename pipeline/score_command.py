"""The `understudy score` command: a file of answers against a file of the truth, as a shared task scores them."""

import argparse
import json
import sys
from pathlib import Path

TEXT = "a file of answers against the truth: NOESIS II's conversations (clusters), or its dialogues' success"
KINDS = {
    "clusters": "conversations in a channel: lines of links (`1002 1003 -`) or of conversations (`1000 1002`)",
    "success": "what was decided in a dialogue, and where: a JSON list of example-id and success-labels",
}


def add_score(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `understudy`."""
    command = commands.add_parser("score", help=TEXT, description=TEXT)
    kinds = command.add_subparsers(required=True, metavar="KIND")
    for kind, text in KINDS.items():
        one = kinds.add_parser(kind, help=text, description=text)
        one.add_argument("truth", type=Path, metavar="TRUTH", help="a file; of links also a folder of *.annotation.txt")
        one.add_argument("found", type=Path, metavar="FOUND", help="another, of the same messages or dialogues")
        if kind == "clusters":
            one.add_argument(
                "--first", type=int, default=1000, metavar="N", help="scored from there on (default: 1000)"
            )
        one.set_defaults(action=_score, kind=kind)


def _score(options: argparse.Namespace) -> int:
    from pipeline import noesis

    if options.kind == "success":
        scores = noesis.score_success(noesis.read_success(options.truth), noesis.read_success(options.found))
    else:
        files = (options.truth, options.found)
        scores = noesis.score_conversations(*(noesis.read_conversations(each, first=options.first) for each in files))
    sys.stdout.write(json.dumps(scores) + "\n")
    return 0
