"""How many real tokens a second does training read of real sentences, by how they are put into batches?

    python -m benchmarks.distill.ragged CORPUS.jsonl.gz

Collating counts, tokenising does not (`overhead.py` counts it). A turn is one step or more, of about as many tokens.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.distill import turns

TEXTS, MAX_TOKENS, ROUNDS = 20_000, 128, 6
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
STEPS = {
    "padded to 128": 1,
    "padded to the longest": 2,
    "grouped by length, 32 texts": 3,
    "grouped by length, 1024 tokens": 3,
    "grouped by length, 4096 tokens": 1,
    "packed, 1024 tokens": 3,
    "packed, 4096 tokens": 1,
}
"""Steps of a turn. The first two are batches of 32 random texts."""


def main() -> None:
    """Measure, and write `results/ragged.json`."""
    turns.prepare()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="JSON lines with a field `text`, .gz too")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    turns.write("ragged", measure(options.corpus, options.rounds))


def measure(corpus: Path, rounds: int) -> dict[str, Any]:
    """Raw seconds and real tokens of every turn, and how long the texts are."""
    from benchmarks.distill.models import minilm

    bench, encoded = minilm(), sentences(corpus)
    tokens: dict[str, list[int]] = {name: [] for name in STEPS}

    def contestant(name: str, steps: int) -> turns.Contestant:
        batches = batches_of(name, encoded)

        def work() -> None:
            read = 0
            for batch in itertools.islice(batches, steps):
                bench.step(batch)
                read += int(batch.mask.sum())
            tokens[name].append(read)

        return turns.Contestant(name, lambda: turns.seconds_of(work), rounds)

    seconds = turns.take_turns([contestant(*item) for item in STEPS.items()], "ragged text")
    lengths = sorted(encoded.lengths())
    quantiles = {f"{share:.0%}": lengths[int(share * (len(lengths) - 1))] for share in SHARES}
    return {
        "seconds": seconds,
        "tokens": {name: counts[-rounds:] for name, counts in tokens.items()},
        "texts": len(lengths), "mean_tokens": sum(lengths) / len(lengths), "quantiles": quantiles,
    }  # fmt: skip


def sentences(corpus: Path) -> Any:
    """The first sentences of a corpus in tokens, as a stream makes them of it (`distill/stream.py`)."""
    from benchmarks.distill.models import TEACHER
    from distill.batch import InputForm
    from distill.corpus import cut, read_records
    from distill.sources import locate
    from distill.student import load_tokenizer
    from distill.text import Encoded, encode

    tokenizer = load_tokenizer(locate(TEACHER))
    units = itertools.chain.from_iterable(cut(r.text, "sentence") for r in read_records(corpus_config(corpus)))
    texts = list(itertools.islice(units, TEXTS))
    pieces = [piece for pieces in encode(tokenizer, texts, MAX_TOKENS) for piece in pieces]
    return Encoded(pieces, [-1] * len(pieces), InputForm.of(tokenizer))


def corpus_config(corpus: Path) -> Any:
    """A recipe's corpus of sentences, of one file."""
    from distill.config import CorpusConfig

    source = {"kind": "files", "directory": str(corpus.parent), "files": [corpus.name]}
    return CorpusConfig.model_validate({"source": source, "unit": "sentence"})


def batches_of(name: str, encoded: Any) -> Iterator[Any]:
    """Batches without end, as `name` says."""
    import torch

    from distill.batching import Plan, planned, seeded

    if name.startswith("padded"):
        order = torch.randperm(len(encoded.texts), generator=seeded(1)).tolist()
        rows, plan = [[[text] for text in order[i : i + 32]] for i in range(0, len(order), 32)], Plan(batch_size=32)
    else:
        budget = next((int(word) for word in name.split() if word.isdigit() and int(word) > 32), None)
        plan = Plan(batch_size=32, batch_tokens=budget, packing=name.startswith("packed"))
        rows = planned(encoded.lengths(), plan, MAX_TOKENS, seeded(1))
    for some in itertools.cycle(rows):
        batch = encoded.parts(some, plan)[0]
        yield _widened(batch) if name == "padded to 128" else batch


def _widened(batch: Any) -> Any:
    from torch.nn.functional import pad

    from distill.batch import Batch

    room = (0, MAX_TOKENS - batch.mask.shape[1])
    return Batch({name: pad(x, room) for name, x in batch.inputs.items()}, pad(batch.mask, room), batch.labels)


if __name__ == "__main__":
    main()
