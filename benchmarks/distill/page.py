"""The page docs/results/distill-speed.md, from the raw samples.

python -m benchmarks.distill.page
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from artifact.progress import say
from benchmarks.distill.turns import RESULTS, ratio, read
from pipeline.results import Interval
from pipeline.statistics import MINIMUM_ROUNDS

PAGE = Path("docs/results/distill-speed.md")
Found = Mapping[str, Any]
BOUND_BARS = {(32, 32): 1.10, (32, 128): 1.30, (8, 512): 1.6}
"""Most that a step may cost, as a multiple of its bound, at each shape."""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    options.page.write_text(render(options.results), encoding="utf-8")
    say(f"wrote {options.page}")


def render(results: Path) -> str:
    """All sections whose results are there."""
    found = {name: read(name, results=results) for name in SECTIONS}
    sections = [SECTIONS[name](what) for name, what in found.items() if what is not None]
    if found.get("step-cuda") is None:
        sections.append(
            "## On a GPU\n\nNot measured: there was no GPU. `python -m benchmarks.distill.step --device cuda`."
        )
    return "\n\n".join([HEAD, *sections]) + "\n"


HEAD = """# Speed of distillation

Written by `python -m benchmarks.distill.page`, from the raw samples in `benchmarks/distill/results/`. Teacher:
all-MiniLM-L6-v2 (6 layers of 384). Student: layers 1, 3 and 6 of it. MiniLMv2's QQ, KK and VV with 48 relation heads,
float32, dropout 0 unless said otherwise. Contestants take turns, in random order within each round. Ratios are the
median over rounds of the ratio within a round, with its 95 % interval by bootstrap over rounds."""


def _step(found: Found) -> str:
    rows = []
    for case in found["cases"]:
        seconds, rounds = case["seconds"], len(case["seconds"]["bound"])
        bar = BOUND_BARS.get((case["texts"], case["length"])) if not case["ragged"] and not case["dropout"] else None
        over_bound = ratio(seconds["fused"], seconds["bound"])
        rows.append((
            _case(case), _seconds(seconds["bound"]), _seconds(seconds["fused"]), _interval(over_bound),
            _verdict(over_bound, bar, rounds, lower=True), _against(seconds, "dense"), _against(seconds, "step"),
            rounds,
        ))  # fmt: skip
    header = ("batch", "bound, s", "fused, s", "fused / bound", "bar", "dense / bound", "whole step / bound", "rounds")
    return f"""## A step against its bound

*Bound*: the teacher's forward pass as far as it is needed (five layers and the last projections), the student's, and
the student's backward pass from the sum of the captured vectors. *Fused* has the objective in place of the sum, *dense*
the objective by whole matrices; *whole step* adds clipping and AdamW over the whole student, embeddings included. With
dropout, PyTorch's attention takes a slower way on a CPU, for all alike.

{_table(header, rows)}

{_machine(found)}"""


def _memory(found: Found) -> str:
    used = {name: sizes["peak"] - sizes["before"] for name, sizes in found["bytes"].items()}
    share = used["fused"] / used["dense"]
    rows = [(name, f"{size / 2**30:.2f} GiB") for name, size in used.items()]
    verdict = "**holds**" if share <= 1 / 3 else "**missed**"
    return f"""## Memory of a step of {found["texts"]} x {found["length"]} tokens

Peak of a fresh process, less what it held before the step. Fused over dense: {share:.3f}; bar at most a third:
{verdict}.

{_table(("", "peak"), rows)}"""


def _peer(found: Found) -> str:
    rows = []
    for case in found["cases"]:
        seconds, losses = case["seconds"], case["losses"]
        for action, what in (("gradient", "loss and gradient"), ("step", "whole step")):
            pair = seconds[f"bertdistiller, {action}"], seconds[f"ours, {action}"]
            times = ratio(*pair)
            bar = 3.0 if action == "step" and not case["ragged"] else None
            rows.append((
                _case(case), what, _seconds(pair[1]), _seconds(pair[0]), _interval(times),
                _verdict(times, bar, len(pair[0]), lower=False),
                f"{abs(losses['ours'] - losses['bertdistiller']):.0e}", len(pair[0]),
            ))  # fmt: skip
    versions = ", ".join(f"{name} {version}" for name, version in sorted(found["peer"].items()))
    header = ("batch", "of", "ours, s", "bertdistiller, s", "times as fast", "bar", "losses differ by", "rounds")
    return f"""## Against bertdistiller

The same weights, batch and loss, in two processes, one of which sleeps while the other works;
{versions} have an environment of their own. bertdistiller runs both
models to their ends, projects the captured states a second time, and takes the texts one by one.

{_table(header, rows)}

