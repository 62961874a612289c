"""``sspcab-bench block`` on shapes that take no time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from sspcab_bench import block_suite
from sspcab_bench.block_suite import BlockOptions, Shape, geometric_means, run
from sspcab_edge.errors import GateError, MissingPackageError, OptionError

Command = Callable[..., "subprocess.CompletedProcess[str]"]

TINY = Shape(16, 6, 10)


@pytest.fixture
def exporter() -> None:
    for package in ("torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason=f"{package} is not installed")


@pytest.mark.usefixtures("exporter")
def test_json_has_the_stable_keys(bench: Command) -> None:
    done = bench("block", "--shape", "16@6x10", "--seconds", "0.05", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {"schema", "machine", "results"} <= set(report)
    backends = sorted({result["backend"] for result in report["results"]})
    assert backends == ["onnxruntime", "openvino"]
    assert len(report["results"]) == 4
    for result in report["results"]:
        assert {
            "backend", "form", "dialect", "channels", "height", "width", "precision", "latency_ms",
        } <= set(result)  # fmt: skip
        assert result["form"] in ("reference", "folded")
        assert (result["dialect"], result["precision"]) == ("official", "fp32")
        assert result["latency_ms"]["p50"] > 0
    assert len(report["speed_ups"]) == 2
    for speed_up in report["speed_ups"]:
        assert speed_up["low"] <= speed_up["median"] <= speed_up["high"]
        assert speed_up["max_difference"] <= 1e-5
    assert sorted(report["geometric_mean"]) == backends


@pytest.mark.usefixtures("exporter")
def test_forms_are_compared_in_order() -> None:
    said: list[str] = []
    options = BlockOptions(1, ("onnxruntime",), "anomalib", (TINY, Shape(8, 8, 8)), 0.05)
    comparisons = run(options, said.append)
    assert [str(comparison.shape) for comparison in comparisons] == ["16@6x10", "8@8x8"]
    assert all(comparison.dialect == "anomalib" for comparison in comparisons)
    assert [measured.form for measured in comparisons[0].measured] == ["reference", "folded"]
    assert comparisons[0].rounds >= 10
    ratios = [comparison.speed_up.median for comparison in comparisons]
    assert geometric_means(comparisons)["onnxruntime"] == pytest.approx((ratios[0] * ratios[1]) ** 0.5)
    assert "measuring 16@6x10 on onnxruntime" in said


@pytest.mark.usefixtures("exporter")
def test_forms_that_differ_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_suite, "TOLERANCE", -1.0)
    with pytest.raises(GateError, match="differs from its reference"):
        run(BlockOptions(1, ("onnxruntime",), "official", (TINY,), 0.05))


@pytest.mark.usefixtures("exporter")
def test_a_dialect_that_is_not_folded() -> None:
    with pytest.raises(OptionError, match="tensorflow dialect has no folded form"):
        run(BlockOptions(1, ("onnxruntime",), "tensorflow", (TINY,), 0.05))


@pytest.mark.parametrize("package", ["sspcab_export", "torch"])
def test_without_the_exporter_the_command_is_said(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from sspcab_bench.block_suite import *\n"
        "from sspcab_edge.errors import MissingPackageError\n"
        "try:\n    run(BlockOptions(1, ('onnxruntime',)))\n"
        "except MissingPackageError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "is not installed, needed for sspcab-bench block" in done.stdout, done.stderr
    assert "pip install 'sspcab-edge[export]'" in done.stdout


def test_without_a_backend_the_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_suite, "installed_backends", tuple)
    with pytest.raises(MissingPackageError, match=r"sspcab-edge\[onnxruntime\]"):
        run(BlockOptions(1))
