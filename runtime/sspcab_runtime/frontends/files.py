"""Pictures of a bundle that a front-end reads when it is opened: the mask and the reference."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import BundleError
from sspcab_edge.front_end_spec import FrameSize

__all__ = ["read_grey"]


def read_grey(folder: Path | None, name: str, frame: FrameSize) -> npt.NDArray[np.uint8]:
    """A grey PNG of the bundle in the frame's size: (height, width) uint8.

    Raises:
        BundleError: No folder was given, or the file is no 8-bit grey picture of that size.
    """
    if folder is None:
        raise BundleError(f"the front-end needs {name} of its bundle: open it with the bundle's folder")
    try:
        raw = cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise BundleError(f"{folder / name} cannot be decoded, expected a grey PNG") from error
    if raw is None:
        raise BundleError(f"{folder / name} cannot be decoded, expected a grey PNG")
    if raw.dtype != np.uint8 or raw.shape != (frame.height, frame.width):
        raise BundleError(
            f"{folder / name} is {'x'.join(map(str, raw.shape[1::-1] + raw.shape[2:]))} {raw.dtype}, "
            f"expected grey {frame.width}x{frame.height} uint8"
        )
    return np.asarray(raw, dtype=np.uint8)
