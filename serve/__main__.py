"""`python -m serve BUNDLE... [--default student/int8] [--host 127.0.0.1] [--port 3000] [--workers 1]`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from artifact.errors import ServeError, UnderstudyError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, serve, and tell errors in two lines; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        from serve.command import serve_command

        bundles = name_bundles(options.bundles)
        return serve_command(bundles, options.default, options.host, options.port, options.workers)
    except UnderstudyError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - the rim
        return 2


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serve", description="Serve bundles over HTTP.")
    parser.add_argument("bundles", nargs="+", metavar="BUNDLE", help="a bundle directory, or name=directory")
    parser.add_argument("--default", help="model that answers when a request names none, such as student/int8")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=3000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
