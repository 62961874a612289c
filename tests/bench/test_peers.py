"""Others on the same graph: they give the same results, and what is reported is what was timed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from sspcab_bench import cli
from sspcab_bench.peer_tools import TOOLS, find_tool, read_median_ms
from sspcab_bench.peers import PEERS
from sspcab_edge.bundle import Bundle
from sspcab_runtime.engines import backends_for
from sspcab_runtime.setting import Setting, open_engines
from sspcab_runtime.turns import pack_inputs


@pytest.mark.parametrize("backend", list(PEERS))
def test_a_peer_computes_the_same(bright: Bundle, backend: str) -> None:
    """Otherwise the comparison would be of two different things."""
    artifact = next(one for one in bright.manifest.artifacts if backend in backends_for(one.target))
    with open_engines(bright, Setting(artifact, backend))[0] as engine:
        peer = PEERS[backend](bright.file(artifact.files[0]), engine, None)
        for inputs in pack_inputs(bright):
            ours, theirs = engine.infer(inputs), peer(inputs)
            values = list(theirs.values()) if hasattr(theirs, "values") else theirs
            for port, value in zip(engine.outputs, values, strict=True):  # type: ignore[call-overload]
                np.testing.assert_allclose(np.asarray(ours[port.name], np.float64), value, rtol=1e-6)


def test_the_command(bright: Bundle, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    rounds = "1" if find_tool(TOOLS["openvino"]) else "0"
    result = CliRunner().invoke(
        cli.group,
        ["peers", str(bright.path), "--seconds", "0.3", "--rounds", rounds, "--output", str(output)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(output.read_text())
    assert {row["artifact"] for row in report["results"]} == {"onnx-fp32", "openvino-fp32"}
    assert any(row["peer"] == "benchmark_app" for row in report["results"]) == (rounds == "1")
    for row in report["results"]:
        assert row["ratio"]["median"] == pytest.approx(row["ours_ms"] / row["peer_ms"], rel=0.5)


def test_what_trtexec_prints() -> None:
    """Lines as NVIDIA's documentation shows them: of the latency, not of its parts, which stand beside it."""
    text = (
        "[11/20/2026-10:00:00] [I] Throughput: 507.399 qps\n"
        "[11/20/2026-10:00:00] [I] H2D Latency: min = 0.2 ms, max = 0.3 ms, mean = 0.2 ms, median = 0.25 ms\n"
        "[11/20/2026-10:00:00] [I] Latency: min = 1.96301 ms, max = 2.13257 ms, mean = 1.97 ms, "
        "median = 1.96997 ms, percentile(90%) = 1.97 ms\n"
        "[11/20/2026-10:00:00] [I] Enqueue Time: min = 0.01 ms, mean = 0.02 ms, median = 0.02 ms\n"
        "[11/20/2026-10:00:00] [I] GPU Compute Time: min = 1.7 ms, mean = 1.7 ms, median = 1.75 ms\n"
    )
    assert read_median_ms(TOOLS["tensorrt"], text) == 1.96997
    assert read_median_ms(TOOLS["tensorrt"], "&&&& FAILED TensorRT.trtexec") is None
    assert read_median_ms(TOOLS["openvino"], "[ INFO ]    Median:        250.5 us") == pytest.approx(0.2505)
