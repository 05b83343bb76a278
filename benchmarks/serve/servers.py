"""Services that wait for their turn asleep, so that what one does in the background falls on nobody else's samples."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import psutil

from artifact.errors import BenchError
from benchmarks.serve.contestants import Contestant, Knobs, Place
from serve.latency.client import HOST
from serve.latency.server import Server, running
from serve.load.client import Address, dial
from serve.load.loops import Closed, closed_loop

WARM_UP_REQUESTS = 128
LARGEST_DISTANCE = 1e-4
"""Of a peer's embedding from ours: one minus the cosine."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A contestant whose service runs."""

    contestant: Contestant
    knobs: Knobs
    server: Server

    @property
    def port(self) -> int:
        """Of the loopback interface."""
        return self.server.service.port

    def processes(self) -> list[psutil.Process]:
        """It and all that it started, as they are now."""
        try:
            main = psutil.Process(self.server.process.pid)
            return [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Running for as long as this lasts, then asleep again."""
        self.resume()
        try:
            yield
        finally:
            self.suspend()

    def suspend(self) -> None:
        """Put it to sleep."""
        self._each("suspend")

    def resume(self) -> None:
        """Wake it up."""
        self._each("resume")

    def _each(self, action: str) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                getattr(process, action)()


@contextlib.contextmanager
def started(contestant: Contestant, place: Place, knobs: Knobs) -> Iterator[Contender]:
    """Its service, ready; awakened before it is ended."""
    with running(contestant.service(place, knobs)) as server:
        contender = Contender(contestant=contestant, knobs=knobs, server=server)
        try:
            yield contender
        finally:
            contender.resume()  # who sleeps hears no SIGTERM


async def ask_all(contender: Contender, requests: list[bytes], connections: int) -> Closed:
    """All requests over so many new connections."""
    async with dial(Address(contender.port), connections) as lines:
        if not all(line.alive for line in lines):
            raise BenchError(f"{contender.contestant.name} accepts no connection on {HOST}:{contender.port}")
        return await closed_loop(lines, requests)


def check_embeddings(contender: Contender, replies: Closed, ours: list[np.ndarray]) -> float:
    """The largest distance of its embeddings from ours; `BenchError` when that is too large, or one is missing."""
    name, distances = contender.contestant.name, []
    for reply, expected in zip(replies.replies, ours, strict=True):
        if reply.status != 200:
            raise BenchError(f"{name} answered {reply.status}: {reply.body[:200].decode(errors='replace')}")
        distances.append(1 - float(contender.contestant.read(reply.body) @ expected))
    if max(distances) > LARGEST_DISTANCE:
        raise BenchError(f"{name} gives other embeddings: cosine distance {max(distances):.2g} from ours")
    return max(0.0, *distances)
