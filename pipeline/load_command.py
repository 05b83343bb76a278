"""`understudy load URL`: an endpoint under random arrivals at rising rates, to a JSON file and a page.

Samples are kept as they come: `raw.jsonl` has a line for each rate the moment it is measured, so that whatever happens
then, a full disk, a service that dies, Ctrl-C, they are there. The report is written of what there is.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from pydantic import Field

from artifact.config import Config, parse_config
from artifact.disk import enough_disk
from artifact.errors import BenchError, ConfigError, DataError
from artifact.manifest import write_json
from artifact.progress import say
from pipeline.load_page import render_page
from pipeline.load_records import Ended, LoadReport, make_closed, make_point
from pipeline.load_table import describe_knee, describe_point
from pipeline.machine import fingerprint, load_average
from serve.load.clock import run_on_time
from serve.load.endpoint import Endpoint, find_endpoint
from serve.load.loops import Closed, closed_loop_for
from serve.load.rate import Point
from serve.load.sweep import SweepConfig, judge, sweep
from serve.load.texts import draw_lengths, make_plain_texts

MADE_TEXTS = 512
LEAVING = 130
"""Exit code of an interrupted command."""


class LoadOptions(Config):
    """The command line, parsed."""

    url: str
    path: str | None
    model: str | None
    texts: Path | None
    field: str
    rates: tuple[float, ...]
    seconds: float = Field(gt=0)
    objective_p99_ms: float = Field(gt=0)
    connections: int = Field(gt=0)
    closed: int | None = Field(gt=0)
    header: tuple[str, ...]
    key_env: str | None
    seed: int = Field(ge=0)
    i_may_load: str | None
    out: Path


def run_load(tree: Mapping[str, Any]) -> int:
    """Measure, write, print; returns the exit code.

    Raises `ConfigError`, `DataError`, `BenchError` for what is wrong with the options, the texts or the endpoint; where
    points were measured before that, their report is written first.
    """
    options = parse_config(LoadOptions, dict(tree), where="the command line")
    _check_rates(options)
    texts = read_texts(options.texts, options.field, options.seed)
    endpoint = find_endpoint(
        options.url, path=options.path, model=options.model, headers=read_headers(options), allowed=options.i_may_load
    )
    run = _Run(options, endpoint, texts)
    fault = run.measure()
    report = run.report()
    write_json(options.out / "load.json", report.model_dump(mode="json"))
    (options.out / "load.html").write_text(render_page(report), encoding="utf-8")
    say(f"  {describe_knee(report)}\npage     {options.out / 'load.html'}")
    if fault is not None:
        raise BenchError(f"{fault.problem}; the {len(report.points)} rates before are in {options.out}", fault.hint)
    told = {"knee_per_second": report.knee_per_second, "bounded": report.bounded, "ended": report.ended}
    sys.stdout.write(json.dumps({**told, "report": str(options.out / "load.json")}) + "\n")
    return LEAVING if report.ended == "interrupted" else 0


class _Run:
    """One measurement: what it was asked, and what it has so far."""

    def __init__(self, options: LoadOptions, endpoint: Endpoint, texts: Sequence[str]) -> None:
        self.options, self.endpoint, self.texts = options, endpoint, texts
        self.points: list[Point] = []
        self.closed: Closed | None = None
        self.ended: Ended = "complete"
        self.reason = ""
        self.load_before = load_average()

    def measure(self) -> BenchError | None:
        """All of it, or until Ctrl-C or a fault; returns the fault, unless there is no point yet: then it is raised."""
        options = self.options
        config = SweepConfig(
            objective_p99_ms=options.objective_p99_ms, seconds=options.seconds, rates=options.rates,
            connections=options.connections, seed=options.seed,
        )  # fmt: skip
        requests = self.endpoint.requests(self.texts)
        with enough_disk(options.out, BenchError, "name another with --out"), _open_raw(options.out) as file:
            try:
                sweep(self.endpoint.address, requests, config, lambda point: self._keep(point, file))
                if options.closed is not None:
                    closing = closed_loop_for(self.endpoint.address, requests, options.closed, options.seconds)
                    self.closed = run_on_time(closing)
            except KeyboardInterrupt:
                self.ended, self.reason = "interrupted", "stopped by hand"
            except BenchError as error:
                if not self.points:
                    raise
                self.ended, self.reason = "failed", error.problem
                return error
        return None

    def report(self) -> LoadReport:
        """What there is."""
        options = self.options
        found = judge(self.points, options.objective_p99_ms)
        source = f"of {options.texts.name}" if options.texts else "made, of lognormal length"
        return LoadReport(
            url=self.endpoint.url,
            model=options.model,
            texts=f"{len(self.texts):,} {source}",
            objective_p99_ms=options.objective_p99_ms,
            seconds=options.seconds,
            connections=options.connections,
            seed=options.seed,
            points=tuple(make_point(point, options.objective_p99_ms) for point in self.points),
            knee_per_second=found.knee_per_second,
            bounded=found.bounded,
            closed=make_closed(self.closed, options.closed) if self.closed and options.closed else None,
            ended=self.ended,
            reason=self.reason,
            machine=fingerprint(),
            load_average={"before": self.load_before, "after": load_average()},
        )

    def _keep(self, point: Point, file: IO[str]) -> None:
        self.points.append(point)
        file.write(json.dumps(asdict(point)) + "\n")
        file.flush()
        say(f"  {describe_point(make_point(point, self.options.objective_p99_ms))}")


def _open_raw(out: Path) -> IO[str]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        return (out / "raw.jsonl").open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write to {out}: {error.strerror}", "name another directory with --out") from None


def read_texts(path: Path | None, field: str, seed: int) -> list[str]:
    """One text a line: plain, or JSON (a string, or an object with `field`); made ones where there is no file.

    Raises `DataError` for a file that is missing or holds no text.
    """
    if path is None:
        return make_plain_texts(draw_lengths(MADE_TEXTS, seed), seed)
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}", "give a text file, one text a line") from None
    texts = [_text_of(line, field) for line in lines]
    if not any(texts):
        raise DataError(f"{path} holds no text", f"one a line, plain or as JSON with the key {field!r} (--field)")
    return [text for text in texts if text]


def _text_of(line: str, field: str) -> str:
    """The text of a line; empty when it is an object without one."""
    try:
        found = json.loads(line)
    except ValueError:
        return line
    if isinstance(found, dict):
        found = found.get(field, "")
        return found if isinstance(found, str) else ""
    return found if isinstance(found, str) else line


def read_headers(options: LoadOptions, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The headers given, and the key's; `ConfigError` when one is none, or the variable is not set."""
    headers = {}
    for given in options.header:
        name, colon, value = given.partition(":")
        if not colon or not name.strip():
            raise ConfigError(f"{given!r} is not a header", "write it as --header 'Name: value'")
        headers[name.strip()] = value.strip()
    if options.key_env is not None:
        key = (os.environ if environment is None else environment).get(options.key_env, "").strip()
        if not key:
            raise ConfigError(f"{options.key_env} is not set", "set it to the API key that the endpoint accepts")
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _check_rates(options: LoadOptions) -> None:
    wrong = [rate for rate in options.rates if not rate > 0]
    if wrong:
        raise ConfigError(f"--rates holds {wrong[0]:g}, expected numbers above 0", "such as --rates 10,20,40")
