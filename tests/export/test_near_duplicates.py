"""One exposure twice against two exposures of one scene, and what splits make of either."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.errors import OptionError
from sspcab_edge.preprocess import decode_picture
from sspcab_export.intake import calibration_record, read_pictures
from sspcab_export.near_duplicates import TOGETHER, find_links
from sspcab_export.pictures import Sample, normal_samples
from sspcab_export.splits import Cut, split_samples

Pixels = npt.NDArray[np.uint8]

SIZE = 192


def part(texture: float) -> npt.NDArray[np.float32]:
    """A turned part with holes on a table: (192, 192) grey levels."""
    shown = np.full((SIZE, SIZE), 45, np.float32)
    cv2.circle(shown, (SIZE // 2, SIZE // 2), SIZE // 3, 150, -1)
    cv2.circle(shown, (SIZE // 2, SIZE // 2), SIZE // 9, 60, -1)
    grain = np.random.default_rng(7).normal(0, texture, shown.shape).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(shown, (0, 0), 1) + cv2.GaussianBlur(grain, (0, 0), 2), np.float32)


def exposure(
    shown: npt.NDArray[np.float32],
    random: np.random.Generator,
    noise: float,
    flicker: float = 0.0,
    shift: float = 0.0,
) -> Pixels:
    """One more image of it; the noise is the same in all channels."""
    right, down = random.uniform(-shift, shift, 2)
    motion = np.array([[1, 0, right], [0, 1, down]])
    moved = cv2.warpAffine(
        shown, motion, shown.shape[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    grey = moved * (1 + random.uniform(-flicker, flicker)) + random.normal(0, noise, shown.shape)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)


def save(path: Path, pixels: Pixels, quality: int = 100) -> None:
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == ".jpg" else []
    assert cv2.imwrite(str(path), pixels, settings)


COPIES: dict[str, Callable[[Pixels], Pixels]] = {
    "cropped.png": lambda pixels: pixels[1:-1, 1:-1],
    "saved.jpg": lambda pixels: pixels,
    "brighter.png": lambda pixels: np.clip(np.rint(pixels * 1.01), 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize(
    ("noise", "flicker", "shift", "texture"),
    [(3, 0, 0, 0), (3, 0.02, 2, 0), (6, 0.02, 2, 12), (3, 0.01, 0.5, 40)],
)
def test_a_hundred_exposures_of_a_fixed_part_are_split_in_halves_and_copies_stay_together(
    tmp_path: Path, noise: float, flicker: float, shift: float, texture: float
) -> None:
    random, shown = np.random.default_rng(0), part(texture)
    for number in range(100):
        save(tmp_path / f"{number:03d}.png", exposure(shown, random, noise, flicker, shift))
    alone = normal_samples(tmp_path).samples
    split = split_samples(alone, find_links(alone), 0.5)
    assert 40 <= len(split.fit) <= 60
    assert split.duplicates <= 2
    assert split.cuts == ()
    for number in range(0, 100, 3):
        pixels = decode_picture(tmp_path / f"{number:03d}.png").pixels
        for name, made in COPIES.items():
            save(tmp_path / f"{number:03d}-{name}", made(pixels), 80)
    samples = normal_samples(tmp_path).samples
    split = split_samples(samples, find_links(samples), 0.5)
    fitted = {sample.name for sample in split.fit}
    sides = {name.name: name.name in fitted for name in samples}
    apart = [name for name, side in sides.items() if side != sides[f"{name[:3]}.png"]]
    assert len(samples) == 202
    assert len(apart) <= 1
    assert 0.4 * len(samples) <= len(fitted) <= 0.6 * len(samples)


def chained(folder: Path, count: int) -> list[Sample]:
    """Frames of a still scene, each with nine tenths of the noise of the one before, as codecs leave it."""
    random, shown = np.random.default_rng(1), part(0)
    noise = random.normal(0, 5, shown.shape)
    for number in range(count):
        noise = 0.9 * noise + random.normal(0, 5 * np.sqrt(1 - 0.81), shown.shape)
        pixels = np.clip(np.rint(shown + noise), 0, 255).astype(np.uint8)
        save(folder / f"{number:03d}.png", pixels[..., None].repeat(3, axis=2))
    return list(normal_samples(folder).samples)


def test_frames_that_hand_their_noise_on_are_split_at_weak_links_and_it_is_said(tmp_path: Path) -> None:
    samples = chained(tmp_path, 40)
    links = find_links(samples)
    split = split_samples(samples, links, 0.5)
    (cut,) = split.cuts
    assert cut.pictures == 40
    assert 16 <= len(split.fit) <= 24
    fitted = {sample.name for sample in split.fit}
    changes = sum((a.name in fitted) != (b.name in fitted) for a, b in itertools.pairwise(samples))
    assert changes <= 6, "neighbours stay together"
    seen = links.correlation(split.fit, split.judge)
    assert seen is not None
    intake = read_pictures(tmp_path, None, wants_normal_scores=False, threshold_given=False, for_ranges=False)
    assert any(text.startswith("40 pictures are near-duplicates of each other") for text in intake.notes)
    record = calibration_record(intake, 0)
    assert record is not None
    assert record.cut == 40
    assert record.correlation == seen


def test_ranges_come_from_a_group_that_is_split_too(tmp_path: Path) -> None:
    samples = chained(tmp_path, 24)
    split = split_samples(samples, find_links(samples), 0.5, 0.25)
    assert min(len(split.fit), len(split.ranges), len(split.judge)) >= 4
    assert len({s.digest for s in (*split.fit, *split.ranges, *split.judge)}) == 24


@pytest.mark.parametrize("normal", [6, 14])
def test_defects_of_a_few_images_are_not_what_the_others_have_in_common(tmp_path: Path, normal: int) -> None:
    random, shown = np.random.default_rng(0), part(0)
    for kind in ("good", "bad"):
        (tmp_path / kind).mkdir()
    for number in range(normal):
        save(tmp_path / "good" / f"{number}.png", exposure(shown, random, 3, 0.01))
    for number in range(5):
        scratched = shown.copy()
        place = random.integers(60, 130, 2).tolist()
        cv2.circle(scratched, place, 12, 20, -1)
        save(tmp_path / "bad" / f"{number}.png", exposure(scratched, random, 3, 0.01))
    intake = read_pictures(None, tmp_path, wants_normal_scores=False, threshold_given=False, for_ranges=False)
    assert intake.cut == 0
    assert not [text for text in intake.notes if "near-duplicates" in text]
    assert sum(not sample.label for sample in intake.labelled_fit) == normal // 2


def test_exposures_of_a_fixed_part_are_said_to_be_separate(tmp_path: Path) -> None:
    random, shown = np.random.default_rng(0), part(0)
    for number in range(24):
        save(tmp_path / f"{number:03d}.jpg", exposure(shown, random, 3, 0.01, 1), 92)
    intake = read_pictures(tmp_path, None, wants_normal_scores=False, threshold_given=False, for_ranges=True)
    assert intake.cut == 0
    assert intake.correlation is not None
    assert intake.correlation < TOGETHER
    assert any("separate exposures" in text for text in intake.notes)
    assert (len(intake.normal_fit), len(intake.ranges), len(intake.judge)) == (12, 6, 6)


def test_two_pictures_of_a_fixed_part_are_one_on_each_side(tmp_path: Path) -> None:
    random, shown = np.random.default_rng(0), part(0)
    for number in range(2):
        save(tmp_path / f"{number}.png", exposure(shown, random, 2))
    samples = normal_samples(tmp_path).samples
    split = split_samples(samples, find_links(samples), 0.5)
    assert (len(split.fit), len(split.judge)) == (1, 1)
    assert split.cuts == (Cut(2, None),)


def test_in_a_small_folder_the_copies_are_what_stays_together(tmp_path: Path) -> None:
    random, shown = np.random.default_rng(0), part(0)
    for number in range(3):
        pixels = exposure(shown, random, 4)
        save(tmp_path / f"{number}.png", pixels)
        save(tmp_path / f"{number}.jpg", pixels, 85)
    samples = normal_samples(tmp_path).samples
    split = split_samples(samples, find_links(samples), 0.5)
    assert sorted(s.name[0] for s in (*split.fit, *split.judge)) == list("001122")
    assert {s.name[0] for s in split.fit}.isdisjoint(s.name[0] for s in split.judge)
    assert len(split.cuts) == 1


@pytest.mark.parametrize("count", [2, 12])
def test_the_same_pixels_in_other_files_are_never_on_both_sides(tmp_path: Path, count: int) -> None:
    pixels = exposure(part(0), np.random.default_rng(0), 3)
    _, data = cv2.imencode(".png", pixels)
    for number in range(count):
        (tmp_path / f"{number}.png").write_bytes(data.tobytes() + bytes([number]))
    with pytest.raises(OptionError, match=f"{count} pictures cannot both fit the threshold and judge it"):
        read_pictures(tmp_path, None, wants_normal_scores=False, threshold_given=False, for_ranges=False)


@pytest.mark.parametrize("count", [1, 5])
def test_nothing_is_split_off_where_nothing_is_fitted(tmp_path: Path, count: int) -> None:
    random, shown = np.random.default_rng(0), part(0)
    for number in range(count):
        save(tmp_path / f"{number}.png", exposure(shown, random, 3))
    intake = read_pictures(
        tmp_path, None, wants_normal_scores=False, threshold_given=True, for_ranges=False, fits=False
    )
    assert (intake.normal_fit, len(intake.judge)) == ((), count)
    if count == 1:
        with pytest.raises(OptionError, match="1 pictures cannot both fit"):
            read_pictures(tmp_path, None, wants_normal_scores=False, threshold_given=True, for_ranges=False)


def test_training_pictures_alone_are_fitted_to_and_nothing_else(tmp_path: Path) -> None:
    random, shown = np.random.default_rng(0), part(0)
    for number in range(9):
        save(tmp_path / f"{number}.png", exposure(shown, random, 3))
    shutil.copy(tmp_path / "0.png", tmp_path / "copy.png")
    intake = read_pictures(
        None,
        None,
        wants_normal_scores=False,
        threshold_given=False,
        for_ranges=False,
        for_training=True,
        training=tmp_path,
    )
    assert len(intake.training) == 9
    assert (intake.normal_fit, intake.labelled_fit, intake.ranges, intake.scene) == ((), (), (), "built-in")
    assert not {s.digest for s in intake.judge} & {s.digest for s in intake.training}
    record = calibration_record(intake, 0)
    assert record is not None
    assert (record.training, record.fit, record.judge) == (9, 0, 0)
