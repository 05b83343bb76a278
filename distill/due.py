"""When the next checkpoint is due: after so many steps where the recipe says, else by the clock.

By the clock, a kill costs at most `EVERY_SECONDS` of work, whatever a step takes; and where writing one is slow, as of
a large model to a network disk, writing takes at most `SHARE` of the time.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

EVERY_SECONDS = 30.0
SHARE = 0.02
"""Of the time, at most, for writing checkpoints."""
STEPS_BETWEEN_LOOKS = 20
"""Of several processes at their clock: the first one's counts, and the others wait to hear it."""


class Due:
    """Says after each step whether a checkpoint is due. `every_steps` left out means by the clock."""

    def __init__(
        self, every_steps: int | None, accelerator: Accelerator, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_steps, self._accelerator, self._now = every_steps, accelerator, now
        self._last, self._wait = now(), EVERY_SECONDS

    def after(self, step: int) -> bool:
        """Whether to write one after `step`; every process hears the same."""
        if self._every_steps is not None:
            return step % self._every_steps == 0
        if self._accelerator.num_processes == 1:
            return self._now() - self._last >= self._wait
        if step % STEPS_BETWEEN_LOOKS:
            return False
        said = [self._now() - self._last >= self._wait]
        broadcast_object_list(said)
        return bool(said[0])

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around the writing of one: the clock starts anew, and waits the longer the longer it took."""
        began = self._now()
        yield
        self._last = self._now()
        self._wait = max(EVERY_SECONDS, (self._last - began) / SHARE)
