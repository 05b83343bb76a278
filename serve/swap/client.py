"""`understudy swap URL MODEL BUNDLE`: ask a running service to serve a model from another bundle."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from artifact.errors import ServeError

KEY_ENV = "UNDERSTUDY_KEY"
"""Where the key is read from: the list of processes shows arguments to everybody."""
WAIT_SECONDS = 600
"""For a large bundle to be verified, loaded and warmed."""


def ask_swap(
    url: str, model: str, bundle: str, key_env: str = KEY_ENV, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What the service answers once it has swapped.

    Raises `ServeError`: no key in `key_env`, no service at `url`, or the service refuses, in its own words.
    """
    key = (os.environ if environment is None else environment).get(key_env, "").strip()
    if not key:
        raise ServeError(f"{key_env} is not set", "set it to an API key of role admin; `understudy key` makes one")
    if not (key.isascii() and key.isprintable()):
        raise ServeError(f"{key_env} holds no API key", "set it to what `understudy key` printed")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ServeError(f"{url!r} is not the address of a service", "write it as http://127.0.0.1:3000")
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked
        f"{url.rstrip('/')}/admin/swap",
        data=json.dumps({"model": model, "bundle": bundle}).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {key}"},
        method="POST",
    )
    try:
        with urllib.request.build_opener(_StayHere).open(request, timeout=WAIT_SECONDS) as answer:
            told: dict[str, Any] = json.load(answer)
            return told
    except urllib.error.HTTPError as error:
        raise ServeError(f"{url} refused with {error.code}: {_message_of(error)}") from None
    except (OSError, HTTPException, ValueError) as error:
        why = getattr(error, "reason", None) or error
        raise ServeError(f"{url} does not answer as a service of ours: {why}", "check the address") from None


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the key would go along to wherever it leads."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: the redirect is an error then."""


def _message_of(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(10_000))["error"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return str(error.reason)
