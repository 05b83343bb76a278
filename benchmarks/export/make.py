"""Everyone's graphs of one model, each made by the command its users type, in a process whose time and memory count."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from artifact.progress import progress
from export.config import InstructionSet

OPTIMUM_TARGETS: dict[InstructionSet, str] = {
    "avx2": "--avx2", "avx512": "--avx512", "vnni": "--avx512_vnni", "arm64": "--arm64", "arm64_dotprod": "--arm64",
}  # fmt: skip
"""The flag of `optimum-cli onnxruntime quantize` that its manual names for each instruction set."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """One graph, and what it took to make it from the model."""

    name: str
    graph: Path
    tokenizer: Path
    max_tokens: int
    command: str
    seconds: float
    peak_bytes: int
    failure: str = ""
    """The last line of what the command said, where it made nothing."""


@dataclass(frozen=True, kw_only=True)
class _Spent:
    seconds: float
    peak_bytes: int
    failure: str = ""

    def then(self, other: "_Spent") -> "_Spent":
        return _Spent(
            seconds=self.seconds + other.seconds,
            peak_bytes=max(self.peak_bytes, other.peak_bytes),
            failure=self.failure or other.failure,
        )


def make_all(model: Path, work: Path, *, data: Path, overrides: Sequence[str], target: InstructionSet) -> list[Made]:
    """The float32 graph by optimum, plain and optimized, and its int8 of both; then those of our bundle.

    A command of optimum that fails is a result too.
    """
    flag = OPTIMUM_TARGETS[target]
    export = "optimum-cli export onnx --task text-classification"
    quantize = f"optimum-cli onnxruntime quantize --per_channel {flag}"
    settings = ["precisions=[float32,int8]", f"target={target}", *overrides]
    ours = "python -m export"
    with progress("making graphs", total=5) as advance:

        def run(command: str, *arguments: str | Path) -> _Spent:
            spent = _run([*command.split(), *map(str, arguments)])
            advance(1, command)
            return spent

        plain = run(export, "--model", model, work / "plain")
        optimized = run(f"{export} --optimize O2", "--model", model, work / "o2")
        plain_int8 = run(quantize, "--onnx_model", work / "plain", "--output", work / "plain-int8")
        optimized_int8 = run(quantize, "--onnx_model", work / "o2", "--output", work / "o2-int8")
        own = run(ours, model, *settings, "--out", work / "ours", "--data", data)
    if own.failure:
        raise SystemExit(f"our own export failed: {own.failure}")
    about = json.loads((work / "ours" / "understudy.json").read_text(encoding="utf-8"))

    def made(name: str, graph: str, command: str, spent: _Spent) -> Made:
        return Made(
            name=name, graph=work / graph, tokenizer=work / "ours" / "tokenizer.json", max_tokens=about["max_tokens"],
            command=command, seconds=spent.seconds, peak_bytes=spent.peak_bytes, failure=spent.failure,
        )  # fmt: skip

    return [
        made("optimum float32", "plain/model.onnx", export, plain),
        made("optimum O2", "o2/model.onnx", f"{export} --optimize O2", optimized),
        made("optimum int8", "plain-int8/model_quantized.onnx", quantize, plain.then(plain_int8)),
        made("optimum O2 int8", "o2-int8/model_quantized.onnx", quantize, optimized.then(optimized_int8)),
        *(
            made(f"ours {precision}", f"ours/{file}", " ".join([ours, *settings]), own)
            for precision, file in about["precisions"].items()
        ),
    ]


def _run(command: list[str]) -> _Spent:
    """Run a program of this environment to its end; its seconds and the most memory it held at once."""
    programs = Path(sys.executable).parent
    program = sys.executable if command[0] == "python" else str(programs / command[0])
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen([program, *command[1:]], stdout=subprocess.DEVNULL, stderr=said, env=environment)
        _, status, used = os.wait4(child.pid, 0)  # the only call that tells one child's memory from another's
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        complaints = said.read().decode(errors="replace")
    unit = 1 if sys.platform == "darwin" else 1024
    failure = "" if child.returncode == 0 else (complaints.strip() or f"exit code {child.returncode}").splitlines()[-1]
    return _Spent(seconds=time.perf_counter() - began, peak_bytes=used.ru_maxrss * unit, failure=failure)
