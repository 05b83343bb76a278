"""`python -m serve BUNDLE... [--default student/int8] [--config FILE] [--host ADDRESS] [--port 3000] [--workers 1]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from artifact.errors import ServeError, UnderstudyError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, serve, and tell errors in two lines; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m serve", description="Serve bundles over HTTP.")
    add_options(parser)
    try:
        return serve_from(parser.parse_args(arguments))
    except UnderstudyError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the rim
        return 2


def add_options(parser: argparse.ArgumentParser) -> None:
    """What `serve_from` reads."""
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE", help="a bundle directory, or name=directory")
    parser.add_argument("--default", metavar="MODEL/PRECISION", help="what answers when a request names no model")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of limits and all else (docs/serve.md)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=3000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="worker processes (default: %(default)s)")


def serve_from(options: argparse.Namespace) -> int:
    """Serve what the options name until a signal ends it; the exit status. Raises `UnderstudyError`."""
    from serve.command import serve_command
    from serve.settings import Settings

    settings = Settings(bundles=name_bundles(options.bundles), default=options.default, config=options.config)
    return serve_command(settings, options.host, options.port, options.workers)


def name_bundles(arguments: Sequence[str]) -> dict[str, Path]:
    """`name=path` as written, a bare path under the name its bundle has; `ServeError` when two have the same."""
    from serve.bundle import open_bundle

    bundles: dict[str, Path] = {}
    for argument in arguments:
        name, equals, path = argument.rpartition("=")
        directory = Path(path)
        key = name if equals else open_bundle(directory).info.name
        if key in bundles:
            raise ServeError(f"two bundles are called {key!r}", "tell them apart: name=path")
        bundles[key] = directory
    return bundles


if __name__ == "__main__":
    sys.exit(main())
