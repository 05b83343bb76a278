"""Is a step quicker than bertdistiller's, on the same weights, batch and loss?

    python -m benchmarks.distill.peer /tmp/peer/bin/python

The two run in processes of their own, each with the libraries it asks for, and take turns.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from benchmarks.distill import turns
from benchmarks.distill.step import Case

CASES = (Case(32, 32, 12, 0), Case(32, 128, 6, 0), Case(32, 128, 6, 0, ragged=True))
WORKER = Path(__file__).with_name("worker.py")


def main() -> None:
    """Measure, and write `results/peer.json`."""
    turns.prepare()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("python", help="interpreter of the environment that bertdistiller is installed in")
    parser.add_argument("--rounds", type=int, help="at most so many, to look whether it works")
    options = parser.parse_args()
    turns.write("peer", measure(options.python, options.rounds))


def measure(python: str, most: int | None) -> dict[str, Any]:
    """Raw seconds of both, without the optimizer and with it, and their losses."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        _write_inputs(Path(name))
        commands = {
            "ours": [sys.executable, "-m", "benchmarks.distill.worker", "ours", name],
            "bertdistiller": [python, "-I", str(WORKER), "theirs", name],
        }
        workers = {who: stack.enter_context(_Worker(command)) for who, command in commands.items()}
        versions = subprocess.run([python, "-m", "pip", "list", "--format=json"], check=True, capture_output=True)
        wanted = ("bertdistiller", "torch", "transformers")
        return {
            "cases": [_measured(workers, case, min(case.rounds, most or case.rounds)) for case in CASES],
            "peer": {p["name"]: p["version"] for p in json.loads(versions.stdout) if p["name"] in wanted},
        }


class _Worker:
    """A child that does one thing at a time, when asked."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
        )
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, command: str) -> dict[str, Any]:
        """The answer to one command."""
        if self._process.stdin is not None:
            self._process.stdin.write(command + "\n")
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise SystemExit(f"a worker ended with exit code {self._process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found


def _measured(workers: dict[str, _Worker], case: Case, rounds: int) -> dict[str, Any]:
    losses = {}
    for who, worker in workers.items():
        worker.ask(f"load {_name(case)}")
        losses[who] = worker.ask("gradient")["loss"]
    contestants = [
        turns.Contestant(f"{who}, {action}", lambda w=worker, a=action: w.ask(a)["seconds"], rounds)  # type: ignore[misc]
        for action in ("gradient", "step")
        for who, worker in workers.items()
    ]
    seconds = turns.take_turns(contestants, f"bertdistiller, {_name(case)}")
    return {"texts": case.texts, "length": case.length, "ragged": case.ragged, "seconds": seconds, "losses": losses}


def _write_inputs(directory: Path) -> None:
    """Both models as bertdistiller takes them, without dropout, and the batches."""
    from safetensors.torch import save_file

    from benchmarks.distill.models import minilm, random_batch

    run = minilm().run
    for name, model in (("teacher", run.teacher), ("student", run.student)):
        base: Any = model.base_model  # type: ignore[union-attr]  # a bench has a teacher
        base.config.update({"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
        base.save_pretrained(directory / name)
        file = directory / name / "config.json"
        config = json.loads(file.read_text(encoding="utf-8")) | {"architectures": ["BertForMaskedLM"]}
        # bertdistiller takes no other, and reads only the encoder
        file.write_text(json.dumps(config), encoding="utf-8")
    for case in CASES:
        batch = random_batch(30_522, case.texts, case.length, ragged=case.ragged)
        save_file(batch.inputs, directory / f"{_name(case)}.safetensors")


def _name(case: Case) -> str:
    return f"{'ragged-' if case.ragged else ''}{case.texts}x{case.length}"


if __name__ == "__main__":
    main()
