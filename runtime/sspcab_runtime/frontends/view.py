"""From a camera's frame to the region that is looked at, and from its map to one of the whole frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import InputError
from sspcab_edge.front_end_spec import FrameSize, FrontEndSpec, Region
from sspcab_edge.protocols import Frame
from sspcab_runtime.frontends.pose import Pose, to_frame, to_reference
from sspcab_runtime.frontends.registration import Aligner, open_aligner

__all__ = ["View", "open_view"]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def open_view(spec: FrontEndSpec, folder: Path | None) -> View | None:
    """The geometry that a manifest asks for; None where frames are taken as they come.

    Raises:
        BundleError: The reference picture cannot be read.
    """
    if spec.frame is None:
        return None
    whole = Region(left=0, top=0, width=spec.frame.width, height=spec.frame.height)
    aligner = None
    if spec.registration is not None:
        aligner = open_aligner(spec.registration, spec.frame, folder)
    return View(spec.frame, whole if spec.region is None else spec.region, aligner)


@dataclass(frozen=True, slots=True)
class View:
    """Where the region lies in a camera's frames.

    Attributes:
        frame: Size that frames have, or are brought to.
        box: The region, in pixels of such a frame.
        aligner: Brings them to where the reference picture lies; None leaves them.
    """

    frame: FrameSize
    box: Region
    aligner: Aligner | None

    @property
    def whole(self) -> bool:
        """Whether the region is the whole frame."""
        return (self.box.width, self.box.height) == (self.frame.width, self.frame.height)

    def cut(self, frame: Frame) -> tuple[Pixels, Pose | None]:
        """The region of a frame, (box.height, box.width, 3) uint8 RGB, and where the frame lies.

        A frame of another size is resized first: by area where no side grows, else linear.

        Raises:
            InputError: The frame is not (H, W, 3) uint8.
            RegistrationError: The frame does not show the scene where it should be.
        """
        pixels = self._resized(frame.pixels)
        if self.aligner is not None:
            pose = self.aligner.align(pixels, frame.path or f"frame {frame.index}")
            return to_reference(pixels, pose, self.box), pose
        box = self.box
        return pixels[box.top : box.top + box.height, box.left : box.left + box.width], None

    def place(self, heat: Floats, pose: Pose | None) -> Floats:
        """The region's map as one of the whole frame, 0 where nothing was looked at.

        It has as many pixels per pixel of the frame as ``heat`` has of the region, at most one: its size is
        rounded to the nearest (half upwards). Where the region is the whole frame, it is ``heat`` itself.

        Args:
            heat: (h, w) float32, over the region.
            pose: What :meth:`cut` said of the frame.
        """
        placed = heat if self.whole else self._embedded(heat)
        return placed if pose is None else to_frame(placed, pose, self.frame.width, self.frame.height)

    def _resized(self, pixels: Pixels) -> Pixels:
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or pixels.size == 0:
            raise InputError(
                f"frame is {tuple(pixels.shape)} {pixels.dtype}, expected (H, W, 3) uint8 RGB: "
                "convert it first"
            )
        height, width = pixels.shape[:2]
        wanted = (self.frame.width, self.frame.height)
        if (width, height) == wanted:
            return pixels
        grows = self.frame.width > width or self.frame.height > height
        method = cv2.INTER_LINEAR if grows else cv2.INTER_AREA
        return np.asarray(cv2.resize(pixels, wanted, interpolation=method), dtype=np.uint8)

    def _embedded(self, heat: Floats) -> Floats:
        box = self.box
        height, width = min(heat.shape[0], box.height), min(heat.shape[1], box.width)
        if heat.shape != (height, width):
            heat = np.asarray(cv2.resize(heat, (width, height), interpolation=cv2.INTER_AREA), np.float32)
        top, left = _nearest(box.top, height, box.height), _nearest(box.left, width, box.width)
        shape = (
            _nearest(self.frame.height, height, box.height),
            _nearest(self.frame.width, width, box.width),
        )
        placed = np.zeros(shape, dtype=np.float32)
        placed[top : top + height, left : left + width] = heat
        return placed


def _nearest(length: int, part: int, whole: int) -> int:
    """``length * part / whole``, rounded to the nearest, half upwards."""
    return (2 * length * part + whole) // (2 * whole)
