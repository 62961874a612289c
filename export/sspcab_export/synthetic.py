"""Entries of no scene for hosts that look at time: built-in pictures in motion, foreign motion, extremes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.ports import Entry, Port
from sspcab_export.pictures import builtin_samples
from sspcab_export.precision.activations import stress_frames

__all__ = ["builtin_entries", "foreign_entries", "stress_entries"]

_FOREIGN = 16
_FASTER = 4.0
_FASTEST = 64.0


def builtin_entries(ports: Sequence[Port], seed: int = 0) -> list[Entry]:
    """For every built-in picture one entry: a window of it that moves, and the flow of that motion."""
    rng = np.random.default_rng(seed)
    return [_moving(sample.pixels(), ports, rng.uniform(-3, 3, 2), rng) for sample in builtin_samples()]


def foreign_entries(entries: Sequence[Entry]) -> list[Entry]:
    """Some entries, made what a normal scene does not show: negatives, backwards, four times as fast."""
    chosen = [entries[n] for n in np.linspace(0, len(entries) - 1, min(_FOREIGN, len(entries))).astype(int)]
    foreign: list[Entry] = []
    for entry in chosen:
        changed = {}
        for name, array in entry.items():
            turned = 255 - array[::-1] if array.dtype == np.uint8 else array[::-1] * np.float32(-_FASTER)
            changed[name] = np.ascontiguousarray(turned, array.dtype)
        foreign.append(changed)
    return foreign


def stress_entries(ports: Sequence[Port], seed: int = 0) -> list[Entry]:
    """Entries at the edge of what a camera gives: see :func:`stress_frames`; flow from none to very fast."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in ports[0].shape[2:4])
    entries: list[Entry] = []
    for number, frame in enumerate(stress_frames(height, width)):
        speed = np.float32(_FASTEST * number / 4)
        entry = {}
        for port in ports:
            shape = tuple(int(size) for size in port.shape[1:])
            if port.dtype == "uint8":
                entry[port.name] = np.broadcast_to(frame, shape).copy()
            else:
                entry[port.name] = (rng.standard_normal(shape) * speed).astype(np.float32)
        entries.append(entry)
    return entries


def _moving(
    picture: npt.NDArray[np.uint8],
    ports: Sequence[Port],
    speed: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> Entry:
    entry = {}
    middle = np.array(picture.shape[1::-1]) / 2
    for port in ports:
        height, width = (int(side) for side in port.shape[2:4])
        if port.dtype == "uint8":
            views = [
                cv2.getRectSubPix(picture, (width, height), tuple(middle + speed * t)) for t in port.window
            ]
            entry[port.name] = np.stack(views).astype(np.uint8)
        else:
            steps = np.array([second - first for first, second in port.pairs], np.float64)
            exact = -speed[None, :] * steps[:, None] * port.scale
            noise = rng.normal(0, 0.1, (len(steps), height, width, 2))
            entry[port.name] = (exact[:, None, None, :] + noise).astype(np.float32)
    return entry
