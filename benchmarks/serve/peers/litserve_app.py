"""LitServe's batching: `python -m benchmarks.serve.peers.litserve_app PORT`.

PEER_BATCH    most texts of a batch
PEER_WAIT     seconds that the first text of a batch waits for others
PEER_WORKERS  processes
"""

import sys
from typing import Any

import litserve  # type: ignore[import-not-found]  # in an environment of its own

from benchmarks.serve.peers.encoder import open_encoder, read_knob


class Embedder(litserve.LitAPI):  # type: ignore[misc]  # as above
    """Texts to embeddings."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's signature
        """Open the graph, in the worker."""
        self._encoder = open_encoder()

    def decode_request(self, request: dict[str, Any]) -> str:
        """The text."""
        return str(request["inputs"])

    def predict(self, texts: str | list[str]) -> list[Any]:
        """One vector a text; without batching, the vector of the one text."""
        vectors = self._encoder.run([texts] if isinstance(texts, str) else texts).tolist()
        return vectors[0] if isinstance(texts, str) else vectors  # type: ignore[no-any-return]

    def encode_response(self, vector: list[float]) -> list[list[float]]:
        """As JSON."""
        return [vector]


def main() -> None:
    """Serve until a signal."""
    batch, wait = int(read_knob("PEER_BATCH", 8)), read_knob("PEER_WAIT", 0.002)
    api = Embedder(max_batch_size=batch, batch_timeout=wait, api_path="/embed")
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=int(read_knob("PEER_WORKERS", 1)), timeout=120
    )
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
