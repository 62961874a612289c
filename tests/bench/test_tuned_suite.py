"""The suite that puts tuning to the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from sspcab_bench.summary import median_interval
from sspcab_bench.tuned_suite import TunedComparison, TunedOptions, run
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import GateError

Bench = Callable[..., CompletedProcess[str]]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of its own for every test, subprocesses included."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "sspcab-edge"


@pytest.fixture
def compared(bundle_path: Path) -> TunedComparison:
    options = TunedOptions(backends=("onnxruntime",), pairs=6, seconds=0.02, look_s=0.01)
    return run(Bundle.open(bundle_path), options)


def test_every_setting_is_measured_and_the_best_is_compared(compared: TunedComparison, cache: Path) -> None:
    timed = [row.setting for row in compared.tuned.rows if row.ms is not None]
    assert list(compared.costs_ms) == timed
    assert compared.costs_ms[compared.best] == min(compared.costs_ms.values())
    assert compared.tuned.chosen in timed
    assert len(compared.pairs) == 6
    assert compared.median == median_interval(compared.pairs)
    assert min(compared.pairs) <= compared.mean <= max(compared.pairs)
    assert not (cache / "tuning").exists(), "a benchmark changes no setting of the runtime"


def test_three_percent_are_allowed(compared: TunedComparison) -> None:
    for ratio, holds in ((0.9, True), (1.03, True), (1.031, False)):
        assert replace(compared, median=median_interval([ratio])).holds is holds


def test_progress_is_told(bundle_path: Path) -> None:
    told: list[str] = []
    options = TunedOptions("fps", ("openvino",), pairs=1, seconds=0.01, look_s=0.005)
    run(Bundle.open(bundle_path), options, told.append)
    assert told[0] == "tuning for fps"
    assert told[1] == "measuring openvino-fp32 on openvino"
    assert told[-1].startswith("comparing openvino-fp32 on openvino")


def test_a_bundle_that_lies_is_not_measured(build: Callable[..., Bundle]) -> None:
    with pytest.raises(GateError, match="no setting of the bundle can be used here"):
        run(build(wrong_score_of=2), TunedOptions(seconds=0.01, look_s=0.005))


def test_the_command(bench: Bench, bundle_path: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    arguments = ("--pairs", 6, "--seconds", 0.02, "--backend", "onnxruntime", "--output", output)
    done = bench("tuned", bundle_path, *arguments)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for word in ("tuned   onnx-fp32", "best    onnx-fp32", "ratio   median", "tuning  "):
        assert [line for line in lines if line.startswith(word)], word
    report = json.loads(output.read_bytes())
    assert report["schema"] == 1
    assert report["bundle"]["name"] == "bright"
    assert report["objective"] == "latency"
    assert len(report["pairs"]) == 6
    assert set(report["ratio"]) == {"mean", "median", "low", "high"}
    assert report["holds"] is (report["ratio"]["median"] <= report["limit"])
    costs = [result["cost_ms"] for result in report["results"] if result["cost_ms"] is not None]
    assert report["best"]["cost_ms"] == min(costs)
    assert report["tuned"]["backend"] == "onnxruntime"
