"""`understudy serve`: check first, then become BentoML's supervisor."""

import ipaddress
import os
import signal
import socket
import tempfile
from pathlib import Path
from types import FrameType

from artifact.errors import ServeError
from artifact.progress import say
from serve.config import follow_environment, read_service_config
from serve.settings import (
    BUNDLES,
    CACHE,
    CHECKED,
    CONFIG,
    DEFAULT,
    HOME,
    HOSTS,
    THREADS,
    WORKERS,
    Settings,
    check_settings,
)
from serve.threads import ThreadPlan, plan_threads


def serve_command(settings: Settings, host: str = "127.0.0.1", port: int = 3000, workers: int = 1) -> int:
    """Serve what `settings` name until a signal ends it; the exit status, 0 after SIGTERM or SIGINT.

    Raises `UnderstudyError` before anything starts: a damaged bundle, a default that none of them has, more
    workers than cores, a port that is taken.
    """
    plan = plan_threads(workers)
    check_settings(settings)
    follow_environment(read_service_config(settings.config), os.environ)
    check_address(host, port)
    say(f"threads: {plan}")
    say(f"serving {', '.join(settings.bundles)} on http://{host}:{port}")
    with tempfile.TemporaryDirectory(prefix="understudy-") as home:
        asked = environment_of(settings, plan, Path(home)) | {CHECKED: "1"}
        os.environ.update({**hosts_of(host), **os.environ, **asked})
        return _supervise(host, port)


def _supervise(host: str, port: int) -> int:
    """`bentoml serve`, in this process: a second one would import the same again, for a third of a second."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # BentoML takes over once it has workers to end
    # Imported here, because BentoML reads the environment when it is imported.
    from bentoml_cli.cli import cli

    root = Path(__file__).resolve().parent.parent
    place = ["--working-dir", str(root), "--host", host, "--port", str(port)]
    cli.main(["serve", "serve.service:Understudy", *place], standalone_mode=False)
    return 0


def _leave(_: int, __: FrameType | None) -> None:
    raise SystemExit(0)


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
        HOME: str(home),
        "BENTOML_DO_NOT_TRACK": "True",
        "TOKENIZERS_PARALLELISM": "false",
    }


def hosts_of(host: str) -> dict[str, str]:
    """On a loopback address, the names it goes by; on any other, whoever set it up knows them."""
    address = ipaddress.ip_address(host)
    shown = f"[{address}]" if address.version == 6 else str(address)
    return {HOSTS: ",".join(dict.fromkeys([shown, "localhost", "127.0.0.1", "[::1]"]))} if address.is_loopback else {}


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
