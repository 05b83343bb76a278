"""The threads of one worker that compute, shared by all its models: as many as the plan says, and never more at once.

A lone text runs on all of them, while no others come. Where several wait, each thread takes a run of its own as soon as
it is free: a thread of its own is worth more to a run than a share of every other, and nothing waits for company.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from serve.batching.errand import Post, Run, carry_out
from serve.batching.overload import Overload
from serve.batching.ticket import Ticket

NARROW_SECONDS = 0.1
"""How long no text has all threads to itself after another came meanwhile.

Two threads are far from twice as fast as one at a short text (docs/log.md), and are both busy for it: a good use of
threads that would be idle, and a waste of such that will be asked for."""


class Crew:
    """Threads that take what waits at any of their posts, the longest unserved first."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.broken = False
        """Whether a thread ended by a fault of ours: the worker is then not healthy, and is to be replaced."""
        self.overload = Overload()
        """Of all posts together, since they share the threads."""
        self._changed = threading.Condition()
        self._jobs: deque[Callable[[], None]] = deque()
        self._posts: list[Post] = []
        self._busy = 0
        self._wide = False
        self._narrow_until = 0.0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"crew-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def join(self, post: Post) -> None:
        """Take what waits at `post` from now on."""
        with self._changed:
            self._posts.append(post)

    def leave(self, post: Post) -> None:
        """Take nothing more from `post`, at which nothing may wait any longer."""
        with self._changed:
            self._posts.remove(post)

    @property
    def backlog_seconds(self) -> float:
        """How long what was admitted at all posts will take."""
        return sum(post.backlog_seconds for post in self._posts)

    @property
    def requests(self) -> int:
        """Admitted at all posts and not answered."""
        return sum(post.requests for post in self._posts)

    def shed(self, longest_wait: float) -> None:
        """Send away what waits and was not begun, the latest first, until the rest takes no longer than that."""
        excess = self.backlog_seconds - longest_wait
        for post in list(self._posts):
            excess -= post.shed(excess)

    def submit(self, post: Post, ticket: Ticket) -> None:
        """Compute it; the post is told, on one of the threads, when that is done."""
        with self._changed:
            post.schedule.add(ticket)
            if self._wide:
                self._narrow_until = time.perf_counter() + NARROW_SECONDS
            self._changed.notify(min(ticket.left, self.threads))

    def do(self, job: Callable[[], None]) -> None:
        """Run `job` on one of the threads, before any run that waits; it may not raise."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def drop(self, post: Post, ticket: Ticket) -> None:
        """Nobody wants it any more: what of it waits is never computed."""
        with self._changed:
            post.schedule.drop(ticket)

    def close(self) -> None:
        """Finish what waits, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        try:
            self._work_until_closed()
        except BaseException:
            self.broken = True
            raise

    def _work_until_closed(self) -> None:
        while True:
            with self._changed:
                while (task := self._choose()) is None:
                    if self._closed:
                        return
                    self._changed.wait()
                self._busy += 1
            task()
            with self._changed:
                self._busy -= 1
                if self._wide:  # it was this thread's text: while it ran, no other took anything
                    self._wide = False
                    self._changed.notify_all()

    def _choose(self) -> Callable[[], None] | None:
        """What to do next, the lock being held; None when there is nothing, or all threads are at one text."""
        if self._wide:
            return None
        if self._jobs:
            return self._jobs.popleft()
        waiting = [post for post in self._posts if post.schedule.oldest < math.inf]
        if not waiting:
            return None
        now = time.perf_counter()
        rows = sum(post.schedule.count_rows(self.threads) for post in waiting)
        post = min(waiting, key=lambda each: each.schedule.oldest)
        self._wide = rows == 1 and self._busy == 0 and now >= self._narrow_until
        places = post.schedule.take(now, min(self.threads, rows))
        return partial(carry_out, self._changed, post, Run(places, wide=self._wide))
