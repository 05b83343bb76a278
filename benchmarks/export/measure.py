"""How good and how fast graphs are, on the same tokens, in one process, with the same session settings."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from onnxruntime import InferenceSession
from tokenizers import Encoding, Tokenizer

from artifact.dataset import Example
from artifact.progress import progress
from benchmarks.export.make import Made
from serve.latency.timing import SETTLE_MS, settle
from serve.session import serving_options

BATCH = 32
SINGLE_TEXTS = 24
"""Answered one by one in a round, spread evenly through the test split sorted by length."""
BATCHES = 4
"""Whole batches in a round, spread likewise."""

Inputs = dict[str, np.ndarray]


def measure_all(made: Sequence[Made], test: Sequence[Example], *, threads: int, rounds: int) -> dict[str, Any]:
    """What each graph answers rightly, and its milliseconds by round, raw; the graphs take turns within a round."""
    encodings = _encode(made[0], test)
    order = sorted(range(len(test)), key=lambda place: len(encodings[place].ids))
    sessions = [_open(one, threads) for one in made]
    labels = [example.label for example in test]
    rows: list[dict[str, Any]] = []
    with progress("answering the test split", len(made)) as advance:
        for one, session in zip(made, sessions, strict=True):
            right = _right(session, encodings, order, labels)
            rows.append({
                "name": one.name, "command": one.command, "size_bytes": one.graph.stat().st_size,
                "made_seconds": one.seconds, "made_peak_bytes": one.peak_bytes, "right": right,
            })  # fmt: skip
            advance(1, one.name)
    single = [[encodings[place]] for place in _spread(order, SINGLE_TEXTS)]
    starts = _spread(range(max(1, len(order) - BATCH + 1)), BATCHES)
    full = [[encodings[place] for place in order[start : start + BATCH]] for start in starts]
    for kind, batches, repeats in (("single_ms", single, rounds), ("batch_ms", full, max(1, rounds // 4))):
        for row, samples in zip(rows, _take_turns(sessions, batches, repeats, kind), strict=True):
            row[kind] = samples
    texts = sum(len(batch) for batch in full)
    tokens = [len(batch[0].ids) for batch in single]
    return {"rows": rows, "test_texts": len(test), "batch_texts": texts, "single_tokens": tokens}


def _take_turns(
    sessions: Sequence[InferenceSession], batches: Sequence[Sequence[Encoding]], rounds: int, about: str
) -> list[list[list[float]]]:
    """Milliseconds by session, round and batch; in another order in each round, after two rounds thrown away.

    A turn is all batches, one after the other as in service, after some that are not timed: the session before had
    the caches.
    """
    random = np.random.default_rng(0)
    inputs = [[_pad(batch, session) for batch in batches] for session in sessions]
    spent = np.zeros((len(sessions), rounds + 2, len(batches)))
    with progress(about, rounds + 2) as advance:
        for turn in range(rounds + 2):
            for place in random.permutation(len(sessions)):
                settle(partial(sessions[place].run, None), inputs[place], SETTLE_MS)
                for column, given in enumerate(inputs[place]):
                    began = time.perf_counter()
                    sessions[place].run(None, given)
                    spent[place, turn, column] = 1000 * (time.perf_counter() - began)
            advance(1, "")
    kept: list[list[list[float]]] = spent[:, 2:].round(4).tolist()
    return kept


def _right(
    session: InferenceSession, encodings: Sequence[Encoding], order: Sequence[int], labels: Sequence[int]
) -> str:
    """One character a text of the split, in its order: 1 where the graph's best label is the text's."""
    place_of_logits = [item.name for item in session.get_outputs()].index("logits")
    right = np.zeros(len(order), dtype=int)
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        logits = session.run(None, _pad([encodings[place] for place in places], session))[place_of_logits]
        right[places] = logits.argmax(axis=1) == np.array(labels)[places]
    return "".join(map(str, right))


def _encode(made: Made, test: Sequence[Example]) -> list[Encoding]:
    tokenizer = Tokenizer.from_file(str(made.tokenizer))
    tokenizer.enable_truncation(made.max_tokens)
    tokenizer.no_padding()
    return list(tokenizer.encode_batch([example.text for example in test]))


def _open(made: Made, threads: int) -> InferenceSession:
    return InferenceSession(str(made.graph), serving_options(threads), providers=["CPUExecutionProvider"])


def _pad(batch: Sequence[Encoding], session: InferenceSession) -> Inputs:
    """The graph's inputs; padding is masked, so that its id is of no account."""
    longest = max(len(encoding.ids) for encoding in batch)

    def padded(field: str) -> np.ndarray:
        rows = [getattr(encoding, field) + [0] * (longest - len(encoding.ids)) for encoding in batch]
        return np.array(rows, dtype=np.int64)

    fields = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    return {item.name: padded(fields[item.name]) for item in session.get_inputs()}


def _spread(places: Sequence[int], count: int) -> list[int]:
    """So many of `places`, evenly from the first to the last; all where there are fewer."""
    chosen = np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int)
    return [places[place] for place in chosen]
