"""`understudy serve`: check first, then hand over to BentoML in a child process."""

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType

from artifact.errors import ServeError
from artifact.progress import say
from serve.packed import CACHE
from serve.settings import BUNDLES, CONFIG, DEFAULT, THREADS, WORKERS, Settings, check_settings
from serve.threads import ThreadPlan, plan_threads


def serve_command(settings: Settings, host: str = "127.0.0.1", port: int = 3000, workers: int = 1) -> int:
    """Serve what `settings` name until a signal ends it; the exit status, 0 after SIGTERM or SIGINT.

    Raises `UnderstudyError` before anything starts: a damaged bundle, a default that none of them has, more
    workers than cores, a port that is taken.
    """
    plan = plan_threads(workers)
    check_settings(settings)
    check_address(host, port)
    say(f"threads: {plan}")
    say(f"serving {', '.join(settings.bundles)} on http://{host}:{port}")
    command = [sys.executable, "-m", "bentoml", "serve", "serve.service:Understudy"]
    with tempfile.TemporaryDirectory(prefix="understudy-") as home:
        environment = {**os.environ, **environment_of(settings, plan, Path(home))}
        options = ["--host", host, "--port", str(port)]
        root = Path(__file__).resolve().parent.parent
        return _wait(subprocess.Popen([*command, *options], env=environment, cwd=root))


def environment_of(settings: Settings | None, plan: ThreadPlan, home: Path) -> dict[str, str]:
    """What the service reads; `home` keeps BentoML's files, among them the metrics of the workers, to one run."""
    asked = (
        {
            BUNDLES: os.pathsep.join(f"{name}={path.resolve()}" for name, path in settings.bundles.items()),
            DEFAULT: settings.default or "",
            CONFIG: str(settings.config.resolve()) if settings.config else "",
        }
        if settings
        else {}
    )
    return {
        **asked,
        WORKERS: str(plan.workers),
        THREADS: str(plan.intra_op_threads),
        CACHE: str(home / "packed"),
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "True",
        "TOKENIZERS_PARALLELISM": "false",
    }


def check_address(host: str, port: int) -> None:
    """`ServeError` when `host` is no IP address of this machine, or when `port` is taken."""
    hint = "choose another with --host and --port"
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except (ValueError, OverflowError):
        raise ServeError(f"{host}:{port} is not an IP address and a port", hint) from None
    except OSError as error:
        raise ServeError(f"cannot listen on {host}:{port}: {error.strerror}", hint) from None


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
