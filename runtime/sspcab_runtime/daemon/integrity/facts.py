"""What can be seen of a frame without knowing what it shows: cheap numbers, measured where it is captured."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_runtime.cache import write_atomically
from sspcab_runtime.daemon.messages import Facts

__all__ = ["FactsMeter", "sharpness"]

_LOG = logging.getLogger(__name__)

_WIDTH = 160
"""Of the grey copy."""
_CLIPPED = 250
_ROWS = 64
"""Rows of the frame at full resolution in which sharpness is measured."""
_SHIFT_EVERY = 15
_REFERENCE_VIEWS = 10
"""Views, one in so many frames as shifts are measured in, that the reference view is the median of."""
_STILL_VIEW = 0.01
"""Share of the width by which these may differ; where they differ by more, the scene itself moves."""
_SAME_VIEW = 0.08
"""Response of the phase correlation below which two views do not match at all."""

Grey = npt.NDArray[np.uint8]


class FactsMeter:
    """Measures frame after frame of one connection.

    Args:
        reference: File of the reference view, a grey (h, 160) uint8 array: read where it exists, else made
            of the first views that stay where they are. None measures no shift.
    """

    def __init__(self, reference: Path | None = None) -> None:
        self._file = reference
        self._reference = None if reference is None else _read(reference)
        self._first: list[Grey] = []
        self._moving = False
        self._before: Grey | None = None
        self._number = 0
        self._window: npt.NDArray[np.float32] | None = None

    def measure(self, pixels: npt.NDArray[np.uint8]) -> Facts:
        """Facts of the next frame, (H, W, 3) uint8 RGB."""
        small = _grey(pixels)
        mean, deviation = cv2.meanStdDev(small)
        change = None
        if self._before is not None and self._before.shape == small.shape:
            change = float(cv2.norm(small, self._before, cv2.NORM_L1)) / small.size
        self._before = small
        facts = Facts(
            luma=float(mean[0, 0]),
            contrast=float(deviation[0, 0]),
            clipped=float(np.count_nonzero(small >= _CLIPPED)) / small.size,
            sharpness=sharpness(pixels),
            change=change,
            shift=self._shift(small),
        )
        self._number += 1
        return facts

    def _shift(self, small: Grey) -> float | None:
        if self._file is None or self._number % _SHIFT_EVERY:
            return None
        if self._reference is None:
            self._learn(small)
            return None
        return self._between(self._reference, small)

    def _between(self, one: Grey, other: Grey) -> float | None:
        """Shift between two views as a share of the width; None where they do not match at all."""
        if one.shape != other.shape:
            return None
        if self._window is None or self._window.shape != one.shape:
            self._window = np.asarray(cv2.createHanningWindow(one.shape[::-1], cv2.CV_32F), np.float32)
        (x, y), response = cv2.phaseCorrelate(one.astype(np.float32), other.astype(np.float32), self._window)
        return float(np.hypot(x, y)) / one.shape[1] if response >= _SAME_VIEW else None

    def _learn(self, small: Grey) -> None:
        assert self._file is not None
        if self._number == 0:
            return  # exposure settles
        if self._first:
            shift = self._between(self._first[0], small)
            if shift is None or shift > _STILL_VIEW:
                self._first.clear()
                if not self._moving:
                    _LOG.warning("the scene itself moves: that the camera is moved cannot be seen")
                self._moving = True
                return
        self._first.append(small)
        if len(self._first) < _REFERENCE_VIEWS:
            return
        self._reference = np.median(np.stack(self._first), axis=0).astype(np.uint8)
        self._first.clear()
        try:
            write_atomically(self._file, _header(self._reference) + self._reference.tobytes())
        except OSError as error:
            _LOG.warning("the reference view cannot be kept: %s", error.strerror)


def sharpness(pixels: npt.NDArray[np.uint8]) -> float:
    """Energy of fine detail, as a share of all variation in the frame; light and contrast cancel out.

    Green only, in bands of rows at full resolution: mean square of the difference to the second next pixel's
    neighbour mean (a second difference), over the variance.
    """
    height = pixels.shape[0]
    step = max(1, height // _ROWS)
    rows = pixels[step // 2 :: step, :, 1].astype(np.int16)
    if rows.shape[1] < 3:
        return 0.0
    second = 2 * rows[:, 1:-1] - rows[:, :-2] - rows[:, 2:]
    variance = float(rows.var())
    return float(np.mean(np.square(second, dtype=np.float32))) / variance if variance > 1 else 0.0


def _grey(pixels: npt.NDArray[np.uint8]) -> Grey:
    """A grey copy, 160 pixels wide: every so many pixels first, then by area, which keeps it cheap."""
    height, width = pixels.shape[:2]
    step = max(1, width // (2 * _WIDTH))
    size = (_WIDTH, max(1, round(height * _WIDTH / width)))
    thinned = np.ascontiguousarray(pixels[::step, ::step])
    small = cv2.resize(thinned, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def _header(array: Grey) -> bytes:
    return np.array(array.shape, "<u2").tobytes()


def _read(file: Path) -> Grey | None:
    """The reference view; None where there is none that is whole."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    shape = tuple(np.frombuffer(data[:4], "<u2")) if len(data) >= 4 else (0, 0)
    if shape[1] != _WIDTH or len(data) != 4 + int(shape[0]) * _WIDTH:
        _LOG.warning("the reference view %s is damaged: a new one is made", file.name)
        return None
    return np.frombuffer(data, np.uint8, offset=4).reshape(int(shape[0]), _WIDTH)
