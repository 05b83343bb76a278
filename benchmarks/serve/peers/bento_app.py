"""BentoML's own batching: `bentoml serve benchmarks.serve.peers.bento_app:Embedder --port PORT`.

PEER_BATCH    most texts of a batch
PEER_LATENCY  milliseconds a request may be expected to take; beyond it BentoML answers 503
PEER_WORKERS  processes
"""

import bentoml
import numpy as np

from benchmarks.serve.peers.encoder import open_encoder, read_knob


@bentoml.service(
    workers=int(read_knob("PEER_WORKERS", 1)), traffic={"timeout": 120}, logging={"access": {"enabled": False}}
)
class Embedder:
    """Texts to embeddings."""

    def __init__(self) -> None:
        self._encoder = open_encoder()

    @bentoml.api(
        batchable=True,
        max_batch_size=int(read_knob("PEER_BATCH", 32)),
        max_latency_ms=int(read_knob("PEER_LATENCY", 60_000)),
    )  # type: ignore[untyped-decorator]  # BentoML loads its names lazily, untyped
    def encode(self, inputs: list[str]) -> np.ndarray:  # BentoML wants it plain
        """One vector a text."""
        return self._encoder.run(inputs)  # type: ignore[no-any-return]  # `[batch, hidden]`
