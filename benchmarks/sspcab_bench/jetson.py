"""What a Jetson says of itself: release, power mode, clocks. Roots are arguments; nothing is run or imported.

Paths are those of NVIDIA's Jetson Linux Developer Guide, release 36 ("Jetson Orin Nano Series, Jetson Orin NX
Series and Jetson AGX Orin Series", power and performance). They were not tried on a device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sspcab_bench.files import read_text
from sspcab_runtime.machine import PROC, jetson

__all__ = ["JetsonFacts", "read_jetson"]

_RELEASE = re.compile(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)")
_MODE = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>")
_JETPACK = re.compile(r"^Package: nvidia-jetpack\n(?:.+\n)*?Version: (\S+)", re.MULTILINE)
_PINNED = 0.999


@dataclass(frozen=True, slots=True)
class JetsonFacts:
    """Settings that figures of a Jetson depend on.

    Attributes:
        model: As the device tree says.
        l4t: Release of Jetson Linux, as in ``36.4.3``; None where it is not told.
        jetpack: Version of JetPack's package, or None.
        power_mode: Name of the nvpmodel mode, as in ``15W`` or ``MAXN``; or its number; or None.
        clocks_pinned: Whether every core's lowest allowed clock is its highest, as ``jetson_clocks`` sets
            them; None where clocks are not told.
    """

    model: str
    l4t: str | None
    jetpack: str | None
    power_mode: str | None
    clocks_pinned: bool | None


def read_jetson(proc: Path = PROC, sys: Path = Path("/sys"), root: Path = Path("/")) -> JetsonFacts | None:
    """The facts; None where this is no Jetson."""
    model = jetson(proc)
    if model is None:
        return None
    release = _RELEASE.search(read_text(root / "etc" / "nv_tegra_release"))
    package = _JETPACK.search(read_text(root / "var" / "lib" / "dpkg" / "status"))
    return JetsonFacts(
        model=model,
        l4t=None if release is None else ".".join(release.groups()),
        jetpack=None if package is None else package.group(1),
        power_mode=_power_mode(root),
        clocks_pinned=_clocks_pinned(sys),
    )


def _power_mode(root: Path) -> str | None:
    status = read_text(root / "var" / "lib" / "nvpmodel" / "status").strip()
    name, _, value = status.partition(":")
    if name != "pmode" or not value.strip().isdigit():
        return None
    number = int(value)
    names: dict[int, str] = {
        int(n): mode for n, mode in _MODE.findall(read_text(root / "etc" / "nvpmodel.conf"))
    }
    return names.get(number, str(number))


def _clocks_pinned(sys: Path) -> bool | None:
    pinned = []
    for folder in (sys / "devices/system/cpu").glob("cpu[0-9]*/cpufreq"):
        low, high = read_text(folder / "scaling_min_freq"), read_text(folder / "cpuinfo_max_freq")
        if low.strip().isdigit() and high.strip().isdigit():
            pinned.append(int(low) >= _PINNED * int(high))
    return all(pinned) if pinned else None
