"""A long run, made short: the curve is whole, and a run that slows down is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from sspcab_bench import cli
from sspcab_bench.sensors import Sample, summarise_samples
from sspcab_bench.summary import summarise
from sspcab_bench.sustained import Point, Sustained
from sspcab_edge.bundle import Bundle

_WATCHED = summarise_samples([Sample(0.0, {}, None, {}, None, ())])


def _run(*fps: float) -> Sustained:
    points = tuple(
        Point(10.0 * number, value, summarise([1.0]), None, None, None) for number, value in enumerate(fps)
    )
    return Sustained("onnx-fp32", "onnxruntime", 100, points, _WATCHED)


@pytest.mark.parametrize(
    ("fps", "slowed"),
    [
        ((100, 100, 100, 100, 100, 96), False), ((100, 100, 98, 97, 94, 93), True),
        ((50, 60, 70, 80, 90, 100), False), ((100, 20, 100, 100, 20, 100, 100, 20, 100), False),
        ((100, 100, 94), True),
    ],
)  # fmt: skip
def test_slowed(fps: tuple[float, ...], slowed: bool) -> None:
    """Thirds are compared by their medians: one bad part is no slowdown."""
    assert _run(*fps).slowed == slowed


def test_throttled_is_what_the_hardware_says() -> None:
    assert not _run(1, 1, 1).watched.throttled
    assert replace(_WATCHED, throttle_events=1).throttled


def test_for_real(bright: Bundle, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    result = CliRunner().invoke(
        cli.group,
        ["sustained", str(bright.path), "--seconds", "1", "--points", "4", "--backend", "onnxruntime",
         "--output", str(output)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(output.read_text())
    assert len(report["results"]) == 4
    assert [point["at_s"] for point in report["results"]] == sorted(p["at_s"] for p in report["results"])
    assert sum(point["gaps"]["count"] for point in report["results"]) == report["frames"]
    assert report["machine"]["jetson"] is None
