"""Coordinated omission: the benchmark in miniature, and its page."""

import numpy as np
import pytest

from benchmarks.omission.__main__ import measure
from benchmarks.omission.page import count_slow, predict_slow, write_page
from serve.load.loops import poisson_schedule

RATE, SECONDS = 50.0, 3.0


def found_by_hand():
    """A stall in the middle, as it would be seen: who comes during it waits for its end."""
    begun = poisson_schedule(RATE, SECONDS, 1)
    wait = [max(0.0, 2.5 - at) if 1.5 <= at < 2.5 else 0.0 for at in begun]
    return {
        "rate_per_second": RATE, "seconds": SECONDS, "stall_seconds": 1.0, "seed": 1,
        "machine": {"processor": "a", "usable_cores": 2}, "load_average": {"before": 0.1, "after": 0.2},
        "open": {"begun_seconds": begun, "ms": [5 + 1e3 * one for one in wait], "late_ms": [0.1] * len(begun)},
        "closed": {"begun_seconds": [n / 200 for n in range(400)], "ms": [5.0] * 399 + [1005.0]},
        "client_cpu_share": 0.1,
    }  # fmt: skip


def test_the_page_tells_the_samples(tmp_path):
    """Oracle: samples by hand: one slow request in 400 of the closed loop, the stall's share of the open one."""
    found = found_by_hand()
    write_page(found, tmp_path / "omission.md")
    text = (tmp_path / "omission.md").read_text()
    assert count_slow(found, "closed") == 1
    assert predict_slow(found) == pytest.approx(45)
    assert f"| {count_slow(found, 'open')} |" in text
    assert "0.25% of what the closed loop" in text
    assert (tmp_path / "omission.svg").read_text().count("<svg") == 1


@pytest.mark.slow
def test_one_stall_is_seen_by_the_open_loop_only():
    """Oracle: queueing: whoever comes in nine tenths of the stall waits above 100 ms; the closed loop asks once.

    A real service and real clocks, so the bounds are wide: a busy machine only makes the open loop's share larger.
    """
    found = measure(RATE, SECONDS, 1.0)
    assert len(found["open"]["ms"]) == len(poisson_schedule(RATE, SECONDS, 1))
    assert count_slow(found, "open") > 0.5 * predict_slow(found)
    assert sum(ms > 900 for ms in found["closed"]["ms"]) <= 3
    assert np.quantile(found["open"]["ms"], 0.9) > 10 * np.quantile(found["closed"]["ms"], 0.9)
