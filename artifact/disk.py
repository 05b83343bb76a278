"""A full disk, told the same way by every stage."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from artifact.errors import UnderstudyError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A full disk, a user's share of it used up, a file larger than allowed."""


@contextlib.contextmanager
def enough_disk(directory: Path, fault: type[UnderstudyError], hint: str) -> Iterator[None]:
    """`fault` when what is written in `directory` finds no room.

    Every exception is looked at, since libraries in Rust and C++ raise a bare `Exception` or `RuntimeError`; one that
    is not about room goes on as it is.
    """
    try:
        yield
    except UnderstudyError:
        raise
    except Exception as error:
        if not is_out_of_room(error):
            raise
        raise fault(f"no room on the disk of {directory}: {str(error).splitlines()[0]}", hint) from None


def is_out_of_room(error: Exception) -> bool:
    """Python has the number; safetensors and tokenizers have it in Rust's words, onnx and ONNX Runtime in C's."""
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    told = [f"os error {number}" for number in NO_ROOM] + ["No space left", "Disk quota exceeded", "File too large"]
    return any(words in str(error) for words in told)
