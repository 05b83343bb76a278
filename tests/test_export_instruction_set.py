"""Instruction sets, from recorded `/proc/cpuinfo` lines."""

from pathlib import Path

import pytest

from artifact.errors import ExportError
from export.instruction_set import SATURATES, detect_instruction_set, parse_cpuinfo, resolve_target

HASWELL = "flags\t\t: fpu vme sse2 ssse3 fma sse4_1 sse4_2 avx f16c rdrand bmi1 avx2 bmi2 erms"
SKYLAKE_SP = HASWELL + " avx512f avx512dq avx512cd avx512bw avx512vl"
ICE_LAKE = SKYLAKE_SP + " avx512ifma avx512vbmi avx512_vbmi2 gfni avx512_vnni avx512_bitalg"
ALDER_LAKE = HASWELL + " avx_vnni umip"
KNIGHTS_LANDING = HASWELL + " avx512f avx512pf avx512er avx512cd"
GRAVITON_1 = "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
GRAVITON_2 = GRAVITON_1 + " atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp ssbs"
WESTMERE = "flags\t\t: fpu vme sse2 ssse3 sse4_1 sse4_2 aes"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (HASWELL, "avx2"),
        (SKYLAKE_SP, "avx512"),
        (KNIGHTS_LANDING, "avx2"),
        (ICE_LAKE, "vnni"),
        (ALDER_LAKE, "vnni"),
        (GRAVITON_1, "arm64"),
        (GRAVITON_2, "arm64_dotprod"),
        (WESTMERE, None),
        ("", None),
    ],
)
def test_flags_name_the_instruction_set(flags: str, expected: str | None) -> None:
    """Oracle: recorded flags of processors whose data sheets say what they have."""
    assert parse_cpuinfo(f"processor\t: 0\nmodel name\t: avx2 in a name is no flag\n{flags}\n") == expected


def test_only_x86_without_vnni_saturates() -> None:
    """Oracle: `VPMADDUBSW` is the instruction ONNX Runtime uses there, and it adds in 16 bits."""
    assert [name for name, saturates in SATURATES.items() if saturates] == ["avx2", "avx512"]


def test_a_named_target_is_not_looked_up(tmp_path: Path) -> None:
    """Oracle: the recipe's own word; only `host` asks the machine."""
    assert resolve_target("arm64") == "arm64"
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(GRAVITON_2)
    assert detect_instruction_set(cpuinfo) == "arm64_dotprod"


def test_an_unknown_processor_is_an_error_that_names_the_choices(tmp_path: Path) -> None:
    """Oracle: the message, as a user reads it."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(WESTMERE)
    with pytest.raises(ExportError, match=r"target=avx2\|avx512\|vnni\|arm64\|arm64_dotprod"):
        detect_instruction_set(cpuinfo)
