"""A model exchanged while it answers: the new bundle is verified, loaded and warm before any request meets it.

The roster is replaced as a whole, between two steps of the event loop. A request holds the lane it was given, so
each is answered by one bundle from end to end; the old lanes leave once theirs are answered.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from artifact.errors import ArtifactError, ServeError, UnderstudyError
from serve.batching.lane import Lane, ModelLane
from serve.bundle import Bundle, open_bundle
from serve.engine import Servable
from serve.http.boundary import frames_of
from serve.http.desk import Desk
from serve.http.replies import Swapped
from serve.metrics import Metrics
from serve.problem import Problem, quote
from serve.runtime import Runtime
from serve.swap.journal import Entry, Journal, Place, busy
from serve.swap.shelf import ORIGINAL, PREVIOUS, Shelf, differences

logger = logging.getLogger("understudy.serve")

LOOK_SECONDS = 0.5
"""How often a worker looks whether another has taken a swap."""


class _Loaded(NamedTuple):
    """What a swap brings."""

    lanes: Mapping[str, Lane]
    """The model's new ones."""
    everything: Mapping[str, Lane]
    """The roster's, with these and the cascades over them."""


class Swapper:
    """Exchanges the models of one desk, one at a time."""

    def __init__(
        self,
        desk: Desk,
        shelf: Shelf,
        open_lane: Callable[[Servable], Lane],
        complete: Callable[[Mapping[str, Lane]], Mapping[str, Lane]],
        metrics: Metrics,
        *,
        threads: int,
        warm_up: Sequence[str],
    ) -> None:
        self._desk = desk
        self._shelf = shelf
        self._open_lane = open_lane
        self._complete = complete
        self._metrics = metrics
        self._threads = threads
        self._warm_up = warm_up
        self._journal = Journal(shelf.home)
        self._seen = (0, 0)
        self._one_at_a_time = asyncio.Lock()
        for lane in desk.roster.lanes.values():
            self._count_bundle(lane, 1)

    async def swap(self, model: str, bundle: str, *, by: str = "") -> Swapped:
        """Serve `model` from the bundle of that name, and say what changed; `by` is logged.

        Raises `Problem`, and then nothing has changed: 403 no swaps here, 404 no such model or bundle, 409 another
        swap is running or the bundle cannot take this one's place, 422 it is damaged or does not run.
        """
        if self._shelf.folder is None:
            self._shelf.find(model, bundle)
        served = self._served(model)
        if self._one_at_a_time.locked():
            raise busy()
        try:
            async with self._one_at_a_time:
                with self._journal.held():
                    done = await self._swap(model, bundle, served)
        except Problem:
            self._metrics.swaps.labels(model, "refused").inc()
            raise
        except BaseException:
            self._metrics.swaps.labels(model, "failed").inc()
            raise
        self._metrics.swaps.labels(model, "done").inc()
        # A warning, because BentoML shows no less of others' loggers, and an operator will look for it.
        logger.warning("%s: from %s to %s, asked by %s", model, done["from"], done["to"], by)
        return done

    async def follow(self) -> None:
        """Serve what the journal says, where another worker wrote it; what cannot be followed is logged and left."""
        stamp = self._journal.stamp
        if stamp == self._seen:
            return
        async with self._one_at_a_time:
            self._seen = stamp
            for model, entry in self._read_journal().items():
                if any(name.startswith(f"{model}/") for name in self._desk.roster.lanes):
                    await self._follow(model, entry.now)

    async def keep_following(self) -> None:
        """`follow`, again and again, until cancelled."""
        while self._shelf.home is not None:
            await asyncio.sleep(LOOK_SECONDS)
            await self.follow()

    async def _swap(self, model: str, name: str, served: Bundle) -> Swapped:
        begun = time.perf_counter()
        known = self._journal.read().get(model)
        now = known.now if known else Place(bundle=ORIGINAL, digest=served.digest)
        wanted = name
        if name == PREVIOUS:
            if known is None:
                raise Problem(409, "Conflict", f"{model} was not swapped yet, there is no previous bundle")
            wanted = known.before.bundle
        bundle = await self._open(model, wanted, known.before.digest if known and name == PREVIOUS else None)
        loaded = None if bundle.digest == served.digest else await self._load(model, wanted, served, bundle)
        try:
            if bundle.digest != now.digest:
                entry = Entry(now=Place(bundle=wanted, digest=bundle.digest), before=now)
                await asyncio.to_thread(self._journal.write, model, entry)
        except BaseException:
            await _retire(loaded.lanes if loaded else {})
            raise
        if loaded:
            await self._switch(loaded)
        return {
            "model": model,
            "from": now.bundle,
            "to": wanted,
            "digests": {"from": now.digest, "to": bundle.digest},
            "seconds": round(time.perf_counter() - begun, 3),
        }

    async def _follow(self, model: str, wanted: Place) -> None:
        try:
            served = self._served(model)
            if served.digest == wanted.digest:
                return
            bundle = await self._open(model, wanted.bundle, wanted.digest)
            await self._switch(await self._load(model, wanted.bundle, served, bundle))
        except Exception as error:  # noqa: BLE001 - whatever it is, the bundle that is served goes on being served
            why = str(error) if isinstance(error, Problem) else type(error).__name__
            logger.error("cannot follow the swap of %s to %s: %s", quote(model), quote(wanted.bundle), why)  # noqa: TRY400 - see frames_of
            self._metrics.swaps.labels(model, "not_followed").inc()
        else:
            self._metrics.swaps.labels(model, "followed").inc()

    def _read_journal(self) -> Mapping[str, Entry]:
        try:
            return self._journal.read()
        except UnderstudyError as error:
            logger.error("cannot follow any swap: %s", error.problem)  # noqa: TRY400 - see frames_of
            return {}

    def _served(self, model: str) -> Bundle:
        """The bundle that all of the model's lanes answer from; `Problem` 404 or 409 when there is none."""
        engines = [lane.engine for lane in self._lanes(model).values()]
        if not engines:
            raise Problem(404, "Validation", f"there is no model {quote(model)}", param="model")
        bundles = {engine.bundle.digest: engine.bundle for engine in engines if isinstance(engine, Runtime)}
        if len(bundles) != 1 or not all(isinstance(engine, Runtime) for engine in engines):
            raise Problem(
                409, "Conflict", f"{quote(model)} is not served from one bundle, and cannot be swapped as one"
            )
        return next(iter(bundles.values()))

    def _lanes(self, model: str) -> dict[str, Lane]:
        return {name: lane for name, lane in self._desk.roster.lanes.items() if name.startswith(f"{model}/")}

    async def _open(self, model: str, name: str, digest: str | None) -> Bundle:
        """The bundle, verified; of exactly `digest`, where that is given."""
        directory = self._shelf.find(model, name)
        try:
            bundle = await asyncio.to_thread(open_bundle, directory)
        except ArtifactError as error:
            raise _damaged(name, directory, error) from None
        if digest is not None and bundle.digest != digest:
            raise Problem(409, "Conflict", f"{quote(name)} is no longer the bundle it was when it was swapped to")
        return bundle

    async def _load(self, model: str, name: str, served: Bundle, bundle: Bundle) -> _Loaded:
        """Lanes that are warm, one for each that answers now, and what goes with them."""
        old = self._lanes(model)
        precisions = {each: each.partition("/")[2] for each in old}
        faults = differences(served.info, bundle.info, precisions.values())
        if faults:
            message = f"{quote(name)} cannot take the place of {quote(model)}: {'; '.join(faults)}"
            raise Problem(409, "Conflict", message, param="bundle")
        lanes: dict[str, Lane] = {}
        try:
            for each, precision in precisions.items():
                engine = await asyncio.to_thread(self._open_engine, bundle, precision, old[each].engine)
                lanes[each] = self._open_lane(engine)
                await lanes[each].warm_up(self._warm_up)
            models = {name: lane for name, lane in self._desk.roster.lanes.items() if isinstance(lane, ModelLane)}
            return _Loaded(lanes, self._complete({**models, **lanes}))
        except ServeError as error:
            await _retire(lanes)
            raise Problem(409, "Conflict", error.problem, param="bundle") from None
        except ArtifactError as error:
            await _retire(lanes)
            raise _damaged(name, bundle.directory, error) from None
        except Exception as error:  # noqa: BLE001 - a graph can fail in any way, and only its own swap may
            await _retire(lanes)
            logger.error("%s does not run: %s\n%s", quote(name), type(error).__name__, frames_of(error))  # noqa: TRY400 - see frames_of
            raise Problem(422, "Validation", f"{quote(name)} does not run", param="bundle") from None
        except BaseException:
            await _retire(lanes)
            raise

    def _open_engine(self, bundle: Bundle, precision: str, old: Servable) -> Runtime:
        return Runtime.open(
            bundle, precision, threads=self._threads, name=old.name, batch_tokens=old.batch_tokens, shared=True
        )

    async def _switch(self, loaded: _Loaded) -> None:
        """From here on, requests meet the new lanes; back when those of the lanes before are answered."""
        before = self._desk.roster.lanes
        self._desk.roster = dataclasses.replace(self._desk.roster, lanes=loaded.everything)
        for name, lane in loaded.lanes.items():
            self._count_bundle(before[name], 0)
            self._count_bundle(lane, 1)
        await _retire({name: lane for name, lane in before.items() if loaded.everything[name] is not lane})

    def _count_bundle(self, lane: Lane, workers: int) -> None:
        if isinstance(lane.engine, Runtime):
            self._metrics.bundle_info.labels(lane.engine.name, lane.engine.bundle.digest).set(workers)


async def _retire(lanes: Mapping[str, Lane]) -> None:
    for lane in reversed(list(lanes.values())):  # a cascade, which stands behind its models, before them
        await lane.drain()


def _damaged(name: str, directory: Path, error: ArtifactError) -> Problem:
    """Told by the bundle's name: where it lies is not the client's business."""
    message = error.problem.replace(str(directory), name)
    return Problem(422, "Validation", message, param="bundle")
