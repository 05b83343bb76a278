"""Whether vectors that the service kept change an answer: the same queries of a service that keeps none.

found = measure_kept(Path("out/noesis-bi"), "student/int8", queries=50)
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from artifact.dataset import Example, pick_evenly, read_split
from serve.config import ServiceConfig
from serve.engine import Floats
from serve.http.app import create_app
from serve.runtime import Runtime
from serve.threads import available_cores


def measure_kept(root: Path, row: str, queries: int) -> dict[str, Any]:
    """How far scores of kept vectors are from new ones, and how many queries have another first candidate.

    Each test query is asked of a service that keeps nothing, and twice of one that keeps; candidates of earlier queries
    are kept by then, from other company.
    """
    examples = pick_evenly(read_split(root / "data", "test"), queries)
    new, kept, again = asyncio.run(_ask_all(root, row, examples))
    pairs = list(zip(new, kept, strict=True))
    return {
        "row": row,
        "queries": len(examples),
        "largest_difference": max(float(np.abs(a - b).max()) for a, b in pairs),
        "other_first": sum(int(a.argmax() != b.argmax()) for a, b in pairs),
        "same_bits_again": all(np.array_equal(a, b) for a, b in zip(kept, again, strict=True)),
    }


async def _ask_all(
    root: Path, row: str, examples: Sequence[Example]
) -> tuple[list[Floats], list[Floats], list[Floats]]:
    model, _, precision = row.partition("/")
    engine = Runtime.open(root / "bundles" / model, precision, threads=available_cores())
    found: list[list[Floats]] = []
    for budget in (0, ServiceConfig().candidate_cache_bytes):
        app = create_app({engine.name: engine}, engine.name, ServiceConfig(candidate_cache_bytes=budget))
        async with app.router.lifespan_context(app):
            client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here")
            found.extend([[await _ask(client, example) for example in examples] for _ in range(1 + bool(budget))])
    return found


async def _ask(client: httpx.AsyncClient, example: Example) -> Floats:
    """Scores in the order of the candidates."""
    answer = await client.post("/rerank", json={"query": example.text, "texts": example.candidates})
    answer.raise_for_status()
    ranks = sorted(answer.json(), key=lambda rank: int(rank["index"]))
    return np.array([rank["score"] for rank in ranks])
