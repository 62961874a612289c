"""Splitting pictures: by content, near-duplicates together, nothing lost, nothing on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sspcab_edge.errors import PictureError
from sspcab_export import splits
from sspcab_export.near_duplicates import find_links
from sspcab_export.pictures import Sample, conversions, labelled_samples, normal_samples
from sspcab_export.splits import MAX_RANGES, Split


def sample(name: str, seed: int, label: bool | None = False, noise: float = 0.0) -> Sample:
    thumbnail = np.random.default_rng(seed).random((32, 32, 3)).astype(np.float32)
    digest = hashlib.sha256(f"{seed} {noise}".encode()).hexdigest()
    detail = np.random.default_rng(seed).integers(0, 60000, (64, 64)).astype(np.uint16)
    return Sample(Path(name), name, label, digest, thumbnail + np.float32(noise), None, (32, 32), detail)


def split_samples(samples: Sequence[Sample], *shares: float) -> Split:
    """With links of copies of one seed."""
    return splits.split_samples(samples, find_links(samples), *shares)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from([True, False, None])), max_size=50))
def test_every_picture_is_on_one_side_and_copies_are_on_the_same(
    drawn: list[tuple[int, bool | None]],
) -> None:
    samples = [sample(str(i), seed, label) for i, (seed, label) in enumerate(drawn)]
    split = split_samples(samples, 0.5)
    names = [s.name for s in (*split.fit, *split.judge)]
    assert sorted(names) == sorted(s.name for s in samples)
    sides = [{(s.digest, s.label) for s in side} for side in (split.fit, split.judge)]
    assert not sides[0] & sides[1]


def test_the_split_depends_on_content_and_not_on_order_or_names() -> None:
    samples = [sample(f"a{i}", i) for i in range(20)]
    renamed = [sample(f"b{i}", i) for i in reversed(range(20))]
    first, second = split_samples(samples, 0.5), split_samples(renamed, 0.5)
    assert {s.digest for s in first.fit} == {s.digest for s in second.fit}
    assert len(first.fit) == len(first.judge) == 10


def test_near_duplicates_stay_together_and_are_counted() -> None:
    samples = [sample(f"{i}", i // 2, noise=0.002 * (i % 2)) for i in range(20)]
    split = split_samples(samples, 0.5)
    assert split.duplicates == 10
    assert {int(s.name) // 2 for s in split.fit}.isdisjoint(int(s.name) // 2 for s in split.judge)


def test_different_pictures_are_no_duplicates() -> None:
    assert split_samples([sample(str(i), i) for i in range(30)], 0.5).duplicates == 0


@pytest.mark.parametrize(("count", "share"), [(2, 0.5), (2, 0.1), (2, 0.9), (3, 0.01)])
def test_both_sides_get_one_where_there_are_two(count: int, share: float) -> None:
    split = split_samples([sample(str(i), i) for i in range(count)], share)
    assert split.fit
    assert split.judge


def test_a_share_of_none_gives_all_to_judge() -> None:
    split = split_samples([sample(str(i), i) for i in range(5)], 0.0)
    assert (len(split.fit), len(split.judge)) == (0, 5)


def test_classes_are_split_alike() -> None:
    samples = [sample(f"n{i}", i) for i in range(10)] + [sample(f"d{i}", 50 + i, True) for i in range(4)]
    split = split_samples(samples, 0.5)
    assert sum(bool(s.label) for s in split.fit) == 2
    assert sum(not s.label for s in split.fit) == 5


drawn_samples = st.lists(st.tuples(st.integers(0, 30), st.sampled_from([True, False, None])), max_size=50)


@settings(deadline=None)
@given(drawn_samples, st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), st.sampled_from([0.1, 0.25, 0.5, 1.0]))
def test_fit_does_not_change_when_ranges_are_asked_for(
    drawn: list[tuple[int, bool | None]], fit_share: float, ranges_share: float
) -> None:
    samples = [sample(str(i), seed, label) for i, (seed, label) in enumerate(drawn)]
    plain, measured = (split_samples(samples, fit_share, share) for share in (0.0, ranges_share))
    assert [s.name for s in measured.fit] == [s.name for s in plain.fit]
    assert plain.ranges == ()
    assert sorted(s.name for s in (*measured.ranges, *measured.judge)) == sorted(s.name for s in plain.judge)
    sides = [{(s.digest, s.label) for s in side} for side in (measured.fit, measured.ranges, measured.judge)]
    assert sum(map(len, sides)) == len(set().union(*sides)), "near-duplicates stay together"
    for label in (True, False, None):
        if fit_share == 0.5 and len({seed for seed, drawn_label in drawn if drawn_label is label}) > 1:
            assert any(s.label is label for s in measured.judge), "ranges do not use up what is judged on"


def test_ranges_get_their_share() -> None:
    split = split_samples([sample(str(i), i) for i in range(40)], 0.5, 0.25)
    assert (len(split.fit), len(split.ranges), len(split.judge)) == (20, 10, 10)


def test_near_duplicates_stay_together_in_ranges_too() -> None:
    samples = [sample(f"{i}", i // 3, noise=0.001 * (i % 3)) for i in range(60)]
    split = split_samples(samples, 0.5, 0.25)
    sides = [{int(s.name) // 3 for s in side} for side in (split.fit, split.ranges, split.judge)]
    assert all(sides)
    assert sum(map(len, sides)) == 20


def test_every_class_gives_its_share_to_ranges() -> None:
    samples = [sample(f"n{i}", i) for i in range(40)] + [sample(f"d{i}", 50 + i, True) for i in range(20)]
    split = split_samples(samples, 0.5, 0.25)
    assert [sum(s.label is label for s in split.ranges) for label in (False, True)] == [10, 5]


@pytest.mark.parametrize("copies", [1, 6])
def test_ranges_hold_no_more_pictures_than_widen_them(copies: int) -> None:
    samples = [sample(str(i), i // copies) for i in range(180)]
    split = split_samples(samples, 0.1, 0.9)
    assert MAX_RANGES - copies < len(split.ranges) <= MAX_RANGES
    assert len(split.fit) + len(split.ranges) + len(split.judge) == len(samples)


def write(path: Path, seed: int = 0, channels: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, channels)).astype(np.uint8)
    assert cv2.imwrite(str(path), pixels)


@pytest.mark.parametrize("below", ["", "test"])
def test_labels_come_from_the_mvtec_layout(tmp_path: Path, below: str) -> None:
    root = tmp_path / below
    write(root / "good" / "000.png", 1)
    write(root / "crack" / "000.png", 2)
    write(root / "hole" / "deep" / "000.png", 3)
    labels = {s.name: s.label for s in labelled_samples(tmp_path).samples}
    expected = {"good/000.png": False, "crack/000.png": True, "hole/deep/000.png": True}
    assert labels == {f"{below}/{name}".lstrip("/"): label for name, label in expected.items()}


def test_a_folder_without_good_or_without_defects_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "crack" / "000.png")
    with pytest.raises(PictureError, match=r"has no layout that is known: it holds crack/ \(1 images\)"):
        labelled_samples(tmp_path)
    write(tmp_path / "other" / "test" / "good" / "000.png")
    with pytest.raises(PictureError, match="holds only normal images: expected anomalous ones"):
        labelled_samples(tmp_path / "other")


def test_conversions_are_counted_by_kind(tmp_path: Path) -> None:
    for number, channels in enumerate((1, 1, 4, 3)):
        write(tmp_path / f"{number}.png", number, channels)
    said = conversions(normal_samples(tmp_path).samples)
    assert said == ["1 pictures converted: alpha dropped", "2 pictures converted: grey to RGB"]
