"""The `understudy` command: parse, then import what the command needs, then print.

Exit codes: 0 done or passed, 1 the gate failed, 2 a fault of the input, 3 the gate is inconclusive, 130 interrupted.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from artifact.errors import UnderstudyError
from pipeline import gate_command
from pipeline.digest_command import add_digest
from pipeline.load_options import add_load
from pipeline.report_command import add_report_options, report_from
from pipeline.score_command import add_score
from serve.__main__ import add_options, serve_from
from serve.huge_pages import with_huge_pages

STAGES = {
    "distill": "train the models of a recipe",
    "export": "turn its models into ONNX bundles",
    "evaluate": "measure the quality of its bundles",
    "bench": "measure their speed, in process and over HTTP",
    "package": "build the Bento",
}
ENVIRONMENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "BENTOML_DO_NOT_TRACK": "True",
    "GOMP_SPINCOUNT": "10000",
    **with_huge_pages({}),
}
"""Set before the libraries are imported, and only where the user has not chosen. Our own progress is enough; threads
that spin for long make training a tenth as fast as soon as another program uses a core; and processes that we start
have their memory in huge pages (docs/log.md)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Faults of the input are two lines on stderr, never a stack trace."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    options = _parse(arguments)
    try:
        code: int = options.action(options)
    except UnderstudyError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; the same command goes on from here\n")
        return 130
    except BrokenPipeError:  # `understudy ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Overrides may stand before, between and after options; argparse by itself takes only those before."""
    parser = build_parser()
    options, left = parser.parse_known_args(arguments)
    if left and (not hasattr(options, "overrides") or any(word.startswith("-") or "=" not in word for word in left)):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if left:
        options.overrides += left
    return options


