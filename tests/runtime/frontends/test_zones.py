"""Zones and masks as pixels, and at the resolution of a map."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspcab_edge.errors import BundleError
from sspcab_edge.front_end_spec import FrameSize, FrontEndSpec, Region
from sspcab_runtime.frontends.zones import read_inside, touched

FRAME = FrameSize(width=40, height=30)
SQUARE = ((5, 6), (14, 6), (14, 12), (5, 12))


def box(left: int, top: int, right: int, bottom: int) -> npt.NDArray[np.bool_]:
    drawn = np.zeros((30, 40), dtype=bool)
    drawn[top : bottom + 1, left : right + 1] = True
    return drawn


def test_without_zones_and_mask_everything_is_judged() -> None:
    assert read_inside(FrontEndSpec(), None) is None
    assert read_inside(FrontEndSpec(frame=FRAME), None) is None


def test_a_zone_has_its_border() -> None:
    inside = read_inside(FrontEndSpec(frame=FRAME, zones=(SQUARE,)), None)
    assert inside is not None
    assert np.array_equal(inside, box(5, 6, 14, 12))


def test_zones_are_joined_where_they_overlap_too() -> None:
    other = ((10, 10), (20, 10), (20, 20), (10, 20))
    inside = read_inside(FrontEndSpec(frame=FRAME, zones=(SQUARE, other)), None)
    assert inside is not None
    assert np.array_equal(inside, box(5, 6, 14, 12) | box(10, 10, 20, 20))


def test_a_triangle_is_about_half_of_its_box() -> None:
    inside = read_inside(FrontEndSpec(frame=FRAME, zones=(((0, 0), (39, 0), (0, 29)),)), None)
    assert inside is not None
    assert inside.mean() == pytest.approx(0.5, abs=0.03)
    assert inside[0, 39]
    assert not inside[29, 39]


def test_the_mask_and_the_region_cut_zones(tmp_path: Path) -> None:
    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[8:, :] = 1  # anything but 0
    assert cv2.imwrite(str(tmp_path / "mask.png"), mask)
    spec = FrontEndSpec(
        frame=FRAME, zones=(SQUARE,), mask="mask.png", region=Region(left=4, top=2, width=8, height=20)
    )
    inside = read_inside(spec, tmp_path)
    assert inside is not None
    assert np.array_equal(inside, box(5, 8, 14, 12)[2:22, 4:12])


def test_a_zone_over_the_whole_region_is_none() -> None:
    spec = FrontEndSpec(frame=FRAME, zones=(SQUARE,), region=Region(left=5, top=6, width=10, height=7))
    assert read_inside(spec, None) is None


@pytest.mark.parametrize("region", [Region(left=20, top=20, width=20, height=10), None])
def test_nothing_left_to_look_at(tmp_path: Path, region: Region | None) -> None:
    assert cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((30, 40), dtype=np.uint8))
    mask = None if region is not None else "mask.png"
    spec = FrontEndSpec(frame=FRAME, zones=(SQUARE,), mask=mask, region=region)
    with pytest.raises(BundleError, match="leave nothing of the region to look at"):
        read_inside(spec, tmp_path)


def test_masks_that_cannot_be_read(tmp_path: Path) -> None:
    spec = FrontEndSpec(frame=FRAME, mask="mask.png")
    with pytest.raises(BundleError, match=r"needs mask.png of its bundle"):
        read_inside(spec, None)
    path = tmp_path / "mask.png"
    for data in (b"", b"no picture", b"\x89PNG\r\n\x1a\n"):
        path.write_bytes(data)
        with pytest.raises(BundleError, match=r"mask\.png cannot be decoded"):
            read_inside(spec, tmp_path)
    for wrong, said in (
        (np.ones((40, 30), np.uint8), "30x40 uint8"),
        (np.ones((30, 40, 3), np.uint8), "40x30x3 uint8"),
        (np.ones((30, 40), np.uint16), "40x30 uint16"),
    ):
        assert cv2.imwrite(str(path), wrong)
        with pytest.raises(BundleError, match=f"is {said}, expected grey 40x30 uint8"):
            read_inside(spec, tmp_path)


@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.integers(0, 2**31),
)
def test_a_pixel_of_the_map_is_judged_when_any_below_it_is(
    shape: tuple[int, int], size: tuple[int, int], seed: int
) -> None:
    """Two pixels touch when their areas do: counted here in units that both are whole numbers of."""
    inside = np.random.default_rng(seed).uniform(size=shape) < 0.2
    fine = np.repeat(np.repeat(inside, size[0], axis=0), size[1], axis=1)
    parts = fine.reshape(size[0], shape[0], size[1], shape[1])
    assert np.array_equal(touched(inside, size), parts.any(axis=(1, 3)))
