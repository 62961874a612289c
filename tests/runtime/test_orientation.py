"""One image that is stored in eight ways in four formats has one score, through every command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from definitions.turned_images import SIDES, WRITERS, stored, turned_png
from sspcab_edge.datasets import read_dataset
from sspcab_runtime.detector import Detector
from sspcab_runtime.evaluation import evaluate
from sspcab_runtime.fit import fit

Pixels = npt.NDArray[np.uint8]
Command = Callable[..., "subprocess.CompletedProcess[str]"]

WAYS = [(suffix, lies) for suffix in WRITERS for lies in SIDES]


def blocks(seed: int = 0) -> Pixels:
    """(48, 80, 3) of grey blocks as large as those of JPEG, which it holds exactly."""
    levels = np.random.default_rng(seed).integers(0, 256, (3, 5), dtype=np.uint8)
    return np.repeat(np.kron(levels, np.ones((16, 16), np.uint8))[..., None], 3, axis=2)


def test_run_judges_what_is_to_be_seen(command: Command, pristine: Path, tmp_path: Path) -> None:
    for suffix, lies in WAYS:
        (tmp_path / f"{suffix[1:]}{lies}{suffix}").write_bytes(WRITERS[suffix](stored(blocks(), lies), lies))
    done = command("sspcab_runtime.cli", pristine, tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    scores = [json.loads(line)["score"] for line in done.stdout.splitlines()]
    assert len(scores) == 32
    with Detector.open(pristine) as detector:
        assert scores == [pytest.approx(detector(blocks()).score, abs=1e-6)] * 32


def test_evaluate_turns_images_and_masks_each_as_their_file_says(bundle_path: Path, tmp_path: Path) -> None:
    """The masks lie in another way than their images."""
    for name in ("plain", "turned"):
        for number, (suffix, lies) in enumerate(WAYS):
            lies = lies if name == "turned" else 1
            pixels = blocks(number)
            kind = "good" if number % 2 else "bad"
            image = tmp_path / name / "test" / kind / f"{number:03d}{suffix}"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(WRITERS[suffix](stored(pixels, lies), lies))
            if kind == "bad":
                mask = np.where(pixels[..., 0] > 128, np.uint8(255), np.uint8(0))
                other = 9 - lies if name == "turned" else 1
                path = tmp_path / name / "ground_truth" / "bad" / f"{number:03d}_mask.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(turned_png(stored(mask, other), other))
    with Detector.open(bundle_path, prove=False) as detector:
        plain, turned = (evaluate(detector, read_dataset(tmp_path / name)) for name in ("plain", "turned"))
    assert [one.score for one in turned.pictures] == [one.score for one in plain.pictures]
    assert plain.categories[0].areas.aupro is not None
    assert [one.areas for one in turned.categories] == [one.areas for one in plain.categories]
    thresholds = [
        fit(bundle_path, tmp_path / name / "test" / "good").manifest.decision.threshold
        for name in ("plain", "turned")
    ]
    assert thresholds[0] == thresholds[1]
