"""Running a graph with ONNX Runtime while it is being proved; serving has its own, tuned one."""

from pathlib import Path

from onnxruntime import InferenceSession, SessionOptions
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Unknown

from artifact.errors import ExportError


def open_session(path: Path) -> InferenceSession:
    """A CPU session on the graph at `path`; `ExportError` when ONNX Runtime refuses it."""
    options = SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # several sessions take turns here
    # Every batch has another shape: an arena would keep the memory of the largest for each session there is.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    try:
        return InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidGraph, InvalidProtobuf, Unknown) as error:
        raise ExportError(f"ONNX Runtime does not load {path.name}: {str(error).splitlines()[0]}") from error
