"""How alike two embeddings are; numpy alone, so that a bundle's proof can be asked without PyTorch."""

import numpy as np
from jaxtyping import Float


def cosines(
    found: Float[np.ndarray, "batch hidden"], expected: Float[np.ndarray, "batch hidden"]
) -> Float[np.ndarray, " batch"]:
    """Cosine of each pair of rows; 0 where one of them has no direction."""
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosine: Float[np.ndarray, " batch"] = (found * expected).sum(axis=1) / np.maximum(lengths, 1e-12)
    return cosine
