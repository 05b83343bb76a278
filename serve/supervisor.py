"""BentoML's supervisor hears of a worker's end when it ends; left alone it looks every ten seconds."""

import signal
from functools import partial
from typing import Any

PAUSE_SECONDS = 0.5
"""From a worker's end to the look, so that one that cannot start is not started again as fast as it fails."""


def hear_of_ends() -> None:
    """Have the supervisor that is made in this process replace a worker as soon as it has ended.

    Circus, which BentoML's is, calls its handler's method named after a signal, for those in its list.
    """
    from circus.sighandler import SysHandler

    if signal.SIGCHLD in SysHandler.SIGNALS:
        return
    SysHandler.SIGNALS = [*SysHandler.SIGNALS, signal.SIGCHLD]
    setattr(SysHandler, f"handle_{SysHandler.SIG_NAMES[signal.SIGCHLD]}", _look_soon)


def _look_soon(handler: Any) -> None:
    controller = handler.controller
    look = partial(_look, controller.arbiter, controller.loop)
    controller.loop.add_callback_from_signal(controller.loop.call_later, PAUSE_SECONDS, look)


def _look(arbiter: Any, loop: Any) -> None:
    from circus.exc import ConflictError

    try:
        arbiter.manage_watchers()
    except ConflictError:  # it is at it, or at something else: again when that is over
        loop.call_later(PAUSE_SECONDS, partial(_look, arbiter, loop))
