"""The pictures of an evaluation that are worth looking at, drawn on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_runtime.detector import Detector
from sspcab_runtime.evaluation import Evaluation, Judged
from sspcab_runtime.overlay import Tile, contact_sheet, draw_overlay, heat_range, thumbnail
from sspcab_runtime.pipeline import Failure
from sspcab_runtime.sources.pictures import Pictures

__all__ = ["WorstCases", "draw_worst_cases", "worst_cases"]

MOST = 24
"""Pictures on a sheet."""

_PAPER, _INK = (245, 245, 245), (30, 30, 30)
_TITLE_HEIGHT, _TITLE_SCALE = 44, 0.7


@dataclass(frozen=True, slots=True)
class WorstCases:
    """Pictures to look at, and what they have in common.

    Attributes:
        title: In words.
        cases: Each picture with what is wrong with it, at most :data:`MOST`.
    """

    title: str
    cases: tuple[tuple[Judged, str], ...]


def worst_cases(evaluation: Evaluation) -> WorstCases:
    """The missed pictures with the lowest scores, then the false alarms with the highest.

    Where nothing is wrong: those nearest to the threshold. Without a threshold: the anomalous pictures with
    the lowest scores and the normal ones with the highest.
    """
    pictures = evaluation.pictures
    low = sorted((p for p in pictures if p.label and not p.anomalous), key=lambda p: p.score)
    high = sorted((p for p in pictures if not p.label and p.anomalous is not False), key=lambda p: -p.score)
    threshold = evaluation.threshold
    if threshold is None:
        shown = _share_out([(p, "anomalous") for p in low], [(p, "normal") for p in high])
        return WorstCases("No threshold: the lowest anomalous and the highest normal scores", shown)
    if not low and not high:
        nearest = sorted(pictures, key=lambda p: abs(p.score - threshold))[:MOST]
        named = tuple((p, "anomalous" if p.label else "normal") for p in nearest)
        return WorstCases("None is wrong: the pictures nearest to the threshold", named)
    shown = _share_out([(p, "missed") for p in low], [(p, "false alarm") for p in high])
    return WorstCases(f"Wrong: missed {len(low)}, false alarms {len(high)}", shown)


def _share_out(
    first: Sequence[tuple[Judged, str]], second: Sequence[tuple[Judged, str]]
) -> tuple[tuple[Judged, str], ...]:
    """The beginnings of both, as equally long as they can be; all of the first before all of the second."""
    turns = [case for pair in zip_longest(first, second) for case in pair if case is not None][:MOST]
    chosen = {case[0].path for case in turns}
    return tuple(case for case in (*first, *second) if case[0].path in chosen)


def draw_worst_cases(detector: Detector, worst: WorstCases) -> npt.NDArray[np.uint8]:
    """A sheet (H, W, 3) uint8 RGB of overlays, below its title. The pictures are judged once more for it.

    Raises:
        PictureError: One can no longer be decoded.
        EngineError: The engine failed.
    """
    heat = heat_range(detector.bundle.manifest.decision, detector.threshold)
    tiles = []
    paths = [picture.path for picture, _ in worst.cases]
    with closing(Pictures("worst cases", paths)) as source, closing(detector.stream(source)) as results:
        for result, (picture, what) in zip(results, worst.cases, strict=True):
            if isinstance(result, Failure):
                raise result.error
            overlay = draw_overlay(result.frame.pixels, result.verdict, heat=heat)
            tiles.append(Tile(thumbnail(overlay), f"{picture.name} ({what})"))
    sheet = contact_sheet(tiles)
    return np.vstack([_title(worst.title, sheet.shape[1]), sheet])


def _title(text: str, width: int) -> npt.NDArray[np.uint8]:
    strip = np.full((_TITLE_HEIGHT, width, 3), _PAPER, dtype=np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    (needed, line), _ = cv2.getTextSize(text, font, _TITLE_SCALE, 1)
    scale = min(_TITLE_SCALE, _TITLE_SCALE * (width - 20) / needed)
    cv2.putText(strip, text, (10, (_TITLE_HEIGHT + line) // 2), font, scale, _INK, 1, cv2.LINE_AA)
    return strip
