"""A bundle for cameras of 12 bits: every command that reads images reads them with the bundle's bit depth."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.bundle import Bundle, replace_manifest
from sspcab_edge.datasets import read_dataset
from sspcab_runtime.detector import Detector
from sspcab_runtime.evaluation import evaluate
from sspcab_runtime.fit import fit
from sspcab_runtime.pipeline import Failure
from sspcab_runtime.sources import open_source

Pixels = npt.NDArray[np.uint8]
Command = Callable[..., "subprocess.CompletedProcess[str]"]
Save = Callable[[str, npt.NDArray[np.generic]], Path]


@pytest.fixture
def of_12_bits(bundle_path: Path) -> Path:
    """The tiny bundle, for images with 12 bits in use."""
    bundle = Bundle.open(bundle_path)
    preprocess = msgspec.structs.replace(bundle.manifest.preprocess, bit_depth=12)
    replace_manifest(bundle, msgspec.structs.replace(bundle.manifest, preprocess=preprocess))
    return bundle_path


@pytest.fixture
def both(frames: Pixels, save: Save, tmp_path: Path) -> tuple[Path, Path]:
    """The same images with 8 bits and with 12 in files of 16, half of them in ``good``, half in ``bad``."""
    for number, pixels in enumerate(frames):
        name = f"{'bad' if number % 2 else 'good'}/{number:03d}.png"
        save(f"plain/{name}", pixels[..., ::-1])
        save(f"deep/{name}", pixels[..., ::-1].astype(np.uint16) << 4 | 0b1001)
    return tmp_path / "plain", tmp_path / "deep"


def scores(bundle: Path, source: Path) -> list[float | None]:
    with Detector.open(bundle, prove=False) as detector:
        found = list(detector.stream(open_source(str(source))))
    return [None if isinstance(one, Failure) else one.verdict.score for one in found]


def test_streams_give_the_scores_of_8_bit_images(of_12_bits: Path, both: tuple[Path, Path]) -> None:
    plain, deep = (scores(of_12_bits, path) for path in both)
    assert deep == plain
    assert len(set(plain)) > 6


def test_a_bundle_for_full_range_files_drops_the_low_byte_as_before(
    bundle_path: Path, frames: Pixels, save: Save, tmp_path: Path
) -> None:
    for number, pixels in enumerate(frames):
        save(f"plain/{number:03d}.png", pixels[..., ::-1])
        save(f"deep/{number:03d}.png", pixels[..., ::-1].astype(np.uint16) << 8 | 0x5A)
    assert scores(bundle_path, tmp_path / "deep") == scores(bundle_path, tmp_path / "plain")


def test_an_image_beyond_12_bits_is_a_failure_and_the_others_go_on(
    of_12_bits: Path, both: tuple[Path, Path], save: Save, command: Command
) -> None:
    save("deep/good/beyond.png", np.full((8, 8), 5000, np.uint16))
    found = scores(of_12_bits, both[1])
    assert found.count(None) == 1
    assert len(found) == 13
    done = command("sspcab_runtime.cli", of_12_bits, both[1], "--json", "--no-prove")
    assert done.returncode == 1
    assert "beyond.png holds values up to 5000, expected at most 4095" in done.stderr
    assert len([json.loads(line) for line in done.stdout.splitlines()]) >= 12


def test_fit_and_evaluate_read_the_same_images(of_12_bits: Path, both: tuple[Path, Path]) -> None:
    with Detector.open(of_12_bits, prove=False) as detector:
        plain, deep = (evaluate(detector, read_dataset(path)) for path in both)
    assert [one.score for one in deep.pictures] == [one.score for one in plain.pictures]
    assert deep.converted == {"16-bit (12 in use) to 8-bit": 12}
    thresholds = [fit(of_12_bits, path / "good").manifest.decision.threshold for path in both]
    assert thresholds[0] == thresholds[1]
