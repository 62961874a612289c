"""How a camera's frame lies against the reference picture, and moving pictures between the two."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.front_end_spec import Region

__all__ = ["Pose", "to_frame", "to_reference"]

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pose:
    """A rigid motion from the reference picture to the frame.

    What the reference shows at its centre, the frame shows ``shift_x`` and ``shift_y`` pixels away from
    there, and everything turned around it.

    Attributes:
        shift_x: To the right, in pixels.
        shift_y: Downwards, in pixels.
        angle: Clockwise, in degrees.
        correlation: Of the reference and the frame brought to its place, -1 to 1: see
            :class:`~sspcab_runtime.frontends.registration.Aligner`.
    """

    shift_x: float
    shift_y: float
    angle: float
    correlation: float

    @property
    def shift(self) -> float:
        """Length of the shift, in pixels."""
        return math.hypot(self.shift_x, self.shift_y)

    def matrix(self, width: int, height: int) -> Matrix:
        """(2, 3) float64: pixel (x, y, 1) of a reference of that size to its place in the frame."""
        centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        return np.array(
            [
                [cos, -sin, centre_x + self.shift_x - cos * centre_x + sin * centre_y],
                [sin, cos, centre_y + self.shift_y - sin * centre_x - cos * centre_y],
            ]
        )


def to_reference(pixels: npt.NDArray[np.uint8], pose: Pose, box: Region) -> npt.NDArray[np.uint8]:
    """The part ``box`` of a frame (H, W, 3) uint8, after it was brought to where the reference lies.

    Linear; what the frame does not show is filled with its nearest border pixel.
    """
    matrix = pose.matrix(pixels.shape[1], pixels.shape[0])
    matrix[:, 2] += matrix[:, :2] @ (box.left, box.top)
    moved = cv2.warpAffine(
        pixels,
        matrix,
        (box.width, box.height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(moved, dtype=np.uint8)


def to_frame(heat: npt.NDArray[np.float32], pose: Pose, width: int, height: int) -> npt.NDArray[np.float32]:
    """A map (h, w) of the reference's view as one of the frame's, of the same shape.

    Linear; 0 where the reference shows nothing.

    Args:
        heat: Over a whole frame of ``width`` x ``height`` pixels, at any resolution.
        pose: Of the frame.
        width: Of the frame, in pixels.
        height: Of the frame, in pixels.
    """
    across, down = heat.shape[1] / width, heat.shape[0] / height
    scale = np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])
    motion = np.vstack([pose.matrix(width, height), [0, 0, 1]])
    back = scale @ np.linalg.inv(motion) @ np.linalg.inv(scale)
    moved = cv2.warpAffine(
        heat,
        back[:2],
        (heat.shape[1], heat.shape[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    return np.asarray(moved, dtype=np.float32)
