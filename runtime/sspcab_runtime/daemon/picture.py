"""The latest picture of a camera, with its heat map, for who looks at the page."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.protocols import ScoredObject, Verdict
from sspcab_runtime.daemon.status import Shown
from sspcab_runtime.overlay import draw_overlay

__all__ = ["LatestPicture", "Moment"]

_SIDE = 640
_QUALITY = 80
_LOOKED_AT = 6
"""Pictures that pages were told of lately: who has the page fetches them in a moment."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Which frame a picture is of, and what was so once it was judged.

    Attributes:
        frame: Its number since its capture began.
        wall_s: When it was taken.
        fault: Why it was not judged; empty where it was.
        alarm: Whether an alarm was open.
    """

    frame: int
    wall_s: float
    fault: str = ""
    alarm: bool = False


class _Picture:
    """One picture: the frame until somebody asks, then the JPEG."""

    def __init__(
        self,
        pixels: npt.NDArray[np.uint8],
        verdict: Verdict | None,
        heat: tuple[float, float] | None,
        shown: Shown,
    ) -> None:
        self._pixels: npt.NDArray[np.uint8] | None = pixels
        self._verdict, self._heat, self.shown = verdict, heat, shown
        self._lock = threading.Lock()
        self._jpeg: bytes | None = None

    def jpeg(self) -> bytes | None:
        """Drawn and compressed once; None where that cannot be done."""
        with self._lock:
            if self._jpeg is None and self._pixels is not None:
                drawn = self._pixels
                if self._verdict is not None:
                    drawn = draw_overlay(drawn, self._verdict, heat=self._heat)
                bgr = cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)
                done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
                self._jpeg = data.tobytes() if done else None
                self._pixels = self._verdict = None
            return self._jpeg


def _smaller(one: ScoredObject, step: int) -> ScoredObject:
    """An object in a picture that has every so many pixels."""
    left, top, right, bottom = one.box
    return ScoredObject((left // step, top // step, -(-right // step), -(-bottom // step)), one.score)


class LatestPicture:
    """Kept small by the supervisor, drawn and compressed by whoever asks, once per picture.

    Args:
        every_s: Pictures that follow sooner are not kept.
    """

    def __init__(self, every_s: float = 0.5) -> None:
        self._every_s = every_s
        self._kept_s = float("-inf")
        self._number = 0
        self._latest: _Picture | None = None
        self._looked_at: deque[_Picture] = deque(maxlen=_LOOKED_AT)

    def keep(
        self,
        pixels: npt.NDArray[np.uint8],
        verdict: Verdict | None,
        heat: tuple[float, float] | None,
        moment: Moment,
        now: float,
    ) -> None:
        """Remember a frame, (H, W, 3) uint8 RGB, as of monotonic time ``now``; arrays are copied.

        Without a verdict it is shown as it is.
        """
        if now - self._kept_s < self._every_s:
            return
        self._kept_s = now
        self._number += 1
        height, width = pixels.shape[:2]
        step = max(1, -(-max(height, width) // _SIDE))
        small = pixels[::step, ::step].copy()  # the slot is somebody else's soon
        if verdict is not None and verdict.map is not None:
            verdict = replace(verdict, map=verdict.map.copy())
        if verdict is not None and verdict.objects:
            verdict = replace(verdict, objects=tuple(_smaller(one, step) for one in verdict.objects))
        shown = Shown(
            picture=self._number,
            frame=moment.frame,
            wall_s=moment.wall_s,
            score=None if verdict is None else verdict.score,
            threshold=None if verdict is None else verdict.threshold,
            anomalous=None if verdict is None else verdict.anomalous,
            fault=moment.fault,
            alarm=moment.alarm,
        )
        self._latest = _Picture(small, verdict, heat, shown)

    def show(self) -> Shown | None:
        """What is said beside the latest picture, which stays for a moment; None while there is none."""
        latest = self._latest
        if latest is None:
            return None
        if latest not in tuple(self._looked_at):
            self._looked_at.append(latest)
        return latest.shown

    def jpeg(self, number: int | None = None) -> bytes | None:
        """The latest picture as JPEG, or the one that was shown by that number; None: it is not kept.

        From any thread.
        """
        found = self._latest
        if number is not None and (found is None or found.shown.picture != number):
            found = next((one for one in tuple(self._looked_at) if one.shown.picture == number), None)
        return None if found is None else found.jpeg()
