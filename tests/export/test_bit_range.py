"""The bits that a camera has, told by its files; what is said of it; and every file read with them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.errors import PictureError
from sspcab_export.bit_range import measured_bit_depth
from sspcab_export.footage import find_footage, frames_of
from sspcab_export.intake import Intake, read_pictures
from sspcab_export.progress import Silent


def files(*values: int | None) -> list[tuple[str, int | None]]:
    return [(f"{number}.png", value) for number, value in enumerate(values)]


@pytest.mark.parametrize(
    ("used", "bits", "said"),
    [
        ((None, None), 16, None),
        ((65535, 30000), 16, None),
        ((201,), 8, "bit depth 8: no value of 1 images of 16 bits per channel is above 255, so 8"),
        ((1001, 900), 10, "above 1023, so 10 are"),
        ((4095, 900), 12, "bit depth 12: no value of 2 images of 16 bits per channel is above 4095, so 12"),
        ((16000 | 1,), 14, "--bit-depth"),
        ((0b111111110000, 0b11110000), 12, "all multiples of 16"),
        ((0xFFF0, 0xF000), 16, "a camera of 12 bits, shifted up"),
        ((0xFFC0,), 16, "a camera of 10 bits, shifted up"),
    ],
)
def test_the_least_depth_that_holds_all_is_taken_and_said(
    used: tuple[int | None, ...], bits: int, said: str | None
) -> None:
    found, notes = measured_bit_depth(files(*used), None)
    assert found == bits
    assert (notes == ()) if said is None else (said in notes[0])


def test_what_the_user_says_wins() -> None:
    found, notes = measured_bit_depth(files(3001), 16)
    assert found == 16
    assert "bit depth 16, as told" in notes[0]
    assert "go up to 12 bits" in notes[0]
    assert measured_bit_depth(files(None), 12) == (12, ())


def test_few_that_go_beyond_the_others_are_named() -> None:
    found, notes = measured_bit_depth(files(4000 | 1, 3001, 65535, 4001), None)
    assert found == 16
    assert any("1 of 4 images" in text and "(2.png)" in text and "--bit-depth 12" in text for text in notes)


def test_a_mix_of_8_and_12_bits_is_named() -> None:
    _, notes = measured_bit_depth(files(4001, None, 3001), None)
    assert any("1 images have 8 bits" in text and text.endswith("8 bits: 1.png") for text in notes)


def surface(seed: int) -> npt.NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    broad = cv2.resize(random.normal(120, 30, (6, 8)), (64, 48), interpolation=cv2.INTER_CUBIC)
    return np.clip(broad + random.normal(0, 4, (48, 64)), 0, 255).astype(np.uint8)


def folder(path: Path, shift: int, count: int = 12) -> Path:
    path.mkdir()
    for number in range(count):
        shown = surface(number)
        values = shown if shift < 0 else shown.astype(np.uint16) << np.uint16(shift)
        assert cv2.imwrite(str(path / f"{number:02d}.png"), values)
    return path


def read(path: Path, **told: int) -> Intake:
    return read_pictures(
        path,
        None,
        wants_normal_scores=False,
        threshold_given=False,
        for_ranges=False,
        **told,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("shift", "bits"), [(0, 8), (2, 10), (4, 12), (6, 14), (8, 16)])
def test_images_of_any_depth_are_seen_as_those_of_8_bits(tmp_path: Path, shift: int, bits: int) -> None:
    plain, deep = read(folder(tmp_path / "plain", -1)), read(folder(tmp_path / "deep", shift))
    assert deep.bit_depth == bits
    assert deep.inspected.findings == plain.inspected.findings == ()
    own = {sample.name: sample for sample in deep.inspected.kept}
    for sample in plain.inspected.kept:
        np.testing.assert_array_equal(own[sample.name].pixels(), sample.pixels())
        np.testing.assert_array_equal(own[sample.name].thumbnail, sample.thumbnail)


def test_a_value_beyond_what_the_user_says_is_refused_by_name(tmp_path: Path) -> None:
    path = folder(tmp_path / "deep", 6)
    with pytest.raises(PictureError, match=r"00\.png holds values up to \d+, expected at most 4095"):
        read(path, bit_depth=12)


def test_frames_of_videos_that_are_files_of_12_bits(tmp_path: Path) -> None:
    plain, deep = folder(tmp_path / "plain", -1), folder(tmp_path / "deep", 4)
    (own,), (other,) = find_footage(plain, Silent()), find_footage(deep, Silent())
    assert (own.bit_depth, other.bit_depth) == (16, 12)
    for one, two in zip(frames_of(own), frames_of(other), strict=True):
        np.testing.assert_array_equal(one.pixels, two.pixels)
