"""Which exact versions a set of requirements means here: those installed, and all that they need in turn."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from artifact.errors import ServeError


def lock(requirements: Iterable[str]) -> list[str]:
    """`name==version` of every distribution that installing `requirements` takes, by name, for this platform.

    Read from what is installed, not asked of an index: the lock then names what the tests ran with, and needs no
    network. Raises `ServeError` when a requirement is not installed, or is in a version it does not allow.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        wanted, extra = waiting.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(wanted.name)
        version, needs = _installed(wanted)
        found[name] = version
        for each in {"", *wanted.extras}:
            if (name, each) not in seen:
                seen.add((name, each))
                waiting += [(Requirement(text), each) for text in needs]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _installed(wanted: Requirement) -> tuple[str, list[str]]:
    """The version of it that is installed, and what that requires."""
    hint = "run `pip install .[serve]` in the environment that packages"
    try:
        installed = distribution(wanted.name)
    except PackageNotFoundError:
        raise ServeError(f"{wanted.name} is not installed, so its version cannot be locked", hint) from None
    if not wanted.specifier.contains(installed.version, prereleases=True):
        raise ServeError(f"{wanted.name} {installed.version} is installed, {wanted} is asked for", hint)
    return installed.version, installed.requires or []