def build_parser() -> argparse.ArgumentParser:
    """The command line; the README's help text is compared with it."""
    parser = argparse.ArgumentParser(
        prog="understudy", description="Compress a Transformer encoder into a student that can take its place."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = _recipe_command(commands, "run", "everything, each stage skipped when fresh; ends with the gate's verdict")
    run.set_defaults(action=_run)
    _recipe_command(
        commands, "plan", "before any training: what student shapes cost on this machine, and which fit the budget"
    ).set_defaults(action=_run, command="plan")
    for stage, text in STAGES.items():
        _recipe_command(commands, stage, text).set_defaults(action=_run, command=stage)
    add_digest(commands)
    _add_judging(commands)
    add_score(commands)
    _add_serving(commands)
    add_load(commands)
    return parser


def _recipe_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument("recipe", type=Path, metavar="RECIPE", help="YAML file, such as recipes/demo.yaml")
    command.add_argument("overrides", nargs="*", metavar="key=value", help="override a field, such as bench.rounds=20")
    command.add_argument("--out", type=Path, metavar="DIR", help="output folder (default: out/NAME)")
    command.add_argument("--force", action="store_true", help="replace outputs made from another recipe")
    command.add_argument("--plan", action="store_true", help="print the resolved recipe and what would run")
    command.set_defaults(command=name)
    return command


def _add_judging(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    gate = commands.add_parser("gate", help="judge a report again: exit 0 pass, 1 fail, 3 inconclusive")
    gate_command.add_options(gate)
    gate.set_defaults(action=gate_command.gate)
    report = commands.add_parser("report", help="several reports side by side, as Markdown or as a page")
    add_report_options(report)
    report.set_defaults(action=report_from)
    verify = commands.add_parser("verify", help="hashes and origins of an artefact; a bundle answers again")
    verify.add_argument("directory", type=Path, metavar="DIR")
    verify.set_defaults(action=_verify)
    text = "a bundle that also says how far a text is from those it knows"
    guard = commands.add_parser("guard", help=text, description=text)
    guard.add_argument("bundle", type=Path, metavar="BUNDLE")
    guard.add_argument(
        "--texts", type=Path, required=True, metavar="FILE", help="JSON lines of in-domain texts, or .gz"
    )
    guard.add_argument(
        "--held-out", type=Path, metavar="FILE", help="more such texts, for the threshold (default: a part of FILE)"
    )
    guard.add_argument("--field", default="text", metavar="KEY", help="key of the text in each line (default: text)")
    guard.add_argument("--precision", nargs="+", default=[], metavar="NAME", help="such as int8 (default: all)")
    guard.add_argument("--quantile", type=float, default=0.95, help="share of held-out texts to pass (default: 0.95)")
    guard.add_argument("--weighting", choices=("equal", "svm"), default="equal", help="of the layers (default: equal)")
    guard.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the new bundle goes")
    guard.add_argument("--force", action="store_true", help="replace an output made from other options")
    guard.set_defaults(action=_guard)


def _add_serving(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    serve = commands.add_parser("serve", help="serve bundles on this machine")
    add_options(serve)
    serve.set_defaults(action=serve_from)
    key = commands.add_parser("key", help="make an API key for a service: the key on stdout, what accepts it on stderr")
    key.add_argument("name", nargs="?", default="client", metavar="NAME", help="whose it is (default: %(default)s)")
    key.add_argument("--role", choices=("client", "admin"), default="client", help="admins may swap models too")
    key.set_defaults(action=_key)
    swap = commands.add_parser("swap", help="have a running service serve a model from another bundle")
    swap.add_argument("url", metavar="URL", help="where it serves, such as http://127.0.0.1:3000")
    swap.add_argument("model", metavar="MODEL", help="such as student")
    swap.add_argument("bundle", metavar="BUNDLE", help="a folder below its `swap_from`; or previous, or original")
    swap.add_argument("--key-env", default="UNDERSTUDY_KEY", metavar="NAME", help="variable that holds an admin's key")
    swap.set_defaults(action=_swap)
    calibrate = commands.add_parser("calibrate", help="how sure a student must be to answer alone in a cascade")
    calibrate.add_argument("student", type=Path, metavar="STUDENT", help="its bundle directory")
    calibrate.add_argument("teacher", type=Path, metavar="TEACHER", help="its bundle directory")
    calibrate.add_argument(
        "--texts", type=Path, required=True, metavar="FILE", help="held-out texts: .jsonl, .jsonl.gz"
    )
    calibrate.add_argument(
        "--level", type=float, default=0.99, help="agreement of the cascade with the teacher (default: %(default)s)"
    )
    calibrate.add_argument("--student-precision", metavar="NAME", help="default: int8 where the student has it")
    calibrate.add_argument("--teacher-precision", metavar="NAME", help="default: the first it has")
    calibrate.add_argument(
        "--out", type=Path, default=Path("calibration.json"), metavar="FILE", help="(default: %(default)s)"
    )
    calibrate.set_defaults(action=_calibrate)
    commands.add_parser("doctor", help="versions, instruction set, threads, what conflicts").set_defaults(
        action=_doctor
    )


def _run(options: argparse.Namespace) -> int:
    from pipeline.commands import run_recipe

    return run_recipe(
        options.recipe, options.overrides, options.command, out=options.out, force=options.force, plan=options.plan
    )


def _verify(options: argparse.Namespace) -> int:
    from pipeline.verify import verify

    sys.stdout.write("\n".join(verify(options.directory)) + "\n")
    return 0


def _key(options: argparse.Namespace) -> int:
    from serve.keys import show_key

    return show_key(options.name, options.role)


def _swap(options: argparse.Namespace) -> int:
    from serve.swap.client import ask_swap

    told = ask_swap(options.url, options.model, options.bundle, options.key_env)
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    from serve.trust.command import calibrate_files

    found = calibrate_files(
        options.student, options.teacher, options.texts, options.out, level=options.level,
        student_precision=options.student_precision, teacher_precision=options.teacher_precision,
    )  # fmt: skip
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def _guard(options: argparse.Namespace) -> int:
    from pipeline.guard import guard

    sys.stdout.write(
        guard(
            options.bundle, options.texts, options.out, options.precision,
            held_out=options.held_out, field=options.field, quantile=options.quantile, force=options.force,
            weighting=options.weighting,
        )
    )  # fmt: skip
    return 0


def _doctor(_options: argparse.Namespace) -> int:
    from pipeline.doctor import diagnose

    lines, problems = diagnose()
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.write("".join(f"conflict: {problem}\n" for problem in problems) or "no conflicts\n")
    return 2 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
