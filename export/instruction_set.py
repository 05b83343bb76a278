"""Which integer instructions a processor has: they decide how many bits an int8 weight may use."""

import platform
from pathlib import Path

from artifact.errors import ExportError
from export.config import InstructionSet, Target

CPUINFO = Path("/proc/cpuinfo")

SATURATES: dict[InstructionSet, bool] = {
    "avx2": True,
    "avx512": True,
    "vnni": False,
    "arm64": False,
    "arm64_dotprod": False,
}
"""Whether a sum of two int8 products is cut at 16 bits (`VPMADDUBSW`), so that weights of 8 bits can answer wrongly.

ARM without the dot product is slower but exact: it widens before it adds.
"""


def resolve_target(target: Target) -> InstructionSet:
    """The instruction set a recipe asks for; `ExportError` when it says `host` and this machine's is not known."""
    return detect_instruction_set() if target == "host" else target


def detect_instruction_set(cpuinfo: Path = CPUINFO) -> InstructionSet:
    """The instruction set of this machine.

    Without `/proc` only Apple's processors are known; all of them have the dot product.
    """
    if cpuinfo.is_file():
        found = parse_cpuinfo(cpuinfo.read_text(encoding="utf-8", errors="replace"))
    else:
        found = "arm64_dotprod" if (platform.system(), platform.machine()) == ("Darwin", "arm64") else None
    if found is None:
        hint = f"name that of the machine that will serve: target={'|'.join(SATURATES)}"
        raise ExportError(f"this processor ({platform.machine()}) has no instruction set we know", hint)
    return found


def parse_cpuinfo(text: str) -> InstructionSet | None:
    """What the text of `/proc/cpuinfo` says; `None` when it names neither AVX2 nor ARM's vector instructions."""
    flags = _flags(text)
    if "asimd" in flags:
        return "arm64_dotprod" if "asimddp" in flags else "arm64"
    if flags & {"avx512_vnni", "avx_vnni"}:
        return "vnni"
    if {"avx512f", "avx512bw"} <= flags:
        return "avx512"
    return "avx2" if "avx2" in flags else None


def _flags(text: str) -> set[str]:
    """Flags of the first processor listed (`flags` on x86, `Features` on ARM)."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return set(value.split())
    return set()
