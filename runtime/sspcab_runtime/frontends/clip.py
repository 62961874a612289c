"""The front-end for hosts that look at several frames at once: the last T of them, as one clip."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sspcab_edge.decision import is_anomalous
from sspcab_edge.manifest import Artifact, Manifest
from sspcab_edge.ports import Array
from sspcab_edge.preprocess import prepare
from sspcab_edge.protocols import Frame, Request, Verdict
from sspcab_runtime.frontends.keeping import kept
from sspcab_runtime.frontends.scores import on_source_scale
from sspcab_runtime.frontends.view import open_view

__all__ = ["Clip"]


class Clip:
    """One frame in, one verdict out, of the clip that ends with it; without score until there are T frames.

    A frame of another size than the one before it begins a new clip.

    Args:
        manifest: Of the bundle; its port ``frames`` says how long a clip is.
        artifact: Says how its scores are mapped onto the source's scale.
        threshold: On the source's scale, or None for scores without labels.
        folder: The bundle's, where the front-end has a reference.

    Raises:
        BundleError: A picture of the front-end cannot be read.
    """

    remembers = True

    def __init__(
        self, manifest: Manifest, artifact: Artifact, threshold: float | None, folder: Path | None = None
    ) -> None:
        (port,) = manifest.inputs
        self.length = int(port.shape[1])
        self.preprocess = manifest.preprocess
        self.score_map = artifact.score_map
        self.threshold = threshold
        self.view = open_view(manifest.front_end, folder)
        self._ring: deque[npt.NDArray[np.uint8]] = deque(maxlen=self.length)
        self._shape: tuple[int, ...] | None = None

    def push(self, frame: Frame) -> Request:
        """``frames``: (1, T, height, width, 3) uint8 RGB, oldest first; nothing while there are fewer.

        Raises:
            InputError: The frame is not (H, W, 3) uint8.
            RegistrationError: The frame does not show the scene where it should be.
        """
        pixels = frame.pixels if self.view is None else self.view.cut(frame)[0]
        small = prepare(pixels, self.preprocess)
        if frame.pixels.shape != self._shape:
            self.reset()
            self._shape = frame.pixels.shape
        self._ring.append(kept(small, frame))
        if len(self._ring) < self.length:
            return Request({})
        return Request({"frames": np.stack(self._ring)[None]})

    def merge(self, outputs: Mapping[str, Array], context: object = None) -> Verdict:
        """The verdict of one clip from ``score`` (1,) and, where the host localises, ``map`` (1, h, w).

        Raises:
            EngineError: The score is not finite; no threshold could judge it.
        """
        if not outputs:
            return Verdict(score=None, threshold=self.threshold, anomalous=None)
        score = float(on_source_scale(self.score_map, outputs["score"])[0])
        heat = outputs.get("map")
        placed = None if heat is None else np.asarray(heat[0], dtype=np.float32)
        if placed is not None and self.view is not None:
            placed = self.view.place(placed, None)
        return Verdict(score, self.threshold, is_anomalous(score, self.threshold), placed)

    def reset(self) -> None:
        """Begin a new clip."""
        self._ring.clear()
        self._shape = None
