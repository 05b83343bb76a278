"""The grid of shapes: what a recipe names, and what is derived from the teacher where it names nothing."""

from collections.abc import Iterable
from itertools import product

from artifact.errors import ConfigError
from pipeline.plan_config import PlanConfig
from pipeline.plan_records import Candidate, Teacher

DEPTHS = (1.0, 2 / 3, 1 / 2, 1 / 3, 1 / 6)
WIDTHS = (1.0, 1 / 2, 1 / 4)
"""Shares of the teacher's depth and width that are tried."""

SMALL_SHARE, SMALL_STEP, LEAST_SMALL = 1 / 4, 1000, 2000
"""The second vocabulary: this share of the pieces in steps of so many, where that leaves enough to be useful."""

USUAL_RATIO = 4
_UNPICKABLE = ("albert", "modernbert")
"""Teachers whose layers cannot be picked freely: shared weights, or global attention at fixed places."""


def candidates(config: PlanConfig, teacher: Teacher) -> tuple[Candidate, ...]:
    """Every shape of the grid, the deepest and widest first, none twice.

    Raises `ConfigError` when a vocabulary is larger than the teacher's.
    """
    widths = config.hidden_sizes or _multiples((share * teacher.hidden_size for share in WIDTHS), config.head_size)
    depths = config.layers or tuple(max(1, round(share * teacher.layers)) for share in DEPTHS)
    grid = product(depths, widths, config.intermediate_ratios, _vocabularies(config, teacher.pieces))
    shapes = (_candidate(*cell, head_size=config.head_size, teacher=teacher) for cell in grid)
    return tuple({shape.name: shape for shape in shapes}.values())


def start_block(candidate: Candidate, teacher: Teacher) -> str:
    """The lines of YAML that give a recipe's model this shape: the teacher's own layers where the widths agree."""
    same_layers = all(
        getattr(candidate, field) == getattr(teacher, field) for field in ("hidden_size", "heads", "intermediate_size")
    )
    if same_layers and candidate.layers <= teacher.layers and teacher.model_type not in _UNPICKABLE:
        start = f"kind: layers, layers: {spread(candidate.layers, teacher.layers)}"
    else:
        start = f"kind: random, layers: {candidate.layers}, hidden_size: {candidate.hidden_size}, "
        start += f"heads: {candidate.heads}, intermediate_size: {candidate.intermediate_size}"
    lines = [f"start: {{{start}}}"]
    if candidate.pieces < teacher.pieces:
        lines.append(f"vocabulary: {{max_pieces: {candidate.pieces}}}")
    return "\n".join(lines) + "\n"


def spread(count: int, layers: int) -> list[int]:
    """`count` indices of `layers`, evenly spread from the first to the last; the first alone for one."""
    return [index * (layers - 1) // max(1, count - 1) for index in range(count)]


def _candidate(
    layers: int, hidden_size: int, ratio: float, pieces: int, *, head_size: int, teacher: Teacher
) -> Candidate:
    intermediate_size = max(1, round(ratio * hidden_size))
    inner = "" if intermediate_size == USUAL_RATIO * hidden_size else f"-i{intermediate_size}"
    vocabulary = "" if pieces == teacher.pieces else f"-v{pieces}"
    return Candidate(
        name=f"{layers}x{hidden_size}{inner}{vocabulary}",
        layers=layers,
        hidden_size=hidden_size,
        heads=hidden_size // head_size,
        intermediate_size=intermediate_size,
        pieces=pieces,
    )


def _multiples(sizes: Iterable[float], step: int) -> tuple[int, ...]:
    return tuple(max(1, round(size / step)) * step for size in sizes)


def _vocabularies(config: PlanConfig, pieces: int) -> tuple[int, ...]:
    if config.vocabulary_sizes is None:
        small = round(SMALL_SHARE * pieces / SMALL_STEP) * SMALL_STEP
        return (pieces, small) if small >= LEAST_SMALL else (pieces,)
    sizes = tuple(pieces if size == "full" else size for size in config.vocabulary_sizes)
    too_large = [size for size in sizes if size > pieces]
    if too_large:
        raise ConfigError(
            f"plan.vocabulary_sizes names {too_large}, but the teacher has {pieces} pieces", "name fewer, or `full`"
        )
    return sizes
