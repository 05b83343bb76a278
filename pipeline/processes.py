"""Work in processes of its own: started anew, so that neither our libraries nor our memory are theirs."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import TypeVar

from artifact.errors import BenchError
from artifact.progress import progress

Job = TypeVar("Job")
Result = TypeVar("Result")


@contextlib.contextmanager
def own_processes(count: int, *, lives: int | None = None) -> Iterator[ProcessPoolExecutor]:
    """`count` processes that take tasks, each replaced after `lives` of them; ended on the way out.

    `BenchError` when one of them dies, which on a full machine means that memory ran out. Tasks are of importable
    functions; what they raise is raised here.
    """
    pool = ProcessPoolExecutor(
        count, mp_context=get_context("spawn"), max_tasks_per_child=lives, initializer=_depend_on_parent
    )
    try:
        yield pool
    except BrokenProcessPool:
        hint = "it was probably out of memory: plan smaller shapes, or fewer at a time"
        raise BenchError("a process that was at work for the plan died", hint) from None
    finally:
        pool.shutdown(cancel_futures=True)


def work_all(
    work: Callable[[Job], Result], jobs: Sequence[Job], *, processes: int, description: str, lives: int | None = None
) -> list[Result]:
    """`work` done for each job, several at a time, with progress; the results in the order of the jobs."""
    with progress(description, total=len(jobs)) as advance, own_processes(processes, lives=lives) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        for future in as_completed(futures):
            future.result()
            advance(1, "")
        return [future.result() for future in futures]


def _depend_on_parent() -> None:
    """An interrupt is the parent's to answer, and when the parent is gone there is nobody to work for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
