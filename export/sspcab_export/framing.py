"""The front-end that a user asks for, as a manifest has it: checked, its pictures put into the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
from sspcab_export.pictures import Sample

__all__ = ["FrontEndOptions", "make_front_end", "make_geometry"]

MIN_CORRELATION = 0.5
"""Below this the frame shows another scene: see the manifest's registration."""

_REFERENCE = "front_end/reference.png"
_MASK = "front_end/mask.png"
_SHIFT_SHARE = 0.1
_OVERLAP_SHARE = 4
_MARGIN_SHARE = 4

_ABOUT_OBJECTS = (
    "proposals", "detector", "classes", "confidence", "min_area", "max_objects", "flow", "flow_range",
    "flow_size", "flow_preset", "flow_scale", "smoothing",
)  # fmt: skip

Polygon = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class FrontEndOptions:
    """How frames become what the network looks at. All coordinates are pixels of a frame.

    Attributes:
        frame_size: (height, width) that coordinates refer to; None: that of the reference, the mask or the
            first picture.
        region: (left, top, width, height) of what is looked at.
        reference: Picture of the scene that frames are registered to.
        motion: What the camera or the part may do.
        max_shift: In pixels; None: a tenth of the frame's shorter side.
        max_angle: In degrees.
        zones: Polygons, (x, y) by corner: only what lies in one of them is judged.
        mask: Picture, black where nothing is judged.
        tiles: Whether the region is cut into tiles of the network's input size.
        overlap: Of neighbouring tiles, in pixels; None: a quarter of a tile.
        margin: Pixels at a tile's inner edges that the map leaves out; None: a quarter of the overlap.
        batch: Most tiles of one engine call.
        levels: Whether each tile's scores are brought to a common scale, where tiles show different things.
        proposals: How objects are found; None: in the foreground, or by the detector where there is one.
        detector: ONNX file of an object detector.
        classes: Numbers of its classes that count; empty: all.
        confidence: Of the detector, below which nothing is found.
        min_area: Smallest object in pixels; None: a 1500th of the frame.
        max_objects: Most objects of a frame that are judged.
        flow: ONNX file of an optical flow network; None: dense inverse search (DIS).
        flow_range: What pixels 0 and 255 are to it, where it takes float32.
        flow_size: (height, width) at which DIS runs; None: 320 pixels wide.
        flow_preset: How thoroughly it does.
        flow_scale: What flow is multiplied by, so that it is as large as in training.
        smoothing: Frames that a score is averaged over, the judged one last.
    """

    frame_size: tuple[int, int] | None = None
    region: tuple[int, int, int, int] | None = None
    reference: Path | None = None
    motion: Literal["translation", "rotation"] = "translation"
    max_shift: float | None = None
    max_angle: float = 5.0
    zones: tuple[Polygon, ...] = ()
    mask: Path | None = None
    tiles: bool = False
    overlap: int | None = None
    margin: int | None = None
    batch: int = 8
    levels: bool = False
    proposals: Literal["background", "difference", "detector"] | None = None
    detector: Path | None = None
    classes: tuple[int, ...] = ()
    confidence: float | None = None
    min_area: int | None = None
    max_objects: int = 64
    flow: Path | None = None
    flow_range: tuple[float, float] = (0.0, 255.0)
    flow_size: tuple[int, int] | None = None
    flow_preset: Literal["ultrafast", "fast", "medium"] = "ultrafast"
    flow_scale: float = 1.0
    smoothing: int = 1

    def __post_init__(self) -> None:
        if not self.tiles and (self.overlap is not None or self.margin is not None or self.levels):
            raise OptionError("--tile-overlap, --tile-margin and --tile-levels are about tiles: give --tiles")

    def refuse_objects(self, host: str) -> None:
        """Refuse options about objects, for a host that looks at none.

        Raises:
            OptionError: One was given.
        """
        self._refuse(_ABOUT_OBJECTS, f"is about objects: {host} looks at none, leave it out")

    def refuse_flow(self, host: str) -> None:
        """Refuse options about optical flow, for a host that takes none.

        Raises:
            OptionError: One was given.
        """
        flow = [name for name in _ABOUT_OBJECTS if name.startswith("flow")]
        self._refuse(flow, f"is of no use for {host}: its graph takes no flow")

    def _refuse(self, names: Sequence[str], why: str) -> None:
        for name in names:
            if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                option = {"classes": "detector-class", "confidence": "detector-confidence"}.get(name, name)
                raise OptionError(f"--{option.replace('_', '-')} {why}")

    @property
    def plain(self) -> bool:
        """Whether frames are taken whole and as they come."""
        geometry = (self.frame_size, self.region, self.reference, self.mask)
        return not (self.tiles or self.zones or any(one is not None for one in geometry))


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
        _write_grey(folder / _REFERENCE, decode_picture(options.reference).pixels, frame, smooth=True)
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
