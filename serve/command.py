"""`understudy serve`: check first, then hand over to BentoML in a child process."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from artifact.errors import ServeError
from artifact.progress import say
from serve.bundle import open_bundle
from serve.settings import BUNDLES, DEFAULT, THREADS, WORKERS
from serve.threads import ThreadPlan, plan_threads


def serve_command(
    bundles: Mapping[str, Path], default: str | None, host: str = "127.0.0.1", port: int = 3000, workers: int = 1
) -> int:
    """Serve `bundles`, by model name, until a signal ends it; the exit status, 0 after SIGTERM or SIGINT.

    Raises `UnderstudyError` before anything starts: a damaged bundle, a default that none of them has, more
    workers than cores.
    """
    plan = plan_threads(workers)
    check_default(bundles, default)
    say(f"threads: {plan}")
    say(f"serving {', '.join(bundles)} on http://{host}:{port}")
    command = [sys.executable, "-m", "bentoml", "serve", "serve.service:Understudy"]
    with tempfile.TemporaryDirectory(prefix="understudy-") as home:
        environment = {**os.environ, **environment_of(bundles, default, plan, Path(home))}
        options = ["--host", host, "--port", str(port)]
        root = Path(__file__).resolve().parent.parent
        return _wait(subprocess.Popen([*command, *options], env=environment, cwd=root))


def environment_of(bundles: Mapping[str, Path], default: str | None, plan: ThreadPlan, home: Path) -> dict[str, str]:
    """What the service reads; `home` keeps BentoML's files, among them the metrics of the workers, to one run."""
    return {
        BUNDLES: os.pathsep.join(f"{name}={path.resolve()}" for name, path in bundles.items()),
        DEFAULT: default or "",
        WORKERS: str(plan.workers),
        THREADS: str(plan.intra_op_threads),
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "True",
        "TOKENIZERS_PARALLELISM": "false",
    }


def check_default(bundles: Mapping[str, Path], default: str | None) -> None:
    """`ServeError` when no bundle has the model `default`; `ArtifactError` when one of them is damaged."""
    names: list[str] = []
    for key, directory in bundles.items():
        name, _, precision = key.partition("/")
        found = [precision] if precision else list(open_bundle(directory).info.precisions)
        names += [name, *(f"{name}/{each}" for each in found)]
    if default is not None and default not in names:
        raise ServeError(f"there is no model {default!r} to answer by default", f"name one of {', '.join(names)}")


def _wait(service: "subprocess.Popen[bytes]") -> int:
    """Pass the signals on, and wait; a service that was asked to end has ended well."""
    asked = False

    def forward(number: int, _: FrameType | None) -> None:
        nonlocal asked
        asked = True
        service.send_signal(number)

    previous = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        status = service.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0 if asked else status
