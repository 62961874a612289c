"""How frames become what the network looks at, as a user says it. Imports without torch and onnx."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from sspcab_edge.errors import OptionError
from sspcab_export.option_field import option, options_of
from sspcab_export.option_types import Numbers, Polygon, Size, Whole

__all__ = ["FrontEndOptions"]

_FLOW = ("flow", "flow_range", "flow_size", "flow_preset", "flow_scale")


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

    frame_size: tuple[int, int] | None = option(
        None, "Frames", "Size of the camera's frames that the options below are in.", kind=Size(),
        by_default="that of the reference, the mask or the first picture",
    )  # fmt: skip
    region: tuple[int, int, int, int] | None = option(
        None, "Frames", "Look at this part of the frame only.",
        kind=Whole("LEFT,TOP,WIDTH,HEIGHT", ",", (4,), "100,50,640,480"), metavar="LEFT,TOP,WIDTH,HEIGHT",
    )  # fmt: skip
    zones: tuple[tuple[tuple[int, int], ...], ...] = option(
        (), "Frames", "Judge only what lies in this polygon; repeat for several.", flag="zone",
        kind=Polygon(), multiple=True, metavar="'X,Y X,Y X,Y ...'",
    )  # fmt: skip
    mask: Path | None = option(None, "Frames", "Judge only where this picture is white.", metavar="PICTURE")
    tiles: bool = option(
        False, "Frames",
        "Cut the region into tiles of the network's input size, at its own resolution: for defects that "
        "vanish when a large picture is made small.",
    )  # fmt: skip
    overlap: int | None = option(
        None, "Frames", "Of neighbouring tiles, in pixels.", flag="tile-overlap", kind=click.IntRange(min=0),
        by_default="a quarter of a tile",
    )  # fmt: skip
    margin: int | None = option(
        None, "Frames",
        "Pixels at a tile's inner edges that the map leaves out: as many as the network sees of its own "
        "padding.", flag="tile-margin", kind=click.IntRange(min=0), by_default="a quarter of the overlap",
    )  # fmt: skip
    batch: int = option(
        8, "Frames", "Most tiles of one engine call.", flag="tile-batch", kind=click.IntRange(min=1)
    )
    levels: bool = option(
        False, "Frames", "Bring each tile's normal scores to one scale, where tiles show different things.",
        flag="tile-levels",
    )  # fmt: skip
    reference: Path | None = option(
        None, "Frames",
        "Bring frames to where this picture of the scene lies. A frame that cannot be is a camera fault, "
        "and no anomaly.", flag="register", metavar="PICTURE",
    )  # fmt: skip
    motion: Literal["translation", "rotation"] = option(
        "translation", "Frames",
        "With --register: what may happen between the two; rotation is a shift, too.",
    )  # fmt: skip
    max_shift: float | None = option(
        None, "Frames", "With --register: in pixels.", by_default="a tenth of the frame's shorter side"
    )
    max_angle: float = option(5.0, "Frames", "With --register: in degrees.")
    proposals: Literal["background", "difference", "detector"] | None = option(
        None, "Videos",
        "Objects are what differs from the learnt background or the frame before, or what --detector finds.",
        by_default="background, or detector with --detector",
    )  # fmt: skip
    detector: Path | None = option(
        None, "Videos", "Objects are what this detector finds (final boxes, or a YOLO head).",
        metavar="FILE.onnx",
    )  # fmt: skip
    classes: tuple[int, ...] = option(
        (), "Videos", "With --detector: number of a class that counts; may repeat.", flag="detector-class",
        kind=click.IntRange(min=0), multiple=True, by_default="all",
    )  # fmt: skip
    confidence: float | None = option(
        None, "Videos", "With --detector: least.", flag="detector-confidence",
        kind=click.FloatRange(0, 1, min_open=True, max_open=True), by_default="0.25",
    )  # fmt: skip
    min_area: int | None = option(
        None, "Videos", "Smallest object in pixels of a frame.", kind=click.IntRange(min=1),
        by_default="a 1500th of the frame",
    )  # fmt: skip
    max_objects: int = option(
        64, "Videos", "Most objects of a frame that are judged.", kind=click.IntRange(min=1)
    )
    flow: Path | None = option(
        None, "Videos", "Optical flow is what this network says of two frames.", metavar="FILE.onnx",
        by_default="dense inverse search",
    )  # fmt: skip
    flow_range: tuple[float, float] = option(
        (0.0, 255.0), "Videos", "With --flow: what pixels 0 and 255 are to it.",
        kind=Numbers("LOW:HIGH", ":", (2,), "0:1"), metavar="LOW:HIGH", by_default="0:255",
    )  # fmt: skip
    flow_size: tuple[int, int] | None = option(
        None, "Videos", "Size at which inverse search runs.", kind=Size(), by_default="320 wide"
    )
    flow_preset: Literal["ultrafast", "fast", "medium"] = option(
        "ultrafast", "Videos", "How thorough inverse search is."
    )
    flow_scale: float = option(
        1.0, "Videos",
        "What flow is multiplied by, so that it is as large as in training: 3.2, where that was in pixels "
        "of frames 1024 wide and is in those of 320 here.", kind=click.FloatRange(min=0, min_open=True),
    )  # fmt: skip
    smoothing: int = option(
        1, "Videos", "Frames, this one the last, that a score is averaged over.", kind=click.IntRange(min=1)
    )

    def __post_init__(self) -> None:
        if not self.tiles and (self.overlap is not None or self.margin is not None or self.levels):
            raise OptionError("--tile-overlap, --tile-margin and --tile-levels are about tiles: give --tiles")

    def refuse_objects(self, host: str) -> None:
        """Refuse options about objects, for a host that looks at none.

        Raises:
            OptionError: One was given.
        """
        about = [one.field for one in options_of(FrontEndOptions) if one.group == "Videos"]
        self._refuse(about, f"is about objects: {host} looks at none, leave it out")

    def refuse_flow(self, host: str) -> None:
        """Refuse options about optical flow, for a host that takes none.

        Raises:
            OptionError: One was given.
        """
        self._refuse(_FLOW, f"is of no use for {host}: its graph takes no flow")

    def _refuse(self, names: Collection[str], why: str) -> None:
        for one in options_of(FrontEndOptions):
            if one.field in names and one.given(self):
                raise OptionError(f"{one.flag} {why}")

    @property
    def plain(self) -> bool:
        """Whether frames are taken whole and as they come."""
        geometry = (self.frame_size, self.region, self.reference, self.mask)
        return not (self.tiles or self.zones or any(one is not None for one in geometry))
