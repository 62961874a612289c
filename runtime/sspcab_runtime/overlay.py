"""Verdicts drawn on their pictures, and many of them on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.manifest import Decision
from sspcab_edge.protocols import Verdict
from sspcab_runtime.tables import apart

__all__ = ["Tile", "contact_sheet", "draw_boxes", "draw_overlay", "heat_range", "thumbnail"]

Pixels = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

_MIN_WIDTH, _MAX_WIDTH, _MAX_HEIGHT = 360, 1280, 1600
_STRONGEST_HEAT = 0.65
_RED: Colour = (176, 32, 32)
_GREEN: Colour = (24, 110, 60)
_GREY: Colour = (80, 80, 80)
_WHITE: Colour = (255, 255, 255)
_INK: Colour = (30, 30, 30)
_PAPER: Colour = (245, 245, 245)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GAP = 10


def heat_range(decision: Decision, threshold: float | None) -> tuple[float, float] | None:
    """Values of the map without heat and with full heat, the same for every picture of a bundle.

    From the median score of normal pictures (0 where it is not known), as far above the threshold as that
    is below it. None where there is no threshold, or it is not above that.
    """
    normal = 0.0 if decision.normal is None else decision.normal.median
    if threshold is None or threshold <= normal:
        return None
    return normal, 2 * threshold - normal


def draw_overlay(pixels: Pixels, verdict: Verdict, *, heat: tuple[float, float] | None = None) -> Pixels:
    """A picture with its score map as heat or its objects in boxes, below a banner with the verdict.

    Args:
        pixels: (H, W, 3) uint8 RGB, the frame as it was judged.
        verdict: Its verdict.
        heat: Values of the map that are transparent and that have full heat: see :func:`heat_range`. None
            takes the map's own minimum and maximum, which makes even a harmless picture glow somewhere.
            Given, a line is drawn around what is in its upper half: above the threshold.

    Returns:
        (H', W', 3) uint8 RGB, 360 to 1280 pixels wide; what is tall and narrow gets margins.
    """
    height, width = pixels.shape[:2]
    factor = min(max(1.0, _MIN_WIDTH / width), _MAX_WIDTH / width, _MAX_HEIGHT / height)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    picture = np.asarray(cv2.resize(pixels, size, interpolation=method), dtype=np.uint8)
    if verdict.map is not None:
        values = np.nan_to_num(verdict.map)
        low, high = (float(values.min()), float(values.max())) if heat is None else heat
        share = _share(values, low, high, size)
        picture = _blend_heat(picture, share)
        if heat is not None:
            _outline(picture, share)
    if verdict.objects:
        draw_boxes(picture, verdict, factor)
    margin = max(0, _MIN_WIDTH - picture.shape[1])
    picture = np.pad(picture, ((0, 0), (margin // 2, margin - margin // 2), (0, 0)))
    return np.vstack([_banner(verdict, picture.shape[1]), picture])


def draw_boxes(picture: Pixels, verdict: Verdict, factor: float = 1.0) -> None:
    """Draw the objects of a verdict, in place: red above the threshold, with its score; else green.

    Args:
        picture: (H, W, 3) uint8 RGB.
        verdict: With objects.
        factor: How many times larger the picture is than the frame that boxes are pixels of.
    """
    for one in reversed(verdict.objects or ()):  # the worst is drawn last, above the others
        left, top, right, bottom = (round(side * factor) for side in one.box)
        worst = verdict.threshold is not None and one.score > verdict.threshold
        colour = _GREY if verdict.threshold is None else _RED if worst else _GREEN
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), _WHITE, 3)
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), colour, 2)
        if worst or verdict.threshold is None:
            text = apart(one.score, verdict.threshold)[0]
            width, height = _text_size(text, 0.45, 1)
            above = top - 4 if top - height - 8 >= 0 else min(bottom + height + 6, picture.shape[0] - 2)
            place = (max(0, min(left, picture.shape[1] - width - 2)), above)
            cv2.rectangle(
                picture, (place[0], above - height - 4), (place[0] + width + 3, above + 4), colour, cv2.FILLED
            )
            _write(picture, text, (place[0] + 2, above), 0.45, _WHITE, 1)


def _share(
    values: npt.NDArray[np.float32], low: float, high: float, size: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """How far each pixel is from ``low`` to ``high``, 0 to 1, at (width, height) ``size``."""
    share = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    return np.asarray(cv2.resize(share, size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _blend_heat(picture: Pixels, share: npt.NDArray[np.float32]) -> Pixels:
    levels = np.asarray(np.rint(share * 255), dtype=np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[..., ::-1].astype(np.float32)
    weight = (share * _STRONGEST_HEAT)[..., None]
    return np.asarray(np.rint(picture * (1 - weight) + colours * weight), dtype=np.uint8)


def _outline(picture: Pixels, share: npt.NDArray[np.float32]) -> None:
    """Draw a line around the upper half of the range, black and white so that it shows on any surface."""
    above = np.asarray(share >= 0.5, dtype=np.uint8)
    contours, _ = cv2.findContours(above, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, _INK, 3, cv2.LINE_AA)
    cv2.drawContours(picture, contours, -1, _WHITE, 1, cv2.LINE_AA)


def _banner(verdict: Verdict, width: int) -> Pixels:
    """Verdict on the left, figures on the right; in two lines where one is too narrow."""
    if verdict.score is None:
        colour, word = _GREY, "WARMING UP"
    elif verdict.anomalous is None:
        colour, word = _GREY, "NO THRESHOLD"
    else:
        colour, word = (_RED, "ANOMALOUS") if verdict.anomalous else (_GREEN, "NORMAL")
    score, threshold = apart(verdict.score, verdict.threshold)
    figures = "" if verdict.score is None else f"score {score}"
    if verdict.threshold is not None:
        figures += f"  threshold {threshold}"
    scale = min(max(width / 900, 0.55), 1.0)
    word_size, line = _text_size(word, scale, 2)
    figures_size, _ = _text_size(figures, scale, 1)
    row = line + 2 * _GAP
    one_line = word_size + figures_size + 3 * _GAP <= width
    banner = np.full((row if one_line else row + line + _GAP, width, 3), colour, dtype=np.uint8)
    _write(banner, word, (_GAP, _GAP + line), scale, _WHITE, 2)
    place = (width - figures_size - _GAP, _GAP + line) if one_line else (_GAP, row + line)
    _write(banner, figures, place, scale, _WHITE, 1)
    return banner


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of a sheet, (h, w, 3) uint8 RGB, and what is written below it."""

    pixels: Pixels
    caption: str


