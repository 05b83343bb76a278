"""A bundle's graph and tokenizer, opened with the settings that all that is served or measured shares."""

from pathlib import Path
from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort
from tokenizers import Tokenizer  # type: ignore[import-untyped]  # ships no types

from artifact.errors import ArtifactError
from serve.bundle import BundleInfo
from serve.engine import Side

SPIN_MICROSECONDS = "100"
"""How long a thread waits awake for the next piece of work before it sleeps."""

UNLOADABLE = (
    ort.Fail,
    ort.InvalidArgument,
    ort.InvalidGraph,
    ort.InvalidProtobuf,
    ort.NotImplemented,
    ort.RuntimeException,
)
"""What a graph of another opset or a graph that is none raises; ONNX Runtime's errors share no base class."""


def serving_options(threads: int) -> onnxruntime.SessionOptions:
    """The session options that serving was measured with."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # One memory plan would be kept for each shape ever seen, and every batch has another.
    options.enable_mem_pattern = False
    # Two threads, single texts: spinning without end took 0.72 (float32) and 0.62 (int8) of the time of not spinning on
    # two idle cores, and 1.9 times it (float32) beside one busy neighbour. A bounded spin outlasts the gap between two
    # nodes of the graph and little else: 0.76 and 0.64 of the time when idle, 0.8 to 1.1 of it beside the neighbour.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", SPIN_MICROSECONDS)
    return options


def open_session(graph: Path, info: BundleInfo, threads: int) -> onnxruntime.InferenceSession:
    """The graph ready to run, with `serving_options`.

    Raises `ArtifactError` when it does not load, or does not take the inputs that `info` names.
    """
    options = serving_options(threads)
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except UNLOADABLE as error:
        raise ArtifactError(f"{graph} does not load: {_first_line(error)}", "export it again with --force") from None
    found = {item.name for item in session.get_inputs()}
    if found != set(info.inputs):
        raise ArtifactError(f"{graph} takes {sorted(found)}, understudy.json says {sorted(info.inputs)}")
    return session


def open_tokenizer(path: Path, max_tokens: int, side: Side = "right") -> Tokenizer:
    """The tokenizer, cutting to `max_tokens` at that side and never padding; `ArtifactError` when it does not load."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        if type(error) is not Exception:  # what Rust refuses arrives as a bare one; anything else is ours
            raise
        raise ArtifactError(f"{path} does not load: {_first_line(error)}", "export it again with --force") from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens, direction=side)
    return tokenizer


def _first_line(error: Any) -> str:
    return str(error).partition("\n")[0][:200]
