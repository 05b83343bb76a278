"""Huge pages: that they are asked for, and that a process which was told gets them."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.machine import fingerprint
from serve.huge_pages import TUNABLE, VARIABLE, with_huge_pages
from serve.latency.contestant import child_environment

GRANTED = Path("/sys/kernel/mm/transparent_hugepage/enabled")
LOOK = """
import re
held = bytearray(64 << 20)
with open("/proc/self/smaps_rollup") as file:
    print(re.search(r"AnonHugePages: +(\\d+) kB", file.read())[1])
"""
"""Memory that is written to, by `calloc`'s zeros or the kernel's, and how much of the process lies in huge pages."""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, f"{TUNABLE}=1"),
        ("glibc.malloc.arena_max=2", f"glibc.malloc.arena_max=2:{TUNABLE}=1"),
        (f"{TUNABLE}=0", f"{TUNABLE}=0"),
        (f"glibc.malloc.arena_max=2:{TUNABLE}=2", f"glibc.malloc.arena_max=2:{TUNABLE}=2"),
    ],
)
def test_they_are_asked_for_where_nobody_has_decided(before, after):
    """Oracle: the variable's form, as glibc's manual has it; everything else stays."""
    given = {"PATH": "/bin"} | ({VARIABLE: before} if before else {})
    assert with_huge_pages(given) == {"PATH": "/bin", VARIABLE: after}


def test_contestants_have_them(monkeypatch):
    """Oracle: what the service's processes are told."""
    monkeypatch.delenv(VARIABLE, raising=False)
    assert child_environment(1)[VARIABLE] == with_huge_pages({})[VARIABLE]


@pytest.mark.skipif(not GRANTED.is_file() or "[never]" in GRANTED.read_text(), reason="this kernel grants none")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone asks for them")
def test_a_process_gets_them():
    """Oracle: the kernel's own count, 64 MB in huge pages or, where they are refused, none."""
    held = {}
    for asked in (0, 1):
        environment = os.environ | {VARIABLE: f"{TUNABLE}={asked}"}
        held[asked] = int(subprocess.check_output([sys.executable, "-c", LOOK], env=environment))
    mode = fingerprint()["huge_pages"]
    assert held[1] > 50_000
    assert (mode, held[0] > 10_000) in {("madvise", False), ("always", True)}
