"""Silence for what torch, transformers, optimum and ONNX Runtime tell their own developers while they export."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

from torch.jit import TracerWarning  # type: ignore[attr-defined]  # documented, but not listed in __all__

_LOGGERS = ("transformers", "optimum", "optimum.exporters", "onnxruntime", "torch.onnx", "onnxscript")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back third-party notes (tracing, deprecation, advice) below the level of an error, inside the block only.

    What they are about is checked for real afterwards: missing weights by `load_source`, shapes that a tracer
    froze by the parity grid, fusions by their counts.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for category in (TracerWarning, UserWarning, DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
