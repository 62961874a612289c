"""Calibration images are read as the device reads what it judges: turned as their files say, all or none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from definitions.turned_images import SIDES, WRITERS, stored
from sspcab_edge.errors import PictureError
from sspcab_edge.preprocess import decode_picture
from sspcab_export.pictures import normal_samples


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_image_that_is_stored_in_eight_ways_is_one_image(tmp_path: Path, suffix: str) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (3, 5), dtype=np.uint8)
    pixels = np.repeat(np.kron(levels, np.ones((16, 16), np.uint8))[..., None], 3, axis=2)
    for lies in SIDES:
        (tmp_path / f"{lies}{suffix}").write_bytes(WRITERS[suffix](stored(pixels, lies), lies))
    samples = normal_samples(tmp_path).samples
    assert len(samples) == 8
    for sample in samples:
        assert sample.size == (48, 80)
        assert np.array_equal(sample.pixels(), pixels)
        assert np.array_equal(sample.thumbnail, samples[0].thumbnail)
        assert np.array_equal(sample.detail, samples[0].detail)
        assert np.array_equal(decode_picture(sample.path).pixels, pixels)


def test_a_calibration_image_of_several_pages_is_refused_by_name(tmp_path: Path) -> None:
    pages = list(np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), dtype=np.uint8))
    assert cv2.imwritemulti(str(tmp_path / "pages.tif"), pages)
    with pytest.raises(PictureError, match=r"pages\.tif holds 2 images .* none of them is judged"):
        normal_samples(tmp_path)
