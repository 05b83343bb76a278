"""The loop that anybody would write: a tokenizer, a session, a clock; nothing of ours is imported."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np


def time_by_hand(
    tokenizer: Any, session: Any, outputs: Sequence[str], texts: Sequence[str], settle_ms: float
) -> tuple[float, ...]:
    """Milliseconds of each text, tokenized and run; the first ones for so long before that, untimed."""
    wanted = {item.name for item in session.get_inputs()}
    settled, place = time.perf_counter() + settle_ms / 1000, 0
    while place == 0 or time.perf_counter() < settled:
        answer(tokenizer, session, outputs, wanted, texts[place % len(texts)])
        place += 1
    samples = []
    for text in texts:
        begun = time.perf_counter()
        answer(tokenizer, session, outputs, wanted, text)
        samples.append(1000 * (time.perf_counter() - begun))
    return tuple(samples)


def answer(tokenizer: Any, session: Any, outputs: Sequence[str], wanted: set[str], text: str) -> Any:
    """What the graph says of one text."""
    encoding = tokenizer.encode(text)
    feed = {
        "input_ids": np.array([encoding.ids], dtype=np.int64),
        "attention_mask": np.array([encoding.attention_mask], dtype=np.int64),
        "token_type_ids": np.array([encoding.type_ids], dtype=np.int64),
    }
    return session.run(outputs, {name: array for name, array in feed.items() if name in wanted})
