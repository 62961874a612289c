"""``sspcab-edge verify``: every artifact, every backend, on this device."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import MissingPackageError, OptionError
from sspcab_runtime import Detector
from sspcab_runtime.verify import verify

Build = Callable[..., Bundle]
Command = Callable[..., subprocess.CompletedProcess[str]]


def test_every_artifact_is_compared(pristine: Path) -> None:
    checked = verify(Bundle.open(pristine))
    assert [(c.artifact.name, c.backend, c.status) for c in checked] == [
        ("onnx-fp32", "onnxruntime", "passed"),
        ("openvino-fp32", "openvino", "passed"),
    ]
    for check in checked:
        assert check.parity is not None
        assert check.parity.pictures == 12
        assert check.parity.blends == 4
        assert check.parity.labelled == 8
        assert check.parity.flips == 0
        assert check.parity.max_abs_score_diff < 1e-6
        assert check.parity.max_abs_map_diff is not None
        assert check.parity.max_abs_map_diff < 1e-6
        assert check.parity.auroc_source == check.parity.auroc_artifact
        assert check.version
        assert check.device


def test_what_passed_needs_no_replay(pristine: Path) -> None:
    verify(Bundle.open(pristine), backends=["openvino"])
    replayed: list[int] = []
    Detector.open(pristine, backend="openvino", progress=lambda done, of: replayed.append(done)).close()
    assert replayed == []
    Detector.open(pristine, backend="onnxruntime", progress=lambda done, of: replayed.append(done)).close()
    assert len(replayed) == 12


def test_progress_is_told(pristine: Path) -> None:
    told: list[tuple[str, str, int, int]] = []
    verify(Bundle.open(pristine), progress=lambda a, b, done, of: told.append((a.name, b, done, of)))
    assert told[0] == ("onnx-fp32", "onnxruntime", 1, 12)
    assert told[-1] == ("openvino-fp32", "openvino", 12, 12)


def test_failures_are_told_apart(build: Build, tmp_path: Path, cache: Path) -> None:
    build(tmp_path / "lies", lie=0.5)
    for check in verify(Bundle.open(tmp_path / "lies")):
        assert check.status == "failed"
        assert check.reason is not None
        assert "scores differ by 0.5" in check.reason
    build(tmp_path / "broken", onnx_file=b"nonsense")
    statuses = [check.status for check in verify(Bundle.open(tmp_path / "broken"))]
    assert statuses == ["broken", "passed"], "one that does not load does not hide the other"
    assert [path.name[:13] for path in cache.rglob("*.json")] == ["openvino-fp32"]


def test_missing_backends(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    bundle = Bundle.open(pristine)
    passed, missing = verify(bundle)
    assert passed.status == "passed"
    assert missing.status == "missing"
    assert missing.reason is not None
    assert "pip install 'openvino>=2025.0'" in missing.reason
    with pytest.raises(MissingPackageError, match="openvino is not installed"):
        verify(bundle, backends=["openvino"])


def test_a_backend_that_the_bundle_has_nothing_for(build: Build, tmp_path: Path) -> None:
    build(tmp_path / "bundle", targets=("onnx",))
    with pytest.raises(OptionError, match="no artifact for backend openvino"):
        verify(Bundle.open(tmp_path / "bundle"), backends=["openvino"])


# The command


def test_the_command_prints_a_table(command: Command, pristine: Path) -> None:
    done = command("sspcab_edge.cli", "verify", pristine)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("artifact"))
    rows = [line.split() for line in lines[header + 1 :]]
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        ("onnx-fp32", "onnxruntime", "passed"),
        ("openvino-fp32", "openvino", "passed"),
    ]


def test_the_command_speaks_json(command: Command, pristine: Path) -> None:
    done = command("sspcab_edge.cli", "verify", pristine, "--json", "--backend", "onnxruntime")
    assert done.returncode == 0
    result = json.loads(done.stdout)
    assert result["schema"] == 1
    (artifact,) = result["artifacts"]
    assert artifact["passed"] is True
    assert artifact["backend"] == "onnxruntime"
    assert artifact["parity"]["flips"] == 0


def test_a_gate_not_passed_is_exit_3(command: Command, build: Build, tmp_path: Path) -> None:
    build(tmp_path / "bundle", lie=0.5)
    done = command("sspcab_edge.cli", "verify", tmp_path / "bundle", "--json")
    assert done.returncode == 3
    assert done.stderr.startswith("sspcab-edge: 2 of 2 not verified: onnx-fp32 on onnxruntime: ")
    assert done.stderr.count("\n") == 1
    assert [a["passed"] for a in json.loads(done.stdout)["artifacts"]] == [False, False]
