"""Plain ONNX Runtime around a bundle's graph: tokens, padding to the longest, one run.

PEER_BUNDLE   bundle directory
PEER_GRAPH    graph file in it, `onnx/model.onnx` when left out
PEER_THREADS  threads that compute in one run
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer  # type: ignore[import-untyped]  # ships no types


class Encoder:
    """Texts to embeddings."""

    def __init__(self, bundle: Path, graph: str, threads: int) -> None:
        about = json.loads((bundle / "understudy.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(bundle / graph), options, providers=["CPUExecutionProvider"])
        self._tokenizer: Any = Tokenizer.from_file(str(bundle / "tokenizer.json"))
        self._tokenizer.enable_truncation(about["max_tokens"])
        self._tokenizer.enable_padding(pad_id=about["padding"]["id"])
        self._inputs = set(about["inputs"])

    def run(self, texts: Sequence[str]) -> Any:
        """`[batch, hidden]`, scaled to length one."""
        found = self._tokenizer.encode_batch(list(texts))
        feed = {
            "input_ids": np.array([each.ids for each in found], np.int64),
            "attention_mask": np.array([each.attention_mask for each in found], np.int64),
            "token_type_ids": np.array([each.type_ids for each in found], np.int64),
        }
        wanted = {name: array for name, array in feed.items() if name in self._inputs}
        (vectors,) = self._session.run(["sentence_embedding"], wanted)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def open_encoder() -> Encoder:
    """The encoder that the environment names."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    graph = os.environ.get("PEER_GRAPH", "onnx/model.onnx")
    return Encoder(Path(os.environ["PEER_BUNDLE"]), graph, int(os.environ.get("PEER_THREADS", "2")))


def read_knob(name: str, default: float) -> float:
    """A number of the environment."""
    return float(os.environ.get(name, default))
