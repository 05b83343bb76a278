"""API keys: made at random, kept as hashes, compared in constant time.

    {"name": "shop", "sha256": "9f86d0…", "role": "client"}

A key has 256 random bits, so that one round of SHA-256 hides it as well as any slow hash would: those exist because
people choose passwords that can be guessed, and would cost each request milliseconds here.
"""

import hashlib
import hmac
import re
import secrets
import sys
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from artifact.config import Config
from artifact.errors import ConfigError

Role = Literal["client", "admin"]
"""`client` asks models; `admin` may also exchange them."""
MARK = "understudy-"
"""What keys begin with, so that scanners for leaked secrets can know one."""


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a key may be called."""


class ApiKey(Config):
    """One key that is accepted."""

    name: str = Field(pattern=f"^{NAME.pattern}$")
    """Whose it is; shown in the log where the key exchanges a model."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the key, as `understudy key` prints it."""
    role: Role = "client"
    """What it is good for."""


def make_key(name: str, role: Role) -> tuple[str, ApiKey]:
    """A new key, which is nowhere else, and the entry that accepts it."""
    key = MARK + secrets.token_urlsafe(32)
    return key, ApiKey(name=name, sha256=hashlib.sha256(key.encode()).hexdigest(), role=role)


def show_key(name: str, role: Role) -> int:
    """`understudy key`: a new key on stdout, the lines that accept it on stderr; 0, or `ConfigError` for no name."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a key", "use letters, digits, dots, dashes; 64 at most")
    key, entry = make_key(name, role)
    sys.stderr.write("# shown once; for the file of `understudy serve --config`:\napi_keys:\n")
    sys.stderr.write(f"  - {{name: {entry.name}, role: {entry.role}, sha256: {entry.sha256}}}\n")
    sys.stdout.write(f"{key}\n")
    return 0


def find_key(keys: Sequence[ApiKey], presented: bytes) -> ApiKey | None:
    """The entry that `presented` is the key of, None for none; takes as long whichever it is."""
    digest = hashlib.sha256(presented).hexdigest()
    found = None
    for key in keys:
        if hmac.compare_digest(key.sha256, digest):
            found = key
    return found
