"""Requests nobody would send: made from our own description by schemathesis, and mutated ones of our own."""

import asyncio
import random
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artifact.errors import BenchError
from artifact.progress import progress, say
from benchmarks.faults.mutate import CONTENT_TYPES, mutate
from benchmarks.faults.overload import healthy
from benchmarks.faults.service import Setup, count_answers, resident_bytes, serving, workers_of
from benchmarks.serve.contestants import python_of
from serve.latency.server import Server
from serve.load.client import BROKEN, Address, Line, ask_once, connect, make_request

EXAMPLES = 400
"""Of each operation in one run of schemathesis."""
PIECE = 250
"""Mutated requests between two looks at the memory."""
SECONDS_TO_ANSWER = 30.0
LINES_SHOWN = 40

Example = tuple[str, bytes]
"""Path and body."""


def fuzz(setup: Setup, *, peers: Path | None, generated: int = 10_000, mutated: int = 5_000) -> dict[str, Any]:
    """What was answered to each kind, which processes were there before and after, and the memory meanwhile.

    Without `peers`, where schemathesis is installed, nothing is generated.
    """
    with serving(setup) as server:
        found: dict[str, Any] = {"workers_before": len(workers_of(server)), "resident_bytes": [resident_bytes(server)]}
        workers = workers_of(server)
        if peers is not None:
            found["generated"] = _generate(server, peers, generated, found["resident_bytes"])
        found["mutated"] = _mutate(server, mutated, found["resident_bytes"])
        found["same_workers"] = workers_of(server) == workers
        found["healthy"] = healthy(server.service.port)
        return found


def _generate(server: Server, peers: Path, least: int, resident: list[int]) -> dict[str, Any]:
    """Runs of schemathesis, each with another seed, until the service has answered so many requests.

    Every second one says itself how long its requests wait: some of those want an answer sooner than there can be one.
    """
    runs: list[dict[str, Any]] = []
    port, statuses, kinds = server.service.port, Counter[str](), {"patient": Counter[str](), "hasty": Counter[str]()}
    program = Path(python_of(peers, "schemathesis")).with_name("st")
    before = count_answers(port)
    with progress("generated requests", total=least) as advance:
        while statuses.total() < least:
            kind = "hasty" if len(runs) % 2 else "patient"
            runs.append(_run_schemathesis(program, port, seed=len(runs) + 1, patient=kind == "patient"))
            found = count_answers(port) - before
            if found.total() == statuses.total():
                raise BenchError(f"schemathesis sent nothing: {runs[-1]['said']}")
            advance(min(least, found.total()) - min(least, statuses.total()), "")
            kinds[kind] += found - statuses
            statuses = found
            resident.append(resident_bytes(server))
    return {"statuses": {kind: dict(counts) for kind, counts in kinds.items()}, "runs": runs}


def _run_schemathesis(program: Path, port: int, *, seed: int, patient: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        options = ["--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing", "--mode", "all"]
        options += ["--max-examples", str(EXAMPLES), "--seed", str(seed), "--suppress-health-check", "all"]
        options += ["--generation-database", "none", "--no-color", "--continue-on-failure"]
        options += ["-H", f"X-Request-Timeout: {SECONDS_TO_ANSWER:g}"] if patient else []
        done = subprocess.run(
            [str(program), "run", f"http://127.0.0.1:{port}/openapi.json", *options],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
    said = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode:
        say("\n".join(said[-LINES_SHOWN:]))
    return {
        "seed": seed,
        "patient": patient,
        "exit_status": done.returncode,
        "said": said[-LINES_SHOWN:] if done.returncode else [],
    }


def _mutate(server: Server, count: int, resident: list[int]) -> dict[str, Any]:
    port, order, statuses = server.service.port, random.Random(2), Counter[str]()  # noqa: S311 - no secret
    examples = list_examples(server.read_json("/openapi.json"))
    with progress("mutated requests", total=count) as advance:
        for start in range(0, count, PIECE):
            size = min(PIECE, count - start)
            requests = [_spoil(order.choice(examples), order) for _ in range(size)]
            statuses += asyncio.run(_send(port, requests))
            resident.append(resident_bytes(server))
            advance(size, "")
    return {"statuses": dict(statuses), "requests": statuses.total()}


def list_examples(description: dict[str, Any]) -> list[Example]:
    """Every body that the description shows, with its path; an empty one where a route shows none."""
    found: list[Example] = []
    for path, methods in description["paths"].items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
        bodies = [each["value"] for each in content.get("examples", {}).values()]
        bodies += [content["example"]] if "example" in content else []
        if "post" in methods:
            found += [(path, _to_json(body)) for body in bodies or [{}]]
    if not found:
        raise BenchError("the service describes no route that takes a body")
    return found


def _to_json(body: Any) -> bytes:
    return make_request("/", body).partition(b"\r\n\r\n")[2]


def _spoil(example: Example, order: random.Random) -> bytes:
    path, body = example
    headers = {"Content-Type": order.choice(CONTENT_TYPES)} if order.random() < 0.1 else {}
    if order.random() < 0.05:
        headers["X-Request-Timeout"] = order.choice(("0", "-1", "nan", "1e9", "x", "inf"))
    return make_request(path, mutate(body, order), headers)


async def _send(port: int, requests: Sequence[bytes]) -> Counter[str]:
    """Statuses, one request after the other; `silent` for one that is not answered in time."""
    statuses, line = Counter[str](), Line()
    for request in requests:
        if not line.alive:
            line = await connect(Address(port))
        try:
            reply = await asyncio.wait_for(line.ask(request), SECONDS_TO_ANSWER)
        except TimeoutError:
            line.close()
            statuses["silent"] += 1
            continue
        if reply.status == BROKEN:  # the service had ended the connection after the answer before: once more
            reply = await ask_once(Address(port), request)
        statuses["broken" if reply.status == BROKEN else str(reply.status)] += 1
    line.close()
    return statuses
