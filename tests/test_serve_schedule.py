"""Which texts are computed together, in what order, and that none is lost, doubled or left waiting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.schedule import WINDOW_BATCHES, Schedule

LENGTHS = st.lists(st.integers(1, 600), min_size=1, max_size=40)


@given(st.lists(LENGTHS, max_size=12), st.integers(1, 600), st.data())
def test_every_row_is_taken_once_in_batches_that_fit(requests, budget, data):
    """Oracle: the rows that were put in, less those that were dropped; the budget."""
    waiting = Schedule[tuple[int, int]](batch_tokens=budget)
    expected, now = set(), 0.0
    taken = []
    for number, lengths in enumerate(requests):
        now += data.draw(st.floats(0, 0.2))
        rows = waiting.add([(number, i) for i in range(len(lengths))], lengths, now)
        if data.draw(st.booleans()):
            waiting.drop(rows)
        else:
            expected |= {row.item for row in rows}
        if data.draw(st.booleans()):
            taken.append(waiting.take(now))
    while waiting:
        now += 0.01
        taken.append(waiting.take(now))
    assert waiting.take(now) == []
    assert waiting.tokens == 0
    for batch in taken:
        assert len(batch) <= 1 or len(batch) * max(row.length for row in batch) <= budget
    items = [row.item for batch in taken for row in batch]
    assert len(items) == len(set(items))
    assert expected <= set(items)
    for number, lengths in enumerate(requests):
        assert sum(item[0] == number for item in items) in (0, len(lengths))


def test_short_rows_go_first_and_together():
    """Oracle: longhand."""
    waiting = Schedule[str](batch_tokens=40)
    for name, length in (("long", 40), ("a", 9), ("b", 10), ("c", 30), ("d", 10)):
        waiting.add([name], [length], now=0.0)
    assert [[row.item for row in waiting.take(0.01)] for _ in range(3)] == [["a", "b", "d"], ["c"], ["long"]]


def test_a_row_beyond_the_age_limit_goes_first_with_those_that_fit_it():
    """Oracle: longhand; the short rows that keep coming no longer pass it."""
    waiting = Schedule[str](batch_tokens=60, age_limit_seconds=0.05)
    waiting.add(["long"], [30], now=0.0)
    for number in range(5):
        waiting.add([f"short{number}"], [4], now=0.01 * number)
    waiting.add(["like it"], [28], now=0.04)
    assert "long" not in [row.item for row in waiting.take(0.05)]
    waiting.add(["short"], [4], now=0.06)
    assert [row.item for row in waiting.take(0.06)] == ["long", "like it"]


@given(LENGTHS)
def test_nothing_waits_for_ever(lengths):
    """Oracle: the age limit and the batches before it; a stream of short rows that would otherwise always pass."""
    waiting = Schedule[str](batch_tokens=64)
    waiting.add([f"old{i}" for i in range(len(lengths))], lengths, now=0.0)
    now, left = 0.0, len(lengths)
    for _ in range(20 + len(lengths)):
        now += 0.01
        waiting.add(["new"], [1], now)
        left -= sum(row.item.startswith("old") for row in waiting.take(now))
    assert left == 0


def test_a_large_request_is_spread_and_lets_a_small_one_pass():
    """Oracle: longhand; at a millisecond a token, 100 texts of 10 tokens take a second, and the small one comes after
    half of them have had their turn."""
    waiting = Schedule[str](batch_tokens=10, age_limit_seconds=0)
    for _ in range(100):
        waiting.computed(tokens=10, seconds=0.01)
    waiting.add([f"large{i}" for i in range(100)], [10] * 100, now=0.0)
    waiting.add(["small"], [10], now=0.501)
    order = [waiting.take(10.0)[0].item for _ in range(101)]
    assert order.index("small") == 51
    assert [item for item in order if item != "small"] == [f"large{i}" for i in range(100)]


def test_only_a_window_is_sorted():
    """Oracle: longhand; a short row far behind waits until the window comes to it."""
    waiting = Schedule[str](batch_tokens=10)
    waiting.add([f"first{i}" for i in range(WINDOW_BATCHES)], [10] * WINDOW_BATCHES, now=0.0)
    waiting.add(["short"], [1], now=0.0)
    assert waiting.take(0.0)[0].item == "first0"
    assert [row.item for row in waiting.take(0.0)] == ["short"]


def test_rows_and_lengths_must_match():
    """Oracle: the error of Python itself."""
    with pytest.raises(ValueError, match="shorter"):
        Schedule[str](batch_tokens=8).add(["a", "b"], [1], now=0.0)
