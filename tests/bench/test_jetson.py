"""What a Jetson says, from trees made after NVIDIA's public documentation: none was recorded on a device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspcab_bench.jetson import read_jetson
from sspcab_bench.sensors import Sample, Sensors, Watch, summarise_samples

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


def _tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_an_orin_nano(tmp_path: Path) -> None:
    root = _tree(tmp_path, ORIN_NANO)
    facts = read_jetson(root / "proc", root / "sys", root)
    assert facts is not None
    assert facts.model == "NVIDIA Jetson Orin Nano Developer Kit"
    assert (facts.l4t, facts.jetpack, facts.power_mode) == ("36.4.3", "6.2+b77", "25W")
    assert facts.clocks_pinned is False
    sample = Sensors(root / "sys").sample(5.0)
    assert sample.temperatures_c == {"cpu-thermal": 51.25, "tj-thermal": 53.906}
    assert sample.clock_mhz == 1510.4
    assert sample.power_mw == pytest.approx(4960 * 1512 / 1e3)
    assert sample.rails_mw["VDD_SOC"] == pytest.approx(4952 * 350 / 1e3)
    assert (sample.throttle_events, sample.cooling) == (2, ())


def test_an_agx_orin(tmp_path: Path) -> None:
    """No rail feeds the whole module: those that add up to it do, and what hangs below them does not."""
    root = _tree(tmp_path, AGX_ORIN)
    facts = read_jetson(root / "proc", root / "sys", root)
    assert facts is not None
    assert (facts.l4t, facts.jetpack, facts.power_mode, facts.clocks_pinned) == ("35.4.1", None, "MAXN", True)
    sample = Sensors(root / "sys").sample(5.0)
    assert sample.power_mw == pytest.approx((19760 * 400 + 19760 * 150 + 4960 * 800) / 1e3)
    assert sample.cooling == ("gpu-throttle-alert",)
    assert sample.throttle_events is None
    assert sample.hottest_c == 99.5


def test_nothing_there(tmp_path: Path) -> None:
    assert read_jetson(tmp_path, tmp_path, tmp_path) is None
    sample = Sensors(tmp_path).sample(0.0)
    assert sample == Sample(0.0, {}, None, {}, None, ())
    assert sample.power_mw is None
    watched = summarise_samples([sample, replace(sample, at_s=2.0)])
    assert watched.seconds == 2.0
    assert (watched.energy_j, watched.hottest_c, watched.throttle_events) == (None, None, None)
    assert not watched.throttled
    assert watched.energy_per_frame_mj(10) is None


@pytest.mark.parametrize("text", ["", "abc", "nan-", "\0", "9" * 30 + "x"])
def test_files_that_say_nonsense(tmp_path: Path, text: str) -> None:
    root = _tree(tmp_path, dict.fromkeys(ORIN_NANO, text) | {"proc/device-tree/model": "NVIDIA Jetson\0"})
    facts = read_jetson(root / "proc", root / "sys", root)
    assert facts is not None
    assert (facts.l4t, facts.jetpack, facts.power_mode, facts.clocks_pinned) == (None, None, None, None)
    Sensors(root / "sys").sample(0.0)


def _at(at_s: float, milliwatts: float, events: int = 0, cooling: tuple[str, ...] = ()) -> Sample:
    return Sample(at_s, {"tj": 50 + at_s}, 1500 - at_s, {"VDD_IN": milliwatts}, events, cooling)


def test_energy_of_a_frame() -> None:
    """10 W for 10 s, then a ramp to 20 W in 10 s: 100 J + 150 J; over 500 frames 500 mJ each."""
    watched = summarise_samples([_at(0, 10_000), _at(10, 10_000), _at(20, 20_000, 3)])
    assert watched.energy_j == pytest.approx(250)
    assert watched.mean_power_mw == pytest.approx(12_500)
    assert watched.energy_per_frame_mj(500) == pytest.approx(500)
    assert watched.throttle_events == 3
    assert watched.throttled
    assert (watched.hottest_c, watched.clock_mhz) == (70, 1480)
    assert summarise_samples([_at(0, 1, 5, ("cpu-throttle-alert",)), _at(1, 1, 5)]).throttled
    assert not summarise_samples([_at(0, 1, 5), _at(1, 1, 5)]).throttled


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=20), st.floats(1, 1e5))
def test_constant_power_is_power_times_time(steps: list[float], milliwatts: float) -> None:
    times = [sum(steps[:count]) for count in range(len(steps) + 1)]
    watched = summarise_samples([_at(at_s, milliwatts) for at_s in times])
    assert watched.energy_j == pytest.approx(milliwatts * times[-1] / 1e3)


def test_a_watch_sees_a_change(tmp_path: Path) -> None:
    """A device gets hot while something runs."""
    root = _tree(tmp_path, ORIN_NANO)
    zone = root / _THERMAL / "thermal_zone1/temp"
    with Watch(Sensors(root / "sys"), every_s=0.01) as watch:
        zone.write_text("97000\n")
        (root / _THERMAL / "cooling_device0/cur_state").write_text("1\n")
    watched = summarise_samples(watch.samples)
    assert len(watch.samples) >= 2
    assert watched.hottest_c == 97
    assert watched.cooling == ("cpu-throttle-alert",)
    assert watched.energy_j is not None
