"""How sure a classifier is of an answer."""

import numpy as np
from numpy.typing import NDArray

from serve.engine import Floats


def confidence_of(logits: Floats) -> NDArray[np.float64]:
    """`[batch]`: the probability of each row's best label, between one over the number of labels and 1.

    In double precision: the answers of a sure model lie closer together than float32 tells apart near 1.
    """
    wide = logits.astype(np.float64)
    return np.asarray(1 / np.exp(wide - wide.max(axis=-1, keepdims=True)).sum(axis=-1), dtype=np.float64)
