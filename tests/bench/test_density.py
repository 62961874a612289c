"""How many cameras: the search, what is carried, what limits, and once for real."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sspcab_bench import cli
from sspcab_bench.density import Alone, _search, carried, limit, own_cpu_ms
from sspcab_bench.fleet import Fleet
from sspcab_edge.bundle import Bundle

FLEET = Fleet(4, 15.0, 10.0, 60.0, 59.0, 10, 80.0, 12.0, "onnx-fp32", "onnxruntime",
              {"supervisor": 0.06, "capture": 0.6, "worker": 1.2}, 0.03)  # fmt: skip
ALONE = Alone(300.0, 8.0, 90.0, 20.0)


@given(st.integers(0, 40), st.integers(1, 32))
def test_the_search_finds_the_edge(edge: int, most: int) -> None:
    """The most that is carried, in about twice the logarithm of attempts."""
    tried: list[int] = []

    def attempt(number: int) -> bool:
        tried.append(number)
        return number <= edge

    good, bad = _search(attempt, most)
    assert good == min(edge, most)
    assert bad == (None if edge >= most else edge + 1)
    assert len(tried) == len(set(tried)) <= 13
    assert max(tried) <= most


def test_what_is_carried() -> None:
    assert carried(FLEET)
    assert not carried(replace(FLEET, served_fps=58.7))
    assert carried(replace(FLEET, age_p99_ms=133.0))
    assert not carried(replace(FLEET, age_p99_ms=134.0))


def test_what_limits() -> None:
    busy = replace(FLEET, served_fps=40.0)
    assert limit(busy, ALONE, 2) == "engine"
    assert limit(busy, replace(ALONE, decode_cpu_ms=30.0), 2) == "decode"
    idle = replace(busy, cores={"supervisor": 0.1, "capture": 0.1, "worker": 0.2})
    assert limit(idle, ALONE, 2).startswith("nothing")


def test_own_time() -> None:
    """0.69 cores at 60 frames a second are 11.5 ms; 8 of them are the decoder's."""
    assert own_cpu_ms(FLEET, ALONE) == pytest.approx(3.5)
    assert own_cpu_ms(replace(FLEET, worker_own_cores=0.0), replace(ALONE, decode_cpu_ms=30.0)) == 0


def test_for_real(bright: Bundle, tmp_path: Path) -> None:
    """Two small cameras on a daemon: both judged, all processes seen and gone afterwards."""
    pytest.importorskip("av", reason="PyAV is not installed: no cameras")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed: no daemon")
    output = tmp_path / "report.json"
    result = CliRunner().invoke(
        cli.group,
        ["density", str(bright.path), "--cameras", "2", "--fps", "5", "--size", "64x48", "--seconds", "3",
         "--backend", "onnxruntime", "--output", str(output)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(output.read_text())
    (fleet,) = report["results"]
    assert fleet["captured_fps"] > 5
    assert fleet["served_fps"] > 5
    assert fleet["cores"]["worker"] > 0
    assert fleet["backend"] == "onnxruntime"
    assert 0 < fleet["age_p99_ms"] < 5000
    assert report["alone"]["decode_cpu_ms"] > 0
    assert "carries" in result.output


def test_bad_sizes(bright: Bundle) -> None:
    for size in ("12", "0x0", "axb", "99999x9", "-5x20"):
        result = CliRunner().invoke(cli.group, ["density", str(bright.path), "--size", size])
        assert result.exit_code == 2
        assert "WIDTHxHEIGHT" in result.output
