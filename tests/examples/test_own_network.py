"""The worked example: trained for a few steps, exported through its factory, run on another engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "own_network"
DEMO = ROOT / "examples" / "demo"


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": "", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.slow
def test_from_training_to_verdicts(tmp_path: Path) -> None:
    trained = run(
        EXAMPLE,
        "train.py", "--pictures", str(DEMO / "calibration"), "--out", str(tmp_path / "weights.pth"),
        "--steps", "6", "--batch", "4",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    exported = run(
        EXAMPLE,
        "-m", "sspcab_export.cli", str(tmp_path / "weights.pth"), "--factory", "network:make",
        "--input-size", "128x128", "--score", "map-mean-filter:15", "--map", "error",
        "--calibration", str(DEMO / "calibration"), "--false-alarm-rate", "0.1",
        "--target", "onnx", "--target", "openvino", "-o", str(tmp_path / "bundle"), "--json",
    )  # fmt: skip
    assert exported.returncode == 0, exported.stderr
    report = json.loads(exported.stdout)
    assert report["host"] == "network"
    (block,) = report["blocks"]
    found = {key: block[key] for key in ("path", "dialect", "kernel", "dilation", "reduction", "form")}
    assert found == {
        "path": "block", "dialect": "official", "kernel": 1, "dilation": 1, "reduction": 8, "form": "folded",
    }  # fmt: skip
    assert report["model"]["overrides"]["factory"] == "network:make"
    judged = run(
        tmp_path, "-m", "sspcab_runtime.cli", "bundle", str(DEMO / "test" / "hole"), "--backend", "openvino",
        "--json",
    )  # fmt: skip
    assert judged.returncode == 0, judged.stderr
    assert len(judged.stdout.splitlines()) == 8
