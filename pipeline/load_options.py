"""The options of `understudy load`; imports nothing heavy, so that --help is instant."""

import argparse
from collections.abc import Sequence
from pathlib import Path

CONNECTIONS = 256
OBJECTIVE_P99_MS = 100.0
SECONDS = 10.0


def add_load(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command and its options."""
    text = "random arrivals at rising rates against any TEI- or OpenAI-compatible endpoint, up to its knee"
    load = commands.add_parser("load", help=text, description=text)
    load.add_argument("url", metavar="URL", help="such as http://127.0.0.1:3000, or with its route: .../v1/embeddings")
    load.add_argument("--path", metavar="ROUTE", help="/embed, /predict, /rerank, /v1/embeddings (default: asks /info)")
    load.add_argument("--model", metavar="NAME", help="sent along as `model`")
    load.add_argument("--texts", type=Path, metavar="FILE", help="plain or JSON lines (default: made, of all lengths)")
    load.add_argument("--field", default="text", metavar="KEY", help="of a text in JSON lines (default: %(default)s)")
    load.add_argument("--rates", type=_rates, default=(), metavar="N,N,...", help="requests a second (default: found)")
    load.add_argument("--seconds", type=float, default=SECONDS, help="of arrivals at each rate (default: %(default)g)")
    load.add_argument(
        "--objective-p99-ms", type=float, default=OBJECTIVE_P99_MS, metavar="MS",
        help="the knee is the highest rate that keeps to it (default: %(default)g)",
    )  # fmt: skip
    load.add_argument(
        "--connections", type=int, default=CONNECTIONS, metavar="N", help="at most (default: %(default)s)"
    )
    load.add_argument("--closed", type=int, metavar="N", help="then also a closed loop over N connections")
    load.add_argument("--header", action="append", default=[], metavar="'K: V'", help="more headers, each with its own")
    load.add_argument("--key-env", metavar="NAME", help="variable that holds an API key, sent as a bearer token")
    load.add_argument("--seed", type=int, default=1, help="of arrivals and made texts (default: %(default)s)")
    load.add_argument(
        "--i-may-load", metavar="HOST", help="needed for any host but this machine: it is yours, or its owner agreed"
    )
    load.add_argument(
        "--out", type=Path, default=Path("out/load"), metavar="DIR",
        help="load.json, load.html, raw.jsonl; those there are replaced (default: %(default)s)",
    )  # fmt: skip
    load.set_defaults(action=_load)


def _rates(text: str) -> Sequence[float]:
    return tuple(float(word) for word in text.split(","))


_rates.__name__ = "list of rates"  # argparse names the type in its error


def _load(options: argparse.Namespace) -> int:
    from pipeline.load_command import run_load

    return run_load({name: value for name, value in vars(options).items() if name != "action"})
