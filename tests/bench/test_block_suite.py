"""``sspcab-bench block`` on shapes that take no time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sspcab_bench import block_suite
from sspcab_bench.block_suite import BlockComparison, BlockOptions, Shape, geometric_means, run
from sspcab_bench.machine import read_machine
from sspcab_bench.text_report import block_text
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
    assert [(result["backend"], result["form"]) for result in report["results"]] == [
        ("onnxruntime", "reference"),
        ("onnxruntime", "folded"),
        ("onnxruntime", "custom-op"),
        ("openvino", "reference"),
        ("openvino", "folded"),
    ]
    for result in report["results"]:
        assert {
            "backend", "form", "dialect", "channels", "height", "width", "precision", "latency_ms",
        } <= set(result)  # fmt: skip
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
    assert [measured.form for measured in comparisons[0].measured] == ["reference", "folded", "custom-op"]
    counts = [measured.latency.count for measured in comparisons[0].measured]
    assert min(counts) >= comparisons[0].rounds
    assert comparisons[0].rounds >= 10
    ratios = [comparison.speed_up.median for comparison in comparisons]
    assert geometric_means(comparisons)["onnxruntime"] == pytest.approx((ratios[0] * ratios[1]) ** 0.5)
    assert "measuring 16@6x10 on onnxruntime" in said


@pytest.mark.usefixtures("exporter")
def test_the_text_has_a_column_for_each_form() -> None:
    comparisons = run(BlockOptions(1, ("openvino", "onnxruntime"), "official", (TINY,), 0.05))
    lines = block_text(comparisons, read_machine(), warnings=()).splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("backend"))
    assert re.split(r"\s{2,}", lines[head])[2:6] == ["reference ms", "folded ms", "custom-op ms", "speed-up"]
    rows = {cells[0]: cells for cells in (line.split() for line in lines[head + 1 : head + 3])}
    assert rows["openvino"][4] == "-"
    assert float(rows["onnxruntime"][4]) > 0
    assert rows["openvino"][5] == f"{comparisons[0].speed_up.median:.2f}"


@pytest.mark.usefixtures("exporter")
def test_the_operator_is_what_onnxruntime_measures(tmp_path: Path) -> None:
    block_suite._make_graphs(tmp_path, TINY, "anomalib")
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(files) == [f"16@6x10.{form}.onnx" for form in ("custom-op", "folded", "reference")]
    assert [name for name, data in files.items() if b"SSPCAB" in data] == ["16@6x10.custom-op.onnx"]


@pytest.mark.usefixtures("exporter")
def test_forms_that_differ_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_suite, "TOLERANCE", -1.0)
    with pytest.raises(GateError, match="the folded block 16@6x10 differs from its reference"):
        run(BlockOptions(1, ("onnxruntime",), "official", (TINY,), 0.05))


@pytest.mark.usefixtures("exporter")
def test_an_operator_that_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    compare = block_suite._compare

    def spoiled(folder: Path, shape: Shape, backend: str, options: BlockOptions) -> BlockComparison:
        import onnx

        path = folder / f"{shape}.custom-op.onnx"
        model = onnx.load(path)
        convolution = next(node for node in model.functions[0].node if node.op_type == "Conv")
        pads = next(attribute for attribute in convolution.attribute if attribute.name == "pads")
        pads.ints[:] = [1, 1, 3, 3]
        onnx.save(model, path)
        return compare(folder, shape, backend, options)

    monkeypatch.setattr(block_suite, "_compare", spoiled)
    with pytest.raises(GateError, match="the custom-op block 16@6x10 differs from its reference"):
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
    install = done.stdout.partition("pip install ")[2]
    assert install.startswith("'torch<2.14,>=2.10'" if package == "torch" else "")
    assert "sspcab" not in install


def test_without_a_backend_the_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_suite, "installed_backends", tuple)
    with pytest.raises(MissingPackageError, match=r"pip install 'onnxruntime>=1\.18'"):
        run(BlockOptions(1))
