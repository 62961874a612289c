"""``sspcab-edge inspect``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec

from sspcab_edge.block import BlockSpec
from sspcab_edge.bundle import Bundle, replace_manifest
from sspcab_runtime.inspect import describe

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_everything_in_a_bundle_is_shown(bundle_path: Path) -> None:
    bundle = Bundle.open(bundle_path)
    block = BlockSpec(
        path="encoder.block5",
        dialect="official",
        kernel=1,
        dilation=1,
        reduction=8,
        channels=96,
        form="folded",
    )
    model = msgspec.structs.replace(
        bundle.manifest.model, overrides={"dialect": "official"}, assumptions=("d is 1",)
    )
    changed = msgspec.structs.replace(bundle.manifest, blocks=(block,), model=model)
    text = describe(replace_manifest(bundle, changed))
    for words in (
        "tiny, host draem",
        "dialect = official",
        "d is 1",
        "frames: uint8 (N, 24, 32, 3) NHWC RGB",
        "score: float32 (N) N",
        "map: float32 (N, 24, 32) NHW",
        "resized to 32x24 by opencv-linear",
        "anomalous above 0.6 (given, fitted on 0 pictures)",
        "12 inputs",
        "encoder.block5  official  1  1          8        96  folded",
        "onnx-fp32",
        "openvino-fp32",
    ):
        assert words in text, words
    for entry in bundle.manifest.files:
        if not entry.path.startswith("parity/"):
            assert entry.path in text
            assert entry.sha256[:16] in text
    assert "parity/ (14 files)" in text


def test_no_threshold_and_no_block(build: Callable[..., Bundle], tmp_path: Path) -> None:
    text = describe(build(tmp_path / "bundle", threshold=None))
    assert "no threshold: scores without labels (fit one with sspcab-edge fit BUNDLE DIR)" in text
    assert "no SSPCAB block" in text


def test_the_command(command: Command, pristine: Path) -> None:
    done = command("sspcab_edge.cli", "inspect", pristine)
    assert done.returncode == 0, done.stderr
    assert done.stdout == describe(Bundle.open(pristine)) + "\n"
    plain = json.loads(command("sspcab_edge.cli", "inspect", pristine, "--json").stdout)
    assert plain["schema"] == 1
    assert plain["manifest"] == json.loads((pristine / "manifest.json").read_text())
