"""The front-end that a user asks for, as a manifest has it: checked, its pictures put into the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import BundleError, OptionError, OutputError
from sspcab_edge.front_end_spec import (
    FrameSize,
    FrontEndSpec,
    Preprocess,
    Region,
    Registration,
    Tiling,
    check_front_end,
)
from sspcab_edge.preprocess import decode_picture
from sspcab_export.front_end_options import FrontEndOptions
from sspcab_export.pictures import Sample

__all__ = ["make_front_end", "make_geometry"]

MIN_CORRELATION = 0.5
"""Below this the frame shows another scene: see the manifest's registration."""

_REFERENCE = "front_end/reference.png"
_MASK = "front_end/mask.png"
_SHIFT_SHARE = 0.1
_OVERLAP_SHARE = 4
_MARGIN_SHARE = 4


def make_front_end(
    options: FrontEndOptions, preprocess: Preprocess, samples: Sequence[Sample], folder: Path
) -> FrontEndSpec:
    """The front-end of a bundle in the making.

    Args:
        options: What the user asks for.
        preprocess: Holds the size of the network's input.
        samples: The user's pictures, for the size of a frame.
        folder: The bundle's; reference and mask are written there.

    Raises:
        OptionError: The parts do not fit each other or the network.
        PictureError: A picture cannot be decoded.
        OutputError: The folder cannot be written to.
    """
    if options.plain:
        return FrontEndSpec()
    frame = _frame_size(options, samples)
    registration = None
    if options.reference is not None:
        _write_grey(
            folder / _REFERENCE,
            decode_picture(options.reference, preprocess.bit_depth).pixels,
            frame,
            smooth=True,
        )
        allowed = options.max_shift
        registration = Registration(
            reference=_REFERENCE,
            motion=options.motion,
            max_shift=_SHIFT_SHARE * min(frame.width, frame.height) if allowed is None else allowed,
            max_angle=options.max_angle,
            min_correlation=MIN_CORRELATION,
        )
    spec = msgspec.structs.replace(
        make_geometry(options, (frame.height, frame.width), folder),
        kind="tiles" if options.tiles else "whole-frame",
        registration=registration,
        tiles=_tiling(options, preprocess) if options.tiles else None,
    )
    try:
        check_front_end(spec, preprocess)
    except BundleError as error:
        raise OptionError(f"the front-end does not fit: {error}") from error
    return spec


def make_geometry(options: FrontEndOptions, size: tuple[int, int], folder: Path) -> FrontEndSpec:
    """Frame size, region, zones and mask alone, unchecked.

    Args:
        options: What the user asks for; its own frame size wins.
        size: (height, width) of a frame else.
        folder: The bundle's; the mask is written there.

    Raises:
        PictureError: The mask cannot be decoded.
        OutputError: The folder cannot be written to.
    """
    height, width = options.frame_size or size
    frame = FrameSize(width=width, height=height)
    if options.mask is not None:
        _write_grey(folder / _MASK, decode_picture(options.mask).pixels, frame, smooth=False)
    region = None
    if options.region is not None:
        left, top, across, down = options.region
        region = Region(left=left, top=top, width=across, height=down)
    return FrontEndSpec(
        frame=frame, region=region, zones=options.zones, mask=None if options.mask is None else _MASK
    )


def _tiling(options: FrontEndOptions, preprocess: Preprocess) -> Tiling:
    overlap = options.overlap
    if overlap is None:
        overlap = min(preprocess.width, preprocess.height) // _OVERLAP_SHARE
    margin = overlap // _MARGIN_SHARE if options.margin is None else options.margin
    return Tiling(overlap=overlap, margin=margin, batch=options.batch)


def _frame_size(options: FrontEndOptions, samples: Sequence[Sample]) -> FrameSize:
    if options.frame_size is not None:
        height, width = options.frame_size
        return FrameSize(width=width, height=height)
    for path in (options.reference, options.mask):
        if path is not None:
            height, width = decode_picture(path).pixels.shape[:2]
            return FrameSize(width=width, height=height)
    if not samples:
        raise OptionError(
            "region, zones and tiles are in pixels of a frame: say its size with --frame-size HxW"
        )
    height, width = samples[0].size
    return FrameSize(width=width, height=height)


def _write_grey(path: Path, pixels: npt.NDArray[np.uint8], frame: FrameSize, *, smooth: bool) -> None:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    if grey.shape != (frame.height, frame.width):
        method = cv2.INTER_AREA if smooth else cv2.INTER_NEAREST
        grey = cv2.resize(grey, (frame.width, frame.height), interpolation=method)
    if not smooth:
        grey = np.where(grey > 127, 255, 0).astype(np.uint8)
    _, data = cv2.imencode(".png", grey)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
