"""Load by others, from what the kernel counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from sspcab_bench.load import CpuTimes, Load, load_between, read_cpu_times


def _proc(tmp_path: Path, stat: str) -> Path:
    (tmp_path / "stat").write_text(stat)
    return tmp_path


def test_columns_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    times = read_cpu_times(_proc(tmp_path, "cpu  1000 200 300 9000 50 6 7 80 0 0\ncpu0 1 2 3\n"))
    assert times is not None
    assert times.busy_s == pytest.approx(10 + 2 + 3 + 0.06 + 0.07)
    assert times.steal_s == pytest.approx(0.8)


@pytest.mark.parametrize("stat", ["", "cpu", "cpu 1 2 3", "cpu a b c d e f g h", "intr 1 2 3 4 5 6 7 8"])
def test_a_kernel_that_does_not_say(tmp_path: Path, stat: str) -> None:
    assert read_cpu_times(_proc(tmp_path, stat)) is None
    assert load_between(None, read_cpu_times()) is None


def test_own_work_is_no_load() -> None:
    before = CpuTimes(at_s=10, own_s=1, busy_s=100, steal_s=5)
    after = CpuTimes(at_s=20, own_s=16, busy_s=118, steal_s=6)
    load = load_between(before, after)
    assert load is not None
    assert load.other_cores == pytest.approx(0.3)
    assert load.steal_cores == pytest.approx(0.1)


def test_load_is_never_negative() -> None:
    """Ticks are counted more coarsely than own time."""
    before = CpuTimes(at_s=10, own_s=1, busy_s=100, steal_s=5)
    after = CpuTimes(at_s=20, own_s=12, busy_s=110, steal_s=5)
    assert load_between(before, after) == Load(0.0, 0.0)
    assert load_between(after, after) is None
