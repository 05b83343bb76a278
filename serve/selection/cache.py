"""Vectors of candidates, kept from one request to the next: the same utterances are offered again and again.

An entry belongs to one text, one bundle by its digest, one precision, and one end to cut at. A model that was swapped
for another therefore finds nothing of its predecessor's, whose entries are the first to go.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge

from serve.batching.lane import Answer, Lane
from serve.engine import Floats, Integers, Outputs, Servable, Side, Text

ENTRY_BYTES = 512
"""What an entry takes beside its vector: key, objects and their places in the table, measured and rounded up."""

Key: TypeAlias = tuple[str, str, Side | None, bytes]
"""Bundle, model/precision, end to cut at, and hash of the text: the text itself is not kept."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a model said of a text: a row of its outputs."""

    vector: Floats
    """`[hidden]`, not scaled."""
    tokens: int
    truncated: bool
    domain: float | None

    @property
    def size_bytes(self) -> int:
        """What keeping it takes."""
        return self.vector.nbytes + ENTRY_BYTES


class CandidateCache:
    """The least recently used go first; touched by the event loop alone."""

    def __init__(self, most_bytes: int, registry: CollectorRegistry) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Key, Kept] = OrderedDict()
        self.size_bytes = 0
        named = ("model",)
        self._hits = Counter("understudy_candidate_hits", "Candidates whose vector was kept.", named, registry=registry)
        self._misses = Counter(
            "understudy_candidate_misses", "Candidates whose vector was computed.", named, registry=registry
        )
        text = "What the kept vectors of candidates take."
        self._bytes = Gauge("understudy_candidate_bytes", text, registry=registry, multiprocess_mode="livesum")

    def __len__(self) -> int:
        return len(self._kept)

    async def run(self, lane: Lane, texts: Sequence[Text], *, cut: Side | None = None) -> Answer:
        """As `lane.run`, the first of `texts` being a query, which is not kept, and the others candidates.

        A candidate that is offered twice is computed once. The model computes the query at least, so that a request
        waits its turn as any other.
        """
        query, *candidates = texts
        engine = lane.engine
        digest: str | None = getattr(engine, "digest", None)
        if digest is None or not self._most_bytes:
            return await lane.run(texts, cut=cut)
        keys = {text: _key(digest, engine, text, cut) for text in dict.fromkeys(candidates)}
        found = {text: kept for text, key in keys.items() if (kept := self._find(key)) is not None}
        missing = [text for text in keys if text not in found]
        answer = await lane.run([query, *missing], cut=cut)
        self._hits.labels(engine.name).inc(len(candidates) - len(missing))
        self._misses.labels(engine.name).inc(len(missing))
        first, *rows = _rows_of(answer.outputs)
        for text, row in zip(missing, rows, strict=True):
            found[text] = row
            self._keep(keys[text], row)
        whole = _outputs_of(answer.outputs, [first, *(found[text] for text in candidates)])
        return replace(answer, outputs=whole)

    def _find(self, key: Key) -> Kept | None:
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def _keep(self, key: Key, kept: Kept) -> None:
        before = self._kept.pop(key, None)
        self._kept[key] = kept
        self.size_bytes += kept.size_bytes - (before.size_bytes if before else 0)
        while self.size_bytes > self._most_bytes:
            _, gone = self._kept.popitem(last=False)
            self.size_bytes -= gone.size_bytes
        self._bytes.set(self.size_bytes)


def _key(digest: str, engine: Servable, text: Text, cut: Side | None) -> Key:
    whole = text if isinstance(text, str) else "\0".join(text)
    return digest, engine.name, cut, hashlib.sha256(whole.encode("utf-8", "surrogatepass")).digest()


def _rows_of(outputs: Outputs) -> list[Kept]:
    """Copies: a view of one row would keep the vectors of its whole batch."""
    cut: Sequence[bool] = [False] * len(outputs.tokens) if outputs.truncated is None else outputs.truncated.tolist()
    far: Sequence[float | None] = [None] * len(outputs.tokens) if outputs.domain is None else outputs.domain.tolist()
    rows = zip(outputs.embeddings, outputs.tokens.tolist(), cut, far, strict=True)
    return [
        Kept(vector=vector.copy(), tokens=tokens, truncated=truncated, domain=domain)
        for vector, tokens, truncated, domain in rows
    ]


def _outputs_of(computed: Outputs, rows: Sequence[Kept]) -> Outputs:
    """The answer to all rows; what was spent is what was computed."""
    tokens: Integers = np.array([row.tokens for row in rows], dtype=np.int64)
    domain = np.array([row.domain for row in rows], dtype=np.float32) if computed.domain is not None else None
    return replace(
        computed,
        logits=np.zeros((len(rows), 0), dtype=np.float32),
        embeddings=np.stack([row.vector for row in rows]),
        tokens=tokens,
        truncated=np.array([row.truncated for row in rows], dtype=np.bool_),
        domain=domain,
    )
