"""The latest picture of a camera, with its heat map, for who looks at the page."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.protocols import ScoredObject, Verdict
from sspcab_runtime.overlay import draw_overlay

__all__ = ["LatestPicture"]

_SIDE = 640
_QUALITY = 80


@dataclass(frozen=True)
class _Latest:
    pixels: npt.NDArray[np.uint8]
    verdict: Verdict | None
    heat: tuple[float, float] | None


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
        self._lock = threading.Lock()
        self._latest: _Latest | None = None
        self._jpeg: bytes | None = None

    def keep(
        self,
        pixels: npt.NDArray[np.uint8],
        verdict: Verdict | None,
        heat: tuple[float, float] | None,
        now: float,
    ) -> None:
        """Remember a frame, (H, W, 3) uint8 RGB, as of monotonic time ``now``; arrays are copied.

        Without a verdict it is shown as it is.
        """
        if now - self._kept_s < self._every_s:
            return
        self._kept_s = now
        height, width = pixels.shape[:2]
        step = max(1, -(-max(height, width) // _SIDE))
        small = pixels[::step, ::step].copy()  # the slot is somebody else's soon
        if verdict is not None and verdict.map is not None:
            verdict = replace(verdict, map=verdict.map.copy())
        if verdict is not None and verdict.objects:
            verdict = replace(verdict, objects=tuple(_smaller(one, step) for one in verdict.objects))
        latest = _Latest(small, verdict, heat)
        with self._lock:
            self._latest, self._jpeg = latest, None

    def jpeg(self) -> bytes | None:
        """The picture as JPEG; None while there is none. From any thread."""
        with self._lock:
            latest, jpeg = self._latest, self._jpeg
        if latest is None or jpeg is not None:
            return jpeg
        drawn = latest.pixels
        if latest.verdict is not None:
            drawn = draw_overlay(latest.pixels, latest.verdict, heat=latest.heat)
        done, data = cv2.imencode(
            ".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
        )
        if not done:
            return None
        jpeg = data.tobytes()
        with self._lock:
            if self._latest is latest:
                self._jpeg = jpeg
        return jpeg
