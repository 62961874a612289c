"""Overlays and contact sheets, looked at by their pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.decision import quantiles
from sspcab_edge.errors import OutputError
from sspcab_edge.manifest import Decision
from sspcab_edge.protocols import Frame, Verdict
from sspcab_runtime.overlay import Tile, contact_sheet, draw_overlay, heat_range, thumbnail
from sspcab_runtime.pipeline import Result
from sspcab_runtime.saving import OverlayFolder
from sspcab_runtime.tables import apart

Pixels = npt.NDArray[np.uint8]

GREY = np.full((200, 400, 3), 90, dtype=np.uint8)
SPOT = np.zeros((20, 40), dtype=np.float32)
SPOT[5:8, 30:33] = 0.9


def banner_colour(overlay: Pixels) -> tuple[int, ...]:
    return tuple(int(value) for value in overlay[1, 1])


@pytest.mark.parametrize(
    ("verdict", "colour"),
    [
        (Verdict(0.9, 0.5, True, SPOT), "red"),
        (Verdict(0.1, 0.5, False, SPOT), "green"),
        (Verdict(0.1, None, None, SPOT), "grey"),
        (Verdict(None, 0.5, None), "grey"),
    ],
)
def test_the_banner_says_the_verdict(verdict: Verdict, colour: str) -> None:
    overlay = draw_overlay(GREY, verdict)
    assert overlay.dtype == np.uint8
    assert overlay.shape[1:] == (400, 3)
    assert 220 <= overlay.shape[0] <= 280, "the picture, whole, below a banner"
    red, green, _blue = banner_colour(overlay)
    seen = "red" if red > green + 50 else "green" if green > red + 50 else "grey"
    assert seen == colour
    banner = overlay[: overlay.shape[0] - 200]
    assert (banner == 255).all(axis=2).sum() > 100, "with something written on it"


def test_heat_lies_where_the_map_is_high_and_nowhere_else() -> None:
    overlay = draw_overlay(GREY, Verdict(0.9, 0.5, True, SPOT))
    picture = overlay[-200:]
    changed = (picture != GREY).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert 40 <= rows.min() < 55
    assert 75 < rows.max() <= 90
    assert 290 <= columns.min() < 305
    assert 325 < columns.max() <= 340
    centre = picture[65, 315].astype(int)
    assert centre[0] > centre[2] + 40, "hot is red"


def test_heat_can_be_compared_between_pictures_of_one_bundle() -> None:
    heat = heat_range(Decision(threshold=0.5, policy="given"), 0.5)
    assert heat == (0.0, 1.0)
    faint = draw_overlay(GREY, Verdict(0.05, 0.5, False, SPOT * 0.05), heat=heat)[-200:]
    strong = draw_overlay(GREY, Verdict(0.9, 0.5, True, SPOT), heat=heat)[-200:]
    assert np.abs(faint.astype(int) - GREY).max() < 15 < np.abs(strong.astype(int) - GREY).max()
    alone = draw_overlay(GREY, Verdict(0.05, None, None, SPOT * 0.05))[-200:]
    assert np.abs(alone.astype(int) - GREY).max() > 40, "on its own it is relative"


def test_what_is_normal_for_a_bundle_has_no_heat() -> None:
    """Seen with a weak detector, whose maps are 0.473 everywhere: a green veil over every picture."""
    normal = quantiles([0.4728, 0.473, 0.4732])
    decision = Decision(threshold=0.4735, policy="given", normal=normal)
    heat = heat_range(decision, decision.threshold)
    assert heat == pytest.approx((0.473, 0.474))
    veil = np.full((20, 40), 0.473, dtype=np.float32)
    assert np.array_equal(draw_overlay(GREY, Verdict(0.473, 0.4735, False, veil), heat=heat)[-200:], GREY)
    spot = np.where(SPOT > 0, np.float32(0.4742), veil)
    picture = draw_overlay(GREY, Verdict(0.4742, 0.4735, True, spot), heat=heat)[-200:]
    assert np.abs(picture.astype(int) - GREY).max() > 60
    line = (picture > 200).all(axis=2)
    rows, columns = np.nonzero(line)
    assert line.sum() > 40, "around what is above the threshold"
    assert rows.min() >= 40
    assert rows.max() <= 90
    assert columns.min() >= 290
    assert columns.max() <= 340


@pytest.mark.parametrize(("threshold", "median"), [(None, 0.1), (0.1, 0.2), (-0.5, None), (0.0, None)])
def test_without_a_range_heat_is_relative(threshold: float | None, median: float | None) -> None:
    normal = None if median is None else quantiles([median])
    assert heat_range(Decision(threshold=threshold, policy="given", normal=normal), threshold) is None


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        (0.81, 0.35, ("0.81", "0.35")),
        (0.47312, 0.47308, ("0.47312", "0.47308")),
        (0.5, 0.5, ("0.5", "0.5")),
        (0.5, None, ("0.5", "-")),
        (0.1, 0.1 + 2e-17, ("0.10000000000000001", "0.10000000000000002")),
        (1.0, 1.0 + 1e-12, ("1", "1.000000000001")),
    ],
)
def test_numbers_that_differ_look_different(
    first: float | None, second: float | None, shown: tuple[str, str]
) -> None:
    assert apart(first, second) == shown


@pytest.mark.parametrize("top", [SPOT * 0, SPOT * np.nan])
def test_maps_without_anything_in_them(top: npt.NDArray[np.float32]) -> None:
    overlay = draw_overlay(GREY, Verdict(0.0, None, None, top))
    assert np.array_equal(overlay[-200:], GREY)


@pytest.mark.parametrize(
    ("size", "width"), [((8, 8), 360), ((2000, 4000), 1280), ((5000, 10), 360), ((1, 5000), 1280)]
)
def test_overlays_are_legible_at_any_size(size: tuple[int, int], width: int) -> None:
    overlay = draw_overlay(np.zeros((*size, 3), np.uint8), Verdict(12345.678, -0.000325, True, SPOT))
    assert overlay.shape[1] == width
    assert overlay.shape[0] <= 1800


def test_a_sheet_has_a_cell_per_tile() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]
    tiles = [Tile(np.full((60, 90, 3), c, np.uint8), f"folder/{i}.png") for i, c in enumerate(colours)]
    sheet = contact_sheet(tiles, columns=2, side=100)
    centres = {}
    for colour in colours:
        rows, columns = np.nonzero((sheet == colour).all(axis=2))
        assert len(rows) == 60 * 90, "whole"
        centres[colour] = (rows.mean(), columns.mean())
    ordered = sorted(centres, key=lambda c: (round(centres[c][0]), centres[c][1]))
    assert ordered == colours, "row by row, left to right"
    last = sheet[int(centres[colours[4]][0]) + 30 :, 120:]
    assert (last == 245).all(), "the sixth cell is empty"


def test_captions_stay_in_their_cell() -> None:
    tile = Tile(np.zeros((50, 100, 3), np.uint8), "a/very/long/path/" * 20 + "\N{SNOWMAN}.png")
    sheet = contact_sheet([tile, tile], columns=2, side=100)
    gap = sheet[:, 110:120]
    assert (gap == 245).all(), "nothing is written between the cells"
    assert (sheet[60:, :110] < 200).any(), "and something is below the picture"


def test_a_sheet_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least one tile"):
        contact_sheet([])


def test_thumbnails_only_shrink() -> None:
    assert thumbnail(np.zeros((10, 20, 3), np.uint8), 100).shape == (10, 20, 3)
    assert thumbnail(np.zeros((1000, 20, 3), np.uint8), 100).shape == (100, 2, 3)


def result(index: int, path: str | None) -> Result:
    frame = Frame(np.full((30, 40, 3), index % 256, np.uint8), index, "made", 0.0, 0.0, path=path)
    return Result(frame, Verdict(0.1, 0.5, False), 1.0, {})


def test_overlays_are_written_beside_a_sheet(tmp_path: Path) -> None:
    overlays = OverlayFolder(tmp_path / "new" / "folder")
    for index in range(3):
        path = overlays.save(result(index, f"/data/broken/same{index % 2}.png"))
        assert path.name == f"{index:06d}_same{index % 2}.png"
        assert cv2.imread(str(path)) is not None
    sheet = overlays.write_sheet()
    assert sheet == tmp_path / "new/folder/contact_sheet.png"
    assert cv2.imread(str(sheet)) is not None
    assert len(list(overlays.folder.iterdir())) == 4


def test_a_sheet_of_a_long_video_is_bounded_and_spread(tmp_path: Path) -> None:
    overlays = OverlayFolder(tmp_path)
    for index in range(200):
        overlays._keep(Tile(np.zeros((1, 1, 3), np.uint8), str(index)))
        assert len(overlays._tiles) <= 48
    kept = [int(tile.caption) for tile in overlays._tiles]
    assert kept == list(range(0, 200, 8))


def test_a_folder_that_cannot_be_made_or_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot make the folder"):
        OverlayFolder(tmp_path / "file")
    overlays = OverlayFolder(tmp_path / "folder")
    assert overlays.write_sheet() is None
    (tmp_path / "folder").rmdir()
    with pytest.raises(OutputError, match="cannot write"):
        overlays.save(result(0, None))