def thumbnail(pixels: Pixels, side: int = 360) -> Pixels:
    """The picture at most ``side`` pixels wide and high, never enlarged."""
    factor = min(1.0, side / max(pixels.shape[:2]))
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def contact_sheet(tiles: Sequence[Tile], *, columns: int | None = None, side: int = 360) -> Pixels:
    """Many overlays on one picture, with captions, row by row.

    Args:
        tiles: At least one; each is shrunk to ``side`` where it is larger.
        columns: Tiles in a row; by default so that the sheet is about 4:3.
        side: Width of a cell, and its greatest height, in pixels.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: There are no tiles.
    """
    if not tiles:
        raise ValueError("a contact sheet needs at least one tile")
    small = [thumbnail(tile.pixels, side) for tile in tiles]
    cell = max(picture.shape[0] for picture in small)
    scale = 0.5
    _, line = _text_size("Ag", scale, 1)
    row_height = cell + line + 2 * _GAP
    if columns is None:
        columns = max(1, round((len(small) * 4 / 3 * row_height / (side + _GAP)) ** 0.5))
    columns = min(columns, len(small))
    rows = -(-len(small) // columns)
    shape = (_GAP + rows * (row_height + _GAP), _GAP + columns * (side + _GAP), 3)
    sheet = np.full(shape, _PAPER, dtype=np.uint8)
    for position, (picture, tile) in enumerate(zip(small, tiles, strict=True)):
        top = _GAP + position // columns * (row_height + _GAP)
        left = _GAP + position % columns * (side + _GAP)
        inset = (side - picture.shape[1]) // 2
        sheet[top : top + picture.shape[0], left + inset : left + inset + picture.shape[1]] = picture
        caption = _shorten(tile.caption, side, scale)
        _write(sheet, caption, (left, top + cell + _GAP + line), scale, _INK, 1)
    return sheet


def _shorten(text: str, width: int, scale: float) -> str:
    """The end of a text that is too wide: of a path, what tells it apart."""
    shown = text
    while shown and _text_size(shown, scale, 1)[0] > width:
        shown = "..." + shown.removeprefix("...")[1:]
        if shown == "...":
            break
    return shown


def _text_size(text: str, scale: float, thickness: int) -> tuple[int, int]:
    """(width, height) of a line in pixels."""
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    return width, height


def _write(
    canvas: Pixels, text: str, place: tuple[int, int], scale: float, colour: Colour, thickness: int
) -> None:
    """Draw one line, its lower left corner at ``place`` (x, y); OpenCV's font knows ASCII only."""
    ascii_only = text.encode("ascii", "replace").decode()
    cv2.putText(canvas, ascii_only, place, _FONT, scale, colour, thickness, cv2.LINE_AA)
