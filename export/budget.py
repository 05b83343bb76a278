"""Quality-budgeted quantization: which nodes stay in float so that quality holds its floor at the least latency.

    found = find_precision_map(nodes, floor=0.995, float32=fused, make=make, quality=quality, error=error,
                               latency_ms=latency_ms)
    quantize_dynamic_int8(fused, quantized, target, keep_float=found.kept)

All int8 comes first, and ends the search if it holds. Otherwise nodes go back to float, the one that spoils most for
its cost first, until the floor holds; then each is tried in int8 once more, and stays in float only if the floor needs
it. The search is greedy: no node can be dropped from what it finds, but another set may be cheaper.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifact.errors import ExportError
from export.sensitivity import Node, Unit, errors_alone, units_of


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One precision map and what was measured of it."""

    kept: frozenset[str]
    """Names of the nodes in float."""
    quality: float
    """Share of float32's."""
    error: float
    latency_ratio: float
    """To float32's, both measured in turns."""

    def facts(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "kept_float": sorted(self.kept),
            "quality": self.quality,
            "error": self.error,
            "latency_ratio": self.latency_ratio,
        }


@dataclass(frozen=True, kw_only=True)
class Found:
    """The precision map that holds the floor, and how it was found."""

    floor: float
    best: Tried
    reasons: dict[str, str]
    """Why each node is left in float, by its name."""
    alone: dict[Unit, float]
    """Error with only this unit in int8; empty when all int8 held."""
    tried: tuple[Tried, ...]
    """In the order of trying, all int8 first."""
    float32: Tried

    @property
    def kept(self) -> frozenset[str]:
        """Names of the nodes to leave in float."""
        return self.best.kept

    def facts(self) -> dict[str, Any]:
        """As plain JSON."""
        harm = sorted(self.alone.items(), key=lambda item: -item[1])
        return {
            "floor": self.floor,
            **self.best.facts(),
            "kept_float": self.reasons,
            "pareto": [row.facts() for row in pareto([*self.tried, self.float32])],
            "errors_alone": [{"nodes": [node.name for node in unit], "error": error} for unit, error in harm],
            "tried": [row.facts() for row in self.tried],
        }


def find_precision_map(
    nodes: Sequence[Node],
    *,
    floor: float,
    float32: Path,
    make: Callable[[frozenset[str]], Path],
    quality: Callable[[Path], float],
    error: Callable[[Path], float],
    latency_ms: Callable[[Sequence[Path]], Sequence[float]],
) -> Found:
    """The cheapest set of `nodes` to keep in float for which `quality`, a share of float32's, is at least `floor`.

    `make` writes the int8 graph that keeps the named nodes in float; it may overwrite its last one. `error` is finer
    than quality and gives the order: the root mean square of what logits or embeddings differ by, from float32.
    `latency_ms` measures graphs in turns, and only reports: the clock does not decide. With U units to try and K
    nodes in the units that repair it, 1 + 2 U + 3 K graphs are made, or some more where quality wavers. Keeping
    every node is not tried, for no int8 would be left. Raises `ExportError` when nothing else holds the floor.
    """
    tried: dict[frozenset[str], Tried] = {}

    def attempt(kept: frozenset[str]) -> Tried:
        if kept not in tried:
            graph = make(kept)
            reference_ms, own_ms = latency_ms([float32, graph])
            tried[kept] = Tried(
                kept=kept, quality=quality(graph), error=error(graph), latency_ratio=own_ms / reference_ms
            )
        return tried[kept]

    def holds(kept: frozenset[str]) -> bool:
        return attempt(kept).quality >= floor

    kept: frozenset[str] | None = frozenset()
    alone: dict[Unit, float] = {}
    if not holds(frozenset()):
        alone = errors_alone(units_of(nodes), make, error)
        kept = _repair(alone, holds)
    if kept is None:
        raise _impossible(floor, tried.values(), len(nodes))
    reasons = {
        node.name: _reason(node, attempt(kept - {node.name}), attempt(kept)) for node in nodes if node.name in kept
    }
    return Found(
        floor=floor,
        best=attempt(kept),
        reasons=reasons,
        alone=alone,
        tried=tuple(tried.values()),
        float32=Tried(kept=_names(nodes), quality=1.0, error=0.0, latency_ratio=1.0),
    )


def pareto(rows: Iterable[Tried]) -> list[Tried]:
    """Those than which no other is both as fast and as good, fastest first; of equals the one of fewest in float."""
    front: list[Tried] = []
    for row in sorted(rows, key=lambda row: (row.latency_ratio, -row.quality, len(row.kept))):
        if not front or row.quality > front[-1].quality:
            front.append(row)
    return front


def _repair(alone: Mapping[Unit, float], holds: Callable[[frozenset[str]], bool]) -> frozenset[str] | None:
    """The fewest units, those first that are worth most, with which the floor holds, less the nodes it does without.

    None where only all of them together hold it, or not even they.
    """
    order = sorted(alone, key=lambda unit: _worth(unit, alone[unit]), reverse=True)
    for count in range(1, len(order)):
        if holds(_names(node for unit in order[:count] for node in unit)):
            return _prune(order[:count], holds)
    return None


def _prune(grown: Sequence[Unit], holds: Callable[[frozenset[str]], bool]) -> frozenset[str]:
    """What is left when each node that the floor does without is dropped: those first that were taken last."""
    nodes = [node for unit in reversed(grown) for node in sorted(unit, key=lambda node: -node.multiplications)]
    kept = _names(nodes)
    before: frozenset[str] = frozenset()
    while before != kept:  # quality wavers: what one node needed when it was tried, it may not need without another
        before = kept
        for node in nodes:
            if node.name in kept and holds(kept - {node.name}):
                kept -= {node.name}
    return kept


def _worth(unit: Unit, error: float) -> float:
    """Squared error that keeping the unit in float takes away, for each multiplication it costs.

    Squared, because the errors of independent nodes add up in squares. A graph that answers NaN is worth most.
    """
    return math.inf if math.isnan(error) else error**2 / sum(node.multiplications for node in unit)


def _names(nodes: Iterable[Node]) -> frozenset[str]:
    return frozenset(node.name for node in nodes)


def _reason(node: Node, without: Tried, best: Tried) -> str:
    return f"{node}: quality is {without.quality:.5f} with it in int8, {best.quality:.5f} with it in float"


def _impossible(floor: float, tried: Iterable[Tried], nodes: int) -> ExportError:
    best = max(tried, key=lambda row: row.quality)
    reached = f"the best reached {best.quality:.5f}, with {len(best.kept)} of {nodes} nodes in float"
    within_reach = math.floor(best.quality * 1e4) / 1e4  # rounded down, so that it holds
    return ExportError(
        f"budget impossible: no int8 graph keeps {floor:g} of float32's quality; {reached}",
        f"lower the floor to {within_reach:g}, or leave int8 out of export.precisions",
    )
