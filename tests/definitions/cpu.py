"""What the CPU under the tests can do."""

from __future__ import annotations

import platform
from pathlib import Path

__all__ = ["saturates_int8"]

_VNNI = {"avx512_vnni", "avx_vnni"}


def saturates_int8() -> bool:
    """Whether products of unsigned and signed bytes saturate at 16 bits: x86 with AVX2 and without VNNI."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    return "avx2" in flags and not flags & _VNNI
