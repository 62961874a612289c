"""Slower or not: of reports, of bundles in pairs, and the gate that is made of it."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sspcab_bench import cli
from sspcab_bench.compare import compare_paired, compare_reports, read_report
from sspcab_bench.compare_command import REGRESSION
from sspcab_bench.gate_check import check_gate
from sspcab_bench.giving import STRICT, strict_exit
from sspcab_bench.pretend import SlowedEngine
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import InputError, OptionError
from sspcab_runtime.opening import open_first, wanted_settings
from sspcab_runtime.tuning import Objective
from sspcab_runtime.turns import pack_inputs


def _report(fps: float, p50: float, p99: float, **other: Any) -> dict[str, Any]:
    latency = {"p50": p50, "p99": p99}
    row = {"target": "onnx", "precision": "fp32", "backend": "onnxruntime", "threads": None, "streams": 1,
           "batch": 1, "fps": fps, "latency_ms": latency, **other}  # fmt: skip
    return {"schema": 1, "machine": {"cpu": "A"}, "source": "parity pack", "results": [row], "warnings": []}


def _invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli.group, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def _write(path: Path, report: object) -> Path:
    path.write_text(json.dumps(report))
    return path


@pytest.mark.parametrize(
    ("fps", "p50", "p99", "code"),
    [
        (100, 10, 12, 0), (96, 10.4, 30, 0), (95.3, 10, 12, 0), (95.2, 10, 12, REGRESSION),
        (100, 10.51, 12, REGRESSION), (300, 3, 4, 0),
    ],
)  # fmt: skip
def test_two_reports(tmp_path: Path, fps: float, p50: float, p99: float, code: int) -> None:
    """fps and the median are held against the limit, at the limit it passes, and p99 only stands there."""
    before, after = (
        _write(tmp_path / "a", _report(100, 10, 12)),
        _write(tmp_path / "b", _report(fps, p50, p99)),
    )
    found, text = _invoke("compare", before, after, "--max-regression", "5%")
    assert found == code, text
    assert ("REGRESSION" in text) == (code != 0)
    assert _invoke("compare", before, after)[0] == 0


@given(st.floats(0.1, 1e4), st.floats(0.1, 1e4), st.floats(0.1, 1e4), st.floats(0.1, 1e4))
def test_slower_is_a_ratio_that_turns_around(fps: float, other: float, p50: float, p99: float) -> None:
    one, two = _report(fps, p50, p99), _report(other, p99, p50)
    for there, back in zip(compare_reports(one, two), compare_reports(two, one), strict=True):
        assert there.slower * back.slower == pytest.approx(1)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"schema": 2, "results": []}', '{"schema": 1, "results": [3]}',
     '{"schema": 1, "results": [{"fps": 0, "latency_ms": {"p50": 1, "p99": 1}}]}', "\x00\xff"],
)  # fmt: skip
def test_no_reports(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_text(text)
    with pytest.raises(InputError, match="report"):
        read_report(tmp_path / "a")


def test_nothing_in_common(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="in common"):
        compare_reports(_report(1, 1, 1), _report(1, 1, 1, backend="openvino"))


def test_a_file_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    code, _ = _invoke("compare", _write(tmp_path / "a", _report(1, 1, 1)), tmp_path / "folder")
    assert code != 0


class _Drifting:
    """Costs ``base`` milliseconds on a machine that gets slower and slower, with noise."""

    now = 0.0

    def __init__(self, base: float, chance: random.Random) -> None:
        self._base, self._chance = base, chance

    def cost_ms(self, seconds: float) -> float:
        _Drifting.now += seconds
        return self._base * (1 + 0.02 * _Drifting.now) * self._chance.uniform(0.97, 1.03)


def test_pairs_cancel_a_drift() -> None:
    """The machine halves its speed meanwhile, and 10 % are still 10 %."""
    _Drifting.now = 0.0
    chance = random.Random(4)
    found = compare_paired(_Drifting(10, chance), _Drifting(11, chance), pairs=25, seconds=1.0)
    assert found.slower.median == pytest.approx(1.10, abs=0.02)
    assert found.slower.low is not None
    assert found.slower.high is not None
    assert found.slower.low <= 1.10 <= found.slower.high
    assert len(found.ratios) == 25


def test_the_slowed_engine_is_slower_and_right(bright: Bundle) -> None:
    _, engines = open_first(bright, wanted_settings(bright.manifest.artifacts), fallback=False)
    with engines[0] as engine:
        inputs = pack_inputs(bright)[0]
        slowed = SlowedEngine(engine, 50.0)
        expected = {name: np.array(value) for name, value in engine.infer(inputs).items()}
        begin = time.perf_counter()
        engine.infer(inputs)
        alone_s = time.perf_counter() - begin
        begin = time.perf_counter()
        found = slowed.infer(inputs)
        assert time.perf_counter() - begin > 5 * alone_s
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


def test_bundles_in_pairs(bright: Bundle, tmp_path: Path) -> None:
    """A bundle against itself, for real; the report says what was compared."""
    code, text = _invoke(
        "compare", bright.path, bright.path, "--pairs", 6, "--seconds", 0.02, "--max-regression", "900%",
        "--output", tmp_path / "report.json", "--backend", "onnxruntime",
    )  # fmt: skip
    assert code == 0, text
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["pairs"]) == 6
    assert report["first"]["digest"] == report["second"]["digest"] == bright.digest
    assert report["slower"]["low"] <= report["slower"]["median"] <= report["slower"]["high"]


@pytest.mark.parametrize("objective", get_args(Objective))
def test_a_slowed_engine_slows_the_whole(bright: Bundle, objective: Objective) -> None:
    """Both objectives run on the engine that is put in; the check of the gate would check nothing else."""
    found = check_gate(
        bright, backend="onnxruntime", objective=objective, runs=1, pairs=6, seconds=0.02, added=200.0,
        limit=2.0,
    )  # fmt: skip
    assert (found.caught, found.passed) == (1, 1), found


def test_the_gate_command(bright: Bundle) -> None:
    code, text = _invoke(
        "gate", bright.path, "--runs", 1, "--pairs", 6, "--seconds", 0.02, "--added", 10, "--limit", 3,
        "--objective", "latency", "--backend", "onnxruntime", "--json",
    )  # fmt: skip
    assert code == 0, text
    report = json.loads(text[text.index("{") :])
    assert report["runs"] == 1
    assert len(report["slowed"]) == len(report["same"]) == 1


def test_the_baseline_of_a_run(bright: Bundle, tmp_path: Path) -> None:
    """A baseline out of reach ends with the gate's exit code, one that anything reaches does not."""
    arguments = ("bundle", bright.path, "--backend", "onnxruntime", "--seconds", 0.05)
    assert _invoke(*arguments, "--output", tmp_path / "before.json")[0] == 0
    report = json.loads((tmp_path / "before.json").read_text())
    for factor, code in ((1e3, REGRESSION), (1e-3, 0)):
        for result in report["results"]:
            result["fps"] *= factor
            result["latency_ms"]["p50"] /= factor
        _write(tmp_path / "baseline.json", report)
        for result in report["results"]:
            result["fps"] /= factor
            result["latency_ms"]["p50"] *= factor
        found, text = _invoke(*arguments, "--baseline", tmp_path / "baseline.json", "--max-regression", "0.5")
        assert found == code, text
    with pytest.raises(OptionError, match="go together"):
        CliRunner().invoke(
            cli.group, [*map(str, arguments), "--max-regression", "5%"], catch_exceptions=False
        )


def test_strict() -> None:
    import click

    for strict, warnings, code in ((True, ["x"], STRICT), (True, [], 0), (False, ["x"], 0)):
        context = click.Context(click.Command("x"))
        if code == 0:
            strict_exit(context, strict, warnings)
            continue
        with pytest.raises(click.exceptions.Exit) as done:
            strict_exit(context, strict, warnings)
        assert done.value.exit_code == code
