"""Latencies and answers with a known difference, drawn from a model of what machines and models do; no clock.

A latency is a text's own time, times what the round, the turn and the call add. Rounds drift together with a memory;
turns are uneven each for itself, which pairing cannot undo; some calls take far longer; a neighbour slows the turns it
meets, and comes and goes without regard to who is measured.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.gate.rules import SPEED, Outcome, Plan, run_quality_gate, run_speed_gate

Floats = NDArray[np.float64]
Rights = NDArray[np.bool_]

TEXTS = 256
TEXT_SPREAD = 0.3
"""Of the logarithm of a text's own time."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What a machine adds; spreads are standard deviations of the logarithm."""

    drift: float = 0.02
    """Of a round, the same for both contestants."""
    memory: float = 0.9
    """Correlation of one round's drift with the next one's."""
    turn: float = 0.005
    """Of a turn, each contestant's own."""
    call: float = 0.04
    outliers: float = 0.01
    """Share of the calls that take long."""
    outlier_times: float = 4.0
    """Mean of how many times as long those take, beyond once."""
    neighbour: float = 0.0
    """Share of the turns that a neighbour meets."""
    stay: float = 1.0
    """Turns that it stays, on average; 1 / (1 - `neighbour`) where one turn says nothing of the next."""
    slows: tuple[float, float] = (1.1, 2.0)
    """Least and most times as long that a turn takes beside it."""


NOISES = {
    "quiet": Noise(),
    "drift": Noise(drift=0.10, memory=0.95),
    "uneven turns": Noise(turn=0.03),
    "outliers": Noise(outliers=0.10),
    "a neighbour all the while": Noise(call=0.2, neighbour=0.99, stay=100, slows=(1.3, 1.6)),
    "a neighbour at any turn": Noise(neighbour=0.3, stay=1 / 0.7),
    "a neighbour that stays": Noise(neighbour=0.4, stay=8),
}
SLOWER = {"identical": 1.0, "exactly at the bound": 1 / (SPEED.min_ratio or 1), "10 % slower": 1.10}
"""How many times as long the candidate truly takes."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How the answers of two models truly differ, in shares of all examples."""

    loss: float
    """Accuracy that the candidate lost."""
    discordance: float
    """Examples that just one of the two gets right."""


DIFFERENCES = {
    f"{loss:.0%} lost, {discordance:.0%} discordant".replace("0% lost", "nothing lost"): Difference(
        loss=loss, discordance=discordance
    )
    for loss, discordance in (
        (0.0, 0.0), (0.0, 0.01), (0.0, 0.02), (0.0, 0.04), (0.01, 0.01), (0.01, 0.02), (0.01, 0.04),
    )
}  # fmt: skip
ACCURACY, EXAMPLES = 0.96, 4500


def simulate_speed(noise: Noise, slower: float, plan: Plan, seed: tuple[int, ...]) -> Outcome:
    """One run of the gate on a candidate that takes `slower` times as long."""
    reference, candidate = draw_turns(noise, plan, np.random.default_rng(seed))
    return run_speed_gate(reference, slower * candidate, plan)


def simulate_quality(difference: Difference, seed: tuple[int, ...]) -> Outcome:
    """One run of the gate on answers that differ so in truth, and by chance of the sample otherwise."""
    return run_quality_gate(*draw_answers(difference, np.random.default_rng(seed)))


def draw_turns(noise: Noise, plan: Plan, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Latencies in ms of two equally fast contestants, `[rounds, calls]` each.

    Each part of a round is a turn with noise of its own: on a real machine a median of 5 calls varies nearly as much as
    one of 100 (`docs/log.md`). A neighbour stays, and a drift remembers, for as many rounds as without parts.
    """
    rounds, calls, parts = plan.max_rounds, plan.calls, min(plan.parts, plan.calls)
    slower = replace(noise, stay=noise.stay * parts, memory=noise.memory ** (1 / parts))
    texts = random.lognormal(0, TEXT_SPREAD, TEXTS)[np.arange(rounds * calls).reshape(rounds, calls) % TEXTS]
    count = rounds * parts
    turns = np.exp(noise.turn * random.standard_normal((count, 2))) * _neighbour(slower, count, random)
    order = random.permuted(np.tile([0, 1], (count, 1)), axis=1)
    both = np.take_along_axis(turns, order, axis=1) * np.exp(_drift(slower, count, random))[:, None]
    of_call = np.arange(rounds)[:, None] * parts + np.arange(calls) * parts // calls
    first, second = (texts * both[of_call, who] * _calls(noise, (rounds, calls), random) for who in (0, 1))
    return first, second


def draw_answers(difference: Difference, random: np.random.Generator) -> tuple[Rights, Rights]:
    """Whether reference and candidate are right on each of `EXAMPLES` examples."""
    lost, won = ((difference.discordance + sign * difference.loss) / 2 for sign in (1, -1))
    shares = [ACCURACY - lost, lost, won, 1 - ACCURACY - won]
    cells = random.multinomial(EXAMPLES, shares)
    return np.repeat([True, True, False, False], cells), np.repeat([True, False, True, False], cells)


def _drift(noise: Noise, turns: int, random: np.random.Generator) -> Floats:
    """A stationary process whose every value remembers the one before."""
    steps = noise.drift * random.standard_normal(turns)
    fresh = np.sqrt(1 - noise.memory**2)
    for index in range(1, turns):
        steps[index] = noise.memory * steps[index - 1] + fresh * steps[index]
    return steps


def _neighbour(noise: Noise, turns: int, random: np.random.Generator) -> Floats:
    """How many times as long each turn takes, `[turns, 2]` in the order of time."""
    slows = random.uniform(*noise.slows, size=2 * turns)
    there = random.random() < noise.neighbour
    comes = noise.neighbour / (1 - noise.neighbour) / noise.stay  # so that it is there for the share it should be
    for turn, draw in enumerate(random.random(2 * turns)):
        slows[turn] = slows[turn] if there else 1.0
        there = draw >= 1 / noise.stay if there else draw < comes
    return slows.reshape(turns, 2)


def _calls(noise: Noise, shape: tuple[int, int], random: np.random.Generator) -> Floats:
    late = random.random(shape) < noise.outliers
    times = 1 + late * random.exponential(noise.outlier_times, shape)
    return np.asarray(np.exp(noise.call * random.standard_normal(shape)) * times, float)
