"""`understudy gate REPORT`: its options, and what it prints; the last line of stdout is JSON.

Exit codes: 0 pass, 1 fail, 2 a fault of the input, 3 inconclusive.
"""

import argparse
import json
import os
import sys
from pathlib import Path

FORMS = {
    "json": "the judgement, for a program",
    "junit": "one test case a gate, for a CI server",
    "markdown": "verdict and table, for a pull request",
}


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of `understudy gate`."""
    command.add_argument("report", type=Path, metavar="REPORT", help="a report directory, or its report.json")
    command.add_argument(
        "--baseline", type=Path, metavar="REPORT", help="report to compare with too, such as the last release's"
    )
    for form, text in FORMS.items():
        command.add_argument(f"--{form}", type=Path, metavar="FILE", help=f"write {text}")
    command.add_argument(
        "--annotations", action="store_true", help="print GitHub annotations (on by itself in GitHub Actions)"
    )


def gate(options: argparse.Namespace) -> int:
    """Judge, write what was asked for, print; returns the exit code."""
    from pipeline.gate_output import judge_files, render_annotations, render_lines, write_outputs

    judgement = judge_files(options.report, options.baseline)
    files = {form: path for form in FORMS if (path := getattr(options, form)) is not None}
    write_outputs(judgement, files)
    lines = render_lines(judgement)
    if options.annotations or os.environ.get("GITHUB_ACTIONS") == "true":
        lines += render_annotations(judgement)
    sys.stdout.write("\n".join(lines) + "\n")
    found = {"verdict": judgement.verdict, "gates": {gate.name: gate.verdict for gate in judgement.gates}}
    sys.stdout.write(json.dumps(found) + "\n")
    return judgement.exit_code
