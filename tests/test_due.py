"""When a checkpoint is due: by steps, by the clock, and alike for all processes."""

from types import SimpleNamespace

import pytest

from distill import due
from distill.due import EVERY_SECONDS, SHARE, Due


class Clock:
    """Goes on only when told."""

    def __init__(self) -> None:
        self.time_s = 1000.0

    def __call__(self) -> float:
        return self.time_s


def alone() -> SimpleNamespace:
    return SimpleNamespace(num_processes=1)


def run(due_: Due, clock: Clock, *, steps: int, step_s: float, writing_s: float) -> list[int]:
    """Steps after which one was written."""
    written = []
    for step in range(1, steps + 1):
        clock.time_s += step_s
        if due_.after(step):
            written.append(step)
            with due_.writing():
                clock.time_s += writing_s
    return written


def test_by_steps_the_clock_does_not_count():
    clock = Clock()
    assert run(Due(7, alone(), clock), clock, steps=30, step_s=1000, writing_s=50) == [7, 14, 21, 28]


@pytest.mark.parametrize(("step_s", "expected"), [(0.25, [120, 240]), (40, list(range(1, 301)))])
def test_by_the_clock_a_kill_costs_half_a_minute_or_one_step(step_s, expected):
    """Oracle: 30 s are 120 steps of a quarter second; a step that is longer is saved each time."""
    clock = Clock()
    assert run(Due(None, alone(), clock), clock, steps=300, step_s=step_s, writing_s=0.01) == expected


def test_slow_writing_takes_its_share_of_the_time():
    """Oracle: the time written, of all the time, over many checkpoints of 6 s each."""
    clock = Clock()
    began = clock.time_s
    written = run(Due(None, alone(), clock), clock, steps=10_000, step_s=1, writing_s=6)
    assert len(written) > 20
    assert 0.9 * SHARE < len(written) * 6 / (clock.time_s - began) <= 1.1 * SHARE


def test_the_first_process_says_for_all(monkeypatch):
    """Oracle: the second's clock stands still, and it writes when the first does."""
    clocks = Clock(), Clock()
    both = [Due(None, SimpleNamespace(num_processes=2), clock) for clock in clocks]
    told: dict[int, bool] = {}

    def broadcast(values: list[bool]) -> None:
        values[0] = told.setdefault(step, values[0])  # the first process is asked first

    monkeypatch.setattr(due, "broadcast_object_list", broadcast)
    written = []
    for step in range(1, 201):
        clocks[0].time_s += EVERY_SECONDS / 50
        answers = [one.after(step) for one in both]
        assert answers[0] is answers[1]
        if answers[0]:
            written.append(step)
            for one in both:
                with one.writing():
                    pass
    assert written == [60, 120, 180]
