"""Shift and turn between two pictures from their spectra: rough, but from anywhere.

Phase correlation (Kuglin and Hines 1975): a shift is a linear phase between two spectra, so the inverse
transform of their phase difference has a peak there. A turn of a picture turns the magnitudes of its spectrum
and a shift leaves them alone (Reddy and Chatterji 1996), so the turn is found first, along the angle axis of
the magnitudes in polar form.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["ANGLE_STEP", "shift_between", "spectrum", "turns_between", "wheel"]

Floats = npt.NDArray[np.float32]

ANGLE_STEP = 0.5
"""Degrees between two rows of a wheel."""

_ROWS = round(180 / ANGLE_STEP)
_CUT = 0.175
"""Width of the low-pass filter on phases, in cycles per pixel: what is finer is mostly noise."""


def spectrum(picture: Floats) -> npt.NDArray[np.complexfloating]:
    """Half of the Fourier transform of a picture (h, w) that fades out towards its borders."""
    return np.asarray(np.fft.rfft2(_faded(picture)))


def shift_between(
    reference: npt.NDArray[np.complexfloating],
    other: npt.NDArray[np.complexfloating],
    shape: tuple[int, int],
    limit: float | None,
) -> tuple[int, int, float]:
    """How far ``other`` is shifted: pixels to the right, pixels downwards, and how clearly.

    Args:
        reference: :func:`spectrum` of the one picture.
        other: Of the other one.
        shape: (h, w) of both.
        limit: Most pixels along each axis; None takes any shift.

    Returns:
        The place of the peak, and its height: 1 for a picture and itself, near 0 for strangers.
    """
    height, width = shape
    cross = other * np.conj(reference)
    magnitude = np.abs(cross)
    phases = cross / np.maximum(magnitude, magnitude.max() * 1e-6 + 1e-12)
    keep = _low_pass(height, width)
    peaks = np.fft.irfft2(phases * keep, s=shape)
    right, down = np.fft.fftfreq(width, 1 / width), np.fft.fftfreq(height, 1 / height)
    if limit is not None:
        allowed = (np.abs(down) <= limit)[:, None] & (np.abs(right) <= limit)
        peaks = np.where(allowed, peaks, -np.inf)
    row, column = np.unravel_index(int(np.argmax(peaks)), shape)
    strength = float(peaks[row, column]) / float(np.fft.irfft2(keep, s=shape)[0, 0])
    return round(right[column]), round(down[row]), strength


def wheel(picture: Floats) -> Floats:
    """Magnitudes of a picture's spectrum by direction: (360, n) float32, a row each :data:`ANGLE_STEP`.

    Half a turn is enough: the magnitudes of the other half are the same. The lowest and highest
    frequencies, which tell of lighting and noise, are left out; each column's mean is 0.
    """
    side = max(picture.shape)
    square = np.zeros((side, side), dtype=np.float32)
    square[: picture.shape[0], : picture.shape[1]] = _faded(picture)
    magnitudes = np.log1p(np.abs(np.fft.fftshift(np.fft.fft2(square)))).astype(np.float32)
    radius = side // 2
    polar = cv2.warpPolar(
        magnitudes,
        (radius, 2 * _ROWS),
        (side // 2, side // 2),
        radius,
        cv2.WARP_POLAR_LINEAR | cv2.INTER_LINEAR,
    )
    rows = (polar[:_ROWS] + polar[_ROWS:])[:, side // 32 : radius * 3 // 4]
    return np.asarray(rows - rows.mean(axis=0), dtype=np.float32)


def turns_between(reference: Floats, other: Floats, limit: float | None, most: int) -> list[float]:
    """By how many degrees ``other`` may be turned clockwise, likeliest first; each within (-90, 90].

    Args:
        reference: :func:`wheel` of the one picture.
        other: Of the other one.
        limit: Most degrees to either side; None takes any.
        most: How many to give. They are three degrees apart or more.
    """
    phases = np.fft.rfft(other, axis=0) * np.conj(np.fft.rfft(reference, axis=0))
    likely = np.fft.irfft(phases.sum(axis=1), n=_ROWS)
    angles = np.arange(_ROWS) * ANGLE_STEP
    angles = np.where(angles > 90, angles - 180, angles)
    if limit is not None:
        likely = np.where(np.abs(angles) <= limit, likely, -np.inf)
    found: list[float] = []
    while len(found) < most and np.isfinite(likely).any():
        best = float(angles[int(np.argmax(likely))])
        found.append(best)
        apart = np.abs((angles - best + 90) % 180 - 90)
        likely = np.where(apart < 3, -np.inf, likely)
    return found


def _faded(picture: Floats) -> Floats:
    height, width = picture.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    return np.asarray(picture * window, dtype=np.float32)


def _low_pass(height: int, width: int) -> npt.NDArray[np.float64]:
    down, right = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    return np.asarray(np.exp(-(down**2 + right**2) / (2 * _CUT**2)))
