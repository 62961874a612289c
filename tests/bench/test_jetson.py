"""What a Jetson says, from trees made after NVIDIA's public documentation: none was recorded on a device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from definitions.jetson_trees import AGX_ORIN, ORIN_NANO, make_tree
from sspcab_bench.jetson import read_jetson
from sspcab_bench.sensors import Sample, Sensors, Watch, summarise_samples


def test_an_orin_nano(tmp_path: Path) -> None:
    root = make_tree(tmp_path, ORIN_NANO)
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
    root = make_tree(tmp_path, AGX_ORIN)
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
    root = make_tree(tmp_path, dict.fromkeys(ORIN_NANO, text) | {"proc/device-tree/model": "NVIDIA Jetson\0"})
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
    root = make_tree(tmp_path, ORIN_NANO)
    zone = root / "sys/class/thermal" / "thermal_zone1/temp"
    with Watch(Sensors(root / "sys"), every_s=0.01) as watch:
        zone.write_text("97000\n")
        (root / "sys/class/thermal" / "cooling_device0/cur_state").write_text("1\n")
    watched = summarise_samples(watch.samples)
    assert len(watch.samples) >= 2
    assert watched.hottest_c == 97
    assert watched.cooling == ("cpu-throttle-alert",)
    assert watched.energy_j is not None
