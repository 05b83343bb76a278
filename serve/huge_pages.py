"""Memory in huge pages, for processes that answer: asked for by glibc's allocator, which is told before they start.

    subprocess.Popen(command, env=with_huge_pages(os.environ))

An answer walks through some megabytes of weights and activations. In pages of 4 KB their addresses do not fit what a
processor remembers, and how much that costs hangs on where a process' memory happens to lie: two processes of one
bundle differed by up to 10 %. In huge pages (2 MB) they differ by under 1 %, and answer 2 to 8 % sooner, for 1 to 10 MB
more of memory (`docs/log.md`, 2026-11-30).
"""

from collections.abc import Mapping

VARIABLE = "GLIBC_TUNABLES"
TUNABLE = "glibc.malloc.hugetlb"
"""1: `malloc` advises the kernel to back what it hands out with huge pages (glibc 2.35)."""


def with_huge_pages(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment`, and that its process' memory be in huge pages; as it is where it says so or otherwise already.

    Without effect where the C library is not glibc, or where the kernel grants none.
    """
    said = environment.get(VARIABLE, "")
    if TUNABLE in said:
        return dict(environment)
    return {**environment, VARIABLE: ":".join(filter(None, (said, f"{TUNABLE}=1")))}
