"""A graph's weights laid out as the processor reads them, in a file that every session of every worker maps.

ONNX Runtime lays weights out anew, in memory of its own, for each session. Done once and saved, opening takes a tenth
of the time, and however many sessions there are, the weights are in memory once. The layout is that of this machine's
processor and of this version of ONNX Runtime, so it is made where it is used, and never shipped.
"""

import contextlib
import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnxruntime

from serve.session import UNLOADABLE, serving_options
from serve.settings import CACHE

GRAPH = "model.onnx"
WEIGHTS = "weights.bin"
SMALLEST_BYTES = 1024
"""Smaller weights stay in the graph."""

logger = logging.getLogger("understudy.serve")


@contextlib.contextmanager
def packed(graph: Path, key: str) -> Iterator[Path]:
    """`graph` with its weights laid out, to be opened meanwhile; `graph` itself where that cannot be done.

    `key` tells it from other graphs: a name that holds no separator. Without `UNDERSTUDY_CACHE` the copy is gone
    afterwards: sessions keep what they mapped.
    """
    with contextlib.ExitStack() as stack:
        cache = os.environ.get(CACHE)
        folder = Path(cache or stack.enter_context(tempfile.TemporaryDirectory(prefix="understudy-")))
        try:
            found = pack(graph, folder / key)
        except (OSError, *UNLOADABLE) as error:  # a full disk, a version that cannot: slower to open, and no worse
            logger.warning("weights are not shared between sessions: %s", type(error).__name__)
            found = graph
        yield found


def pack(graph: Path, folder: Path) -> Path:
    """The graph in `folder`, made there if it is not; of several processes one makes it, and the others wait."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
                made = Path(temporary, "packed")
                made.mkdir()
                _lay_out(graph, made)
                made.rename(folder)
    return folder / GRAPH


def _lay_out(graph: Path, folder: Path) -> None:
    options = serving_options(1)
    options.optimized_model_filepath = str(folder / GRAPH)
    entry = options.add_session_config_entry
    entry("session.optimized_model_external_initializers_file_name", WEIGHTS)
    entry("session.optimized_model_external_initializers_min_size_in_bytes", str(SMALLEST_BYTES))
    entry("session.save_external_prepacked_constant_initializers", "1")
    onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
