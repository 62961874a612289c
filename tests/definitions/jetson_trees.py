"""What two Jetsons show below ``/proc``, ``/sys`` and ``/etc``, after NVIDIA's public documentation.

None was recorded on a device: paths and forms are those of the Jetson Linux Developer Guide (releases 35, 36:
"Jetson Orin NX Series, Jetson Orin Nano Series and Jetson AGX Orin Series"); figures are made up.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["AGX_ORIN", "ORIN_NANO", "make_tree"]

_CPU = "sys/devices/system/cpu"
_HWMON = "sys/class/hwmon"
_THERMAL = "sys/class/thermal"


def _clocks(cores: int, low: int, now: int, high: int) -> dict[str, str]:
    return {
        f"{_CPU}/cpu{core}/cpufreq/{name}": f"{value}\n"
        for core in range(cores)
        for name, value in (("scaling_min_freq", low), ("scaling_cur_freq", now), ("cpuinfo_max_freq", high))
    }


def _monitor(number: int, rails: list[tuple[str, int, int]]) -> dict[str, str]:
    files = {f"{_HWMON}/hwmon{number}/name": "ina3221\n"}
    for channel, (label, millivolts, milliamperes) in enumerate(rails, 1):
        files |= {
            f"{_HWMON}/hwmon{number}/in{channel}_label": f"{label}\n",
            f"{_HWMON}/hwmon{number}/in{channel}_input": f"{millivolts}\n",
            f"{_HWMON}/hwmon{number}/curr{channel}_input": f"{milliamperes}\n",
        }
    return files


ORIN_NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\nCORE_0 1\n< POWER_MODEL ID=1 NAME=25W >\n",
    "var/lib/nvpmodel/status": "pmode:0001\n",
    "var/lib/dpkg/status": "Package: zlib\nVersion: 1\n\nPackage: nvidia-jetpack\nStatus: install ok\n"
    "Architecture: arm64\nVersion: 6.2+b77\nDepends: x\n\n",
    **_clocks(6, 729600, 1510400, 1510400),
    **_monitor(1, [("VDD_IN", 4960, 1512), ("VDD_CPU_GPU_CV", 4960, 600), ("VDD_SOC", 4952, 350)]),
    f"{_HWMON}/hwmon0/name": "soctherm_oc\n",
    f"{_HWMON}/hwmon0/oc1_event_cnt": "0\n",
    f"{_HWMON}/hwmon0/oc3_event_cnt": "2\n",
    f"{_THERMAL}/thermal_zone0/type": "cpu-thermal\n",
    f"{_THERMAL}/thermal_zone0/temp": "51250\n",
    f"{_THERMAL}/thermal_zone1/type": "tj-thermal\n",
    f"{_THERMAL}/thermal_zone1/temp": "53906\n",
    f"{_THERMAL}/thermal_zone2/type": "cv0-thermal\n",
    f"{_THERMAL}/thermal_zone2/temp": "-256000\n",  # powered off
    f"{_THERMAL}/cooling_device0/type": "cpu-throttle-alert\n",
    f"{_THERMAL}/cooling_device0/cur_state": "0\n",
}

AGX_ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=3 NAME=MODE_50W >\n",
    "var/lib/nvpmodel/status": "pmode:0000\n",
    **_clocks(12, 2201600, 2201600, 2201600),
    **_monitor(3, [("VDD_GPU_SOC", 19760, 400), ("VDD_CPU_CV", 19760, 150), ("VIN_SYS_5V0", 4960, 800)]),
    **_monitor(4, [("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 4960, 300)]),
    f"{_THERMAL}/thermal_zone0/type": "gpu-thermal\n",
    f"{_THERMAL}/thermal_zone0/temp": "99500\n",
    f"{_THERMAL}/cooling_device0/type": "gpu-throttle-alert\n",
    f"{_THERMAL}/cooling_device0/cur_state": "1\n",
}


def make_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root
