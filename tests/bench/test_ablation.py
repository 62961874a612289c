"""Many ways to run bundles, in turns: what is compared, and against what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sspcab_bench import cli
from sspcab_bench.ablation import choices
from sspcab_bench.compare import take_turns
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import OptionError


def test_choices(bright: Bundle) -> None:
    """Artifacts by backends by threads, in the manifest's order; or only those that were asked for."""
    found = [
        (str(one.setting.artifact.name), one.setting.backend, one.setting.threads)
        for one in choices([bright], threads=(None, 1))
    ]
    assert found == [
        ("onnx-fp32", "onnxruntime", None), ("onnx-fp32", "onnxruntime", 1),
        ("openvino-fp32", "openvino", None), ("openvino-fp32", "openvino", 1),
    ]  # fmt: skip
    assert len(choices([bright, bright], backends=("openvino",))) == 2
    assert {one.form for one in choices([bright])} == {"none"}
    with pytest.raises(OptionError, match="there is 1 way"):
        choices([bright], backends=("openvino",))
    with pytest.raises(OptionError, match="there is 0 way"):
        choices([bright], precisions=("int8",))


def test_turns() -> None:
    """Everybody has one a round, forwards and backwards; the round that does not count does not."""

    class Contender:
        def __init__(self, name: str, log: list[str]) -> None:
            self.name, self.log, self.turns = name, log, 0

        def cost_ms(self, seconds: float) -> float:
            self.log.append(self.name)
            self.turns += 1
            return self.turns

    log: list[str] = []
    costs = take_turns([Contender(name, log) for name in "abc"], rounds=3, seconds=0.1)
    assert "".join(log) == "cbaabccbaabc"
    assert costs == [[2, 3, 4]] * 3


def test_the_command(bright: Bundle, tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    result = CliRunner().invoke(
        cli.group,
        ["ablation", str(bright.path), "--objective", "latency", "--rounds", "6", "--seconds", "0.01",
         "--output", str(output)],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    first, second = json.loads(output.read_text())["results"]
    assert first["times_first"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert second["times_first"]["median"] == pytest.approx(second["cost_ms"] / first["cost_ms"], rel=0.6)
    assert "openvino-fp32" in result.output
