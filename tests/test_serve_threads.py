"""Cores are read from control groups as the kernel writes them; the expected counts are worked out by hand."""

from pathlib import Path

import pytest

from artifact.errors import ServeError
from serve.threads import available_cores, plan_threads


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))


def read(tmp_path: Path, membership: str) -> int:
    write(tmp_path / "membership", membership)
    return available_cores(tmp_path / "groups", tmp_path / "membership")


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8)],
)
def test_version_2_quota(tmp_path, quota, cores):
    """Oracle: quota / period, whole cores only, at least one, at most the affinity."""
    write(tmp_path / "groups/pod/cpu.max", quota + "\n")
    assert read(tmp_path, "0::/pod\n") == cores


def test_version_2_parent_binds(tmp_path):
    """Oracle: the kernel's rule that a child may not use more than any of its ancestors."""
    write(tmp_path / "groups/slice/pod/cpu.max", "max 100000\n")
    write(tmp_path / "groups/slice/cpu.max", "300000 100000\n")
    assert read(tmp_path, "0::/slice/pod\n") == 3


@pytest.mark.parametrize("mount", ["cpu", "cpu,cpuacct"])
def test_version_1_quota(tmp_path, mount):
    """Oracle: cfs_quota_us / cfs_period_us under the mount, whichever of its two names it has."""
    write(tmp_path / f"groups/{mount}/pod/cpu.cfs_quota_us", "400000\n")
    write(tmp_path / f"groups/{mount}/pod/cpu.cfs_period_us", "100000\n")
    assert read(tmp_path, "5:memory:/pod\n4:cpu,cpuacct:/pod\n") == 4


def test_version_1_without_quota(tmp_path):
    """Oracle: the kernel writes -1 for no limit, so the affinity decides."""
    write(tmp_path / "groups/cpu/cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "groups/cpu/cpu.cfs_period_us", "100000\n")
    assert read(tmp_path, "4:cpu:/\n") == 8


def test_path_of_the_host_inside_a_container(tmp_path):
    """Oracle: the group's own path is absent in a container, whose root shows the container's limit."""
    write(tmp_path / "groups/cpu.max", "150000 100000\n")
    assert read(tmp_path, "0::/kubepods/burstable/pod1\n") == 1


def test_no_control_groups(tmp_path):
    """Oracle: the affinity mask."""
    assert available_cores(tmp_path, tmp_path / "absent") == 8


@pytest.mark.parametrize(("workers", "threads", "expected"), [(1, None, 8), (3, None, 2), (4, 2, 2), (8, None, 1)])
def test_plan_shares_the_cores(workers, threads, expected):
    """Oracle: cores // workers, or what was asked for."""
    plan = plan_threads(workers, threads)
    assert plan.intra_op_threads == expected
    assert plan.workers * plan.intra_op_threads <= plan.cores == 8


@pytest.mark.parametrize(("workers", "threads"), [(9, None), (2, 5), (1, 9), (0, None), (1, -1)])
def test_plan_refuses_more_than_there_is(workers, threads):
    """Oracle: workers * threads > 8 oversubscribes, and less than one of either is no plan."""
    with pytest.raises(ServeError):
        plan_threads(workers, threads)
