"""Our service beside its peers, over HTTP and in process, on the same weights; raw samples and a page.

    python -m benchmarks.serve --model out/minilm --peers out/peers --install      # once: bundle and environments
    python -m benchmarks.serve --model out/minilm --peers out/peers --rounds 6     # on a quiet machine

First every service chooses the fastest of its settings; then all take turns in random order, those that wait asleep.
"""

import argparse
import contextlib
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from artifact.manifest import write_json
from artifact.progress import progress, say
from benchmarks.serve.contestants import CONTESTANTS, OURS, Place
from benchmarks.serve.footprint import measure_footprint
from benchmarks.serve.inprocess import Worker, opened
from benchmarks.serve.measure import Load, choose_all, take_turn
from benchmarks.serve.page import PAGE, render
from benchmarks.serve.servers import Contender, started
from benchmarks.serve.texts import even_texts, mixed_texts
from pipeline.machine import fingerprint, load_average

RESULTS = Path(__file__).parent / "results"
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
SIZES_KEPT = 2
"""Batch sizes of plain ONNX Runtime that go on into the rounds: the fastest of all."""
SHARE = 0.8
"""Of a capacity, as the rate of an open loop."""
SEED = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, write the samples and the page."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is then ended, on the way out
    place = Place(
        bundle=options.model, peers=options.peers, threads=options.threads, options=shlex.split(options.serve)
    )
    if options.install:
        from benchmarks.serve.install import export_bundle, install

        export_bundle(options.model)
        install(options.peers)
        return
    if not options.page_only:
        measure(place, options)
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(render(json.loads(options.out.read_text(encoding="utf-8"))), encoding="utf-8")
    say(f"wrote {options.page}")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", type=Path, required=True, metavar="BUNDLE", help="embedding bundle, float32 and int8"
    )
    parser.add_argument("--peers", type=Path, required=True, metavar="DIR", help="environments of the peers")
    parser.add_argument("--install", action="store_true", help="make the bundle and the environments, and end")
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--serve", default="", metavar="OPTIONS", help="more options of our own `python -m serve`")
    parser.add_argument("--threads", type=int, default=2, help="cores of every service (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=6, help="(default: %(default)s)")
    parser.add_argument("--singles", type=int, default=400, help="texts over one connection (default: %(default)s)")
    parser.add_argument("--texts", type=int, default=1200, help="texts of mixed lengths (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="of each open loop (default: %(default)s)")
    parser.add_argument("--starts", type=int, default=5, help="starts of the int8 bundle (default: %(default)s)")
    parser.add_argument("--longest", type=int, default=250, help="tokens of the longest text (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS / "service.json")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--page-only", action="store_true", help="only write the page, of samples that are there")
    return parser.parse_args(arguments)


def measure(place: Place, options: argparse.Namespace) -> None:
    """All of it; the samples so far are kept after each round."""
    names = [OURS, *(name for name in options.only if name != OURS)]
    load = Load(
        singles=even_texts(place.bundle, options.singles, SEED),
        mixed=mixed_texts(place.bundle, options.texts, SEED + 1, options.longest),
        open_seconds=options.seconds,
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "machine": fingerprint(),
        "load_average": {"before": load_average()},
        "threads": place.threads,
        "options": [Path(option).name for option in place.options],
        "config": json.loads((place.bundle / "config.json").read_text(encoding="utf-8")),
        "tokens": {"single": load.singles[0].tokens, "mixed": [one.tokens for one in load.mixed]},
        "open_seconds": options.seconds,
    }
    results["footprint"] = measure_footprint(
        place.bundle, load.mixed, precision="int8", starts=options.starts, threads=place.threads, options=place.options
    )
    results["chosen"] = choose_all(names, place, load.mixed[: max(200, options.texts // 3)])
    results["rates"] = choose_rates({name: found["texts_per_second"] for name, found in results["chosen"].items()})
    results["rounds"] = []
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(opened(OURS, place.bundle, place.threads))
        plain = stack.enter_context(opened("plain", place.bundle, place.threads))
        results["sweep"] = {str(size): _batches(plain, load, size) for size in BATCH_SIZES}
        kept = sorted(BATCH_SIZES, key=lambda size: results["sweep"][str(size)])[:SIZES_KEPT]
        contenders = {}
        for name in names:
            contender = stack.enter_context(started(CONTESTANTS[name], place, results["chosen"][name]["knobs"]))
            contender.suspend()
            contenders[name] = contender
        _take_rounds(results, load, options, contenders, (ours, plain, kept))


def choose_rates(capacities: dict[str, float]) -> dict[str, float]:
    """Requests a second of the open loops, the same for all: by our capacity, and by that of the best peer."""
    peers = [capacity for name, capacity in capacities.items() if name != OURS]
    rates = {"open at our rate": SHARE * capacities[OURS]}
    return rates | ({"open at a peer's rate": SHARE * max(peers)} if peers else {})


def _take_rounds(
    results: dict[str, Any],
    load: Load,
    options: argparse.Namespace,
    contenders: dict[str, Contender],
    inside: tuple[Worker, Worker, list[int]],
) -> None:
    turns = [*contenders, "in process"]
    with progress("rounds", total=options.rounds * len(turns)) as advance:
        for index in range(options.rounds):
            taken: dict[str, Any] = {"order": []}
            for place in np.random.default_rng([SEED, index]).permutation(len(turns)):
                name = turns[place]
                taken["order"].append(name)
                taken[name] = (
                    take_turn(contenders[name], load, results["rates"], index)
                    if name in contenders
                    else _work_inside(load, *inside)
                )
                advance(1, name)
            results["rounds"].append(taken)
            results["load_average"]["after"] = load_average()
            write_json(options.out, results)


def _work_inside(load: Load, ours: Worker, plain: Worker, sizes: Sequence[int]) -> dict[str, Any]:
    return {
        **ours.ask(do="single", texts=[one.text for one in load.singles]),
        "ours_seconds": _batches(ours, load, 0),
        "plain_seconds": {str(size): _batches(plain, load, size) for size in sizes},
        "matrix_gflops": plain.ask(do="matrix"),
    }


def _batches(worker: Worker, load: Load, size: int) -> float:
    texts, tokens = [one.text for one in load.mixed], [one.tokens for one in load.mixed]
    seconds: float = worker.ask(do="mixed", texts=texts, tokens=tokens, batch_size=size)["seconds"]
    return seconds


if __name__ == "__main__":
    main()