{_machine(found)}"""


def _ragged(found: Found) -> str:
    speeds = {
        name: [count / spent for count, spent in zip(found["tokens"][name], spans, strict=True)]
        for name, spans in found["seconds"].items()
    }
    rows = []
    for name, speed in speeds.items():
        times = [ratio(speed, speeds[reference]) for reference in ("padded to 128", "padded to the longest")]
        bar = None if name.startswith("padded") else 1.8
        cells = [f"{_interval(gain)} {_verdict(gain, bar, len(speed), lower=False)}".strip() for gain in times]
        rows.append((name, f"{median(speed):,.0f}", *cells, len(speed)))
    lengths = ", ".join(f"{share} at most {length}" for share, length in found["quantiles"].items())
    header = ("batches", "real tokens/s", "over padded to 128", "over padded to the longest", "rounds")
    return f"""## Ragged text

Whole steps on {found["texts"]:,} sentences of a corpus: {found["mean_tokens"]:.1f} tokens on average; {lengths}.
The first two rows are batches of 32 random texts. The bar is 1.8 times the speed of padded batches of fixed size.

{_table(header, rows)}

{_machine(found)}"""


def _overhead(found: Found) -> str:
    taken, steps = found["seconds"], found["steps"]
    step = median(taken["step"])
    window_steps = found["window_texts"] / found["texts_per_step"]
    shares = {
        "collating, and waiting for text": median(taken["wait"]) / step,
        "reading and tokenising": median(taken["window"][:-1] or taken["window"]) / window_steps / step,
        "logging": median(taken["log"]) / found["steps_between_logs"] / step,
        "checkpoints": median(taken["checkpoint"][:-1]) / found["steps_between_checkpoints"] / step,
    }
    inside = sum(sum(taken[part]) for part in ("step", "wait", "log", "checkpoint", "evaluate"))
    shares["everything else in the loop"] = max(0.0, found["whole_seconds"] - inside) / steps / step
    whole = sum(shares.values())
    rows = [(name, f"{share:.2%}") for name, share in shares.items()] + [("together", f"**{whole:.2%}**")]
    verdict = "**holds**" if whole < 0.03 else "**missed**"
    return f"""## Beside the steps

Share of a step's time in a run of the real loop: {steps} steps of {found["texts_per_step"]} sentences, median
{step:.2f} s. A log is counted every {found["steps_between_logs"]} steps and a checkpoint every
{found["steps_between_checkpoints"]}. Reading and tokenising happen in a thread beside the steps, and are counted in
full. Bar: under 3 %: {verdict}.

{_table(("", "of a step"), rows)}

{_machine(found)}"""


def _cuda(found: Found) -> str:
    rows = []
    for case in found["cases"]:
        least = case["matmul_flops"] / found["matmul_flops_per_s"]
        for name, spans in case["seconds"].items():
            rows.append((
                _case(case), name, f"{1000 * median(spans):.1f}", f"{case['tokens'] / median(spans):,.0f}",
                f"{least / median(spans):.0%}", f"{case['peak_bytes'][name] / 2**30:.1f} GiB", len(spans),
            ))  # fmt: skip
        rows += [(_case(case), name, "does not fit", "", "", "", 0) for name in case["too_large"]]
    header = ("batch", "", "ms", "real tokens/s", "share of the matmul bound", "peak memory", "rounds")
    rate = found["matmul_flops_per_s"] / 1e12
    return f"""## On a GPU

{found["gpu"]}, CUDA {found["cuda"]}: 12 layers of 768 to 6 of 384, random weights, bf16, 48 relation heads. The
matmul bound is the time of both models' matrix products at the {rate:,.0f} TFLOP/s of a large bf16 product here.

{_table(header, rows)}"""


SECTIONS: dict[str, Callable[[Found], str]] = {
    "step": _step, "memory": _memory, "peer": _peer, "ragged": _ragged, "overhead": _overhead, "step-cuda": _cuda,
}  # fmt: skip


def _case(case: Found) -> str:
    dropout = f", dropout {case['dropout']}" if case.get("dropout") else ""
    return f"{case['texts']} x {case['length']}{' ragged' if case['ragged'] else ''}{dropout}"


def _seconds(samples: Sequence[float]) -> str:
    return f"{median(samples):.2f}"


def _against(seconds: Mapping[str, Sequence[float]], name: str) -> str:
    return _interval(ratio(seconds[name], seconds["bound"])) if name in seconds else ""


def _interval(found: Interval) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _verdict(found: Interval, bar: float | None, rounds: int, *, lower: bool) -> str:
    """Whether the whole interval is on the good side of the bar; open where it is not, or where rounds were few."""
    if bar is None:
        return ""
    sign = "≤" if lower else "≥"
    good, bad = (found.high <= bar, found.low > bar) if lower else (found.low >= bar, found.high < bar)
    verdict = "open" if rounds < MINIMUM_ROUNDS else "holds" if good else "missed" if bad else "open"
    return f"{sign} {bar}: **{verdict}**"


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _machine(found: Found) -> str:
    machine = found["machine"]
    versions = ", ".join(name for name in machine["versions"] if name.split()[0] in ("torch", "transformers"))
    return (
        f"*{machine.get('processor', machine['architecture'])}, {machine['usable_cores']} cores, "
        f"{found['threads']} threads, {versions}; load average at the end {found['load_average']}.*"
    )


if __name__ == "__main__":
    main()
