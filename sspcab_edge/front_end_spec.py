"""The front-end in the manifest: what turns camera frames into graph inputs, and whether its parts fit."""

from __future__ import annotations

import math
from typing import Final, Literal

from sspcab_edge.bit_depth import BitDepth
from sspcab_edge.errors import BundleError
from sspcab_edge.grid import grid
from sspcab_edge.record import MANIFEST_NAME, Record
from sspcab_edge.score_map import ScoreMap, check_rising

__all__ = [
    "ENTRY_A_FRAME",
    "VIDEO_KINDS",
    "DetectorHead",
    "FlowNetwork",
    "FlowSpec",
    "FrameSize",
    "FrontEndSpec",
    "Objects",
    "Preprocess",
    "Proposals",
    "Region",
    "Registration",
    "ResizeFilter",
    "Tiling",
    "check_front_end",
    "front_end_files",
]

ResizeFilter = Literal["opencv-linear", "antialias-linear", "pil-cubic", "pil-linear"]
"""What brings frames to the graph's size: OpenCV's bilinear, which looks at 2 x 2 pixels however much smaller
the frame becomes; torch's antialiased bilinear on tensors; Pillow's bicubic, which it takes when no filter is
named, and its bilinear, both on 8-bit images."""

FrontEndKind = Literal["whole-frame", "tiles", "clip", "objects"]

VIDEO_KINDS: Final = ("clip", "objects")
"""Front-ends that look at several frames of one camera, and so at videos instead of pictures."""

ENTRY_A_FRAME: Final = ("whole-frame", "clip")
"""Front-ends that make one entry of the graph's batch of a frame."""

MAX_SIDE = 32767
"""Longest side of a frame, in pixels: what OpenCV can move."""

MAX_AREA = 100_000_000
"""Most pixels of a frame: what is decoded at most."""

MAX_TILES = 4096
"""Most tiles of a region."""

MAX_FLOW_SIDE = 2048
"""Longest side of a frame that flow is computed on, in pixels."""

MIN_REGISTERED = 64
"""Shortest side of a frame that can be registered, in pixels."""


class Preprocess(Record, frozen=True, kw_only=True):
    """How a frame of any size becomes the graph's input: size in pixels and the pinned resize filter.

    ``bit_depth`` is how many bits are in use in images of 16 per channel: 16 also where values are shifted up
    so that their low bits are zero.
    """

    width: int
    height: int
    resize: ResizeFilter
    bit_depth: BitDepth = 16


class FrameSize(Record, frozen=True, kw_only=True):
    """Size of a frame in pixels."""

    width: int
    height: int


class Region(Record, frozen=True, kw_only=True):
    """A rectangle of the frame, in its pixels: the part that is looked at."""

    left: int
    top: int
    width: int
    height: int


class Registration(Record, frozen=True, kw_only=True):
    """How a frame is brought to where a reference picture lies before anything is cut out of it.

    ``reference`` is a grey 8-bit PNG of the bundle in the frame's size, 64 x 64 pixels or more. ``motion`` is
    what may happen between the two: a shift, or a shift and a rotation about the frame's centre. A shift of
    more than ``max_shift`` pixels (half of the frame's shorter side at most), a turn of more than
    ``max_angle`` degrees (0 to 90; not looked at under ``translation``), or a correlation below
    ``min_correlation`` (-1 to 1) is a camera that was moved or is covered, and no verdict. The correlation is
    that of details: the scene itself has 0.9, another one less than 0.3, and 0.5 is a good limit.
    """

    reference: str
    motion: Literal["translation", "rotation"]
    max_shift: float
    max_angle: float
    min_correlation: float


class Tiling(Record, frozen=True, kw_only=True):
    """How the region is cut into tiles of the graph's input size, at its own resolution.

    Neighbours overlap by ``overlap`` pixels or more, and are spread evenly: see
    :func:`~sspcab_edge.grid.grid`. Of the overlap ``margin`` pixels at a tile's inner edges (half of it at
    most) are left out of the map: there the network sees its own padding. ``batch`` is the most tiles of one
    engine call. ``levels`` has a map for each tile that brings its scores, already on the source's scale, to
    the common one, where tiles show different things (empty: they are compared as they are). They are in the
    order of the whole grid, row by row, those that no zone touches included.
    """

    overlap: int
    margin: int
    batch: int
    levels: tuple[ScoreMap, ...] = ()


class DetectorHead(Record, frozen=True, kw_only=True):
    """An object detector of the bundle and how its answer is read.

    ``file`` is an ONNX file that takes one picture of ``width`` x ``height`` pixels: ``input`` is float32
    (1, 3, height, width) RGB in [0, 1], or for the head ``boxes`` uint8 (1, height, width, 3) RGB. A frame is
    made smaller so that it fits, and its margin is grey (114). ``output`` is, with K candidates and C
    classes:

    * ``boxes``: float32 (1, K, 6): left, top, right, bottom in the detector's pixels, score, class; final.
    * ``yolo-anchor``: (1, K, 5 + C): centre x, centre y, width, height, objectness, classes (YOLOv5, v7).
    * ``yolo``: (1, 4 + C, K): centre x, centre y, width, height, classes (YOLOv8, v9, 11).
    * ``yolo-end-to-end``: (1, K, 6), as ``boxes`` (YOLOv10).

    Candidates below ``confidence`` are dropped, and of those that overlap by more than ``overlap`` (IoU) all
    but the best. ``classes`` names the numbers of the classes that count; empty: all.
    """

    file: str
    head: Literal["boxes", "yolo-anchor", "yolo", "yolo-end-to-end"]
    input: str
    output: str
    width: int
    height: int
    shape: tuple[int | str, ...]
    confidence: float = 0.25
    overlap: float = 0.45
    classes: tuple[int, ...] = ()


class Proposals(Record, frozen=True, kw_only=True):
    """Where in a frame objects are looked for.

    ``background``: what differs from a mixture of Gaussians by pixel that adapts (MOG2). ``difference``: what
    differs from the frame before. ``detector``: what an object detector finds. Boxes of less than
    ``min_area`` pixels of the frame, or with sides further apart than ``max_aspect``, are dropped; the rest
    grow by ``grow`` pixels on each side. Of more than ``limit`` the largest (the surest, of a detector) are
    judged. The first ``warm_up`` frames after a gap are only looked at.
    """

    kind: Literal["background", "difference", "detector"]
    min_area: int
    max_aspect: float = 10.0
    grow: int = 2
    limit: int = 64
    warm_up: int = 0
    detector: DetectorHead | None = None


class FlowNetwork(Record, frozen=True, kw_only=True):
    """A network of the bundle that computes optical flow, and how it is asked.

    ``file`` is an ONNX file that takes two frames of the size of its :class:`FlowSpec`, ``first`` and
    ``second``: both uint8 (1, height, width, 3) RGB, or both float32 (1, 3, height, width) RGB, where 0 and
    255 have become ``low`` and ``high``. ``output`` is float32 (1, 2, h, w), or (1, h, w, 2): how far each
    pixel of the first frame moved right and down to the second, in pixels of ``width`` x ``height``. Where
    h and w are smaller than that, the field is enlarged and its values stay.
    """

    file: str
    first: str
    second: str
    output: str
    pixels: bool
    shape: tuple[int | str, ...]
    low: float = 0.0
    high: float = 255.0


class FlowSpec(Record, frozen=True, kw_only=True):
    """How optical flow is computed, on frames of this size in pixels: the pixels that it is measured in.

    By ``network``, or without one by dense inverse search on grey frames (DIS, Kroeger et al., ECCV 2016,
    arXiv 1603.03590), as thoroughly as ``preset`` says.
    """

    width: int
    height: int
    preset: Literal["ultrafast", "fast", "medium"] = "ultrafast"
    network: FlowNetwork | None = None


class Objects(Record, frozen=True, kw_only=True):
    """How objects are found, cut out and summed up to the score of a frame.

    A frame's score is that of its worst object, or ``empty_score`` without any. ``smoothing`` frames, this
    one the last of them, are averaged (1: none): causal, unlike the filters of papers.
    """

    proposals: Proposals
    flow: FlowSpec | None
    empty_score: float
    smoothing: int = 1


class FrontEndSpec(Record, frozen=True, kw_only=True):
    """The front-end that turns camera frames into graph inputs.

    All coordinates are pixels of a frame of size ``frame``; frames of another size are resized to it
    first (by area where no side grows, else linear). Then the frame is registered, the region cut out of
    it (the whole frame, where there is none), and that is resized to the graph's size or, with ``tiles``,
    cut into them; a ``clip`` is the last of such pictures, and ``objects`` are found and cut out in the
    region. ``zones`` are polygons, (x, y) by corner, whose borders belong to them, and ``mask`` a grey
    8-bit PNG of the bundle in the frame's size: what lies outside of all zones, or where the mask is 0,
    is not judged.
    """

    kind: FrontEndKind = "whole-frame"
    frame: FrameSize | None = None
    registration: Registration | None = None
    region: Region | None = None
    zones: tuple[tuple[tuple[int, int], ...], ...] = ()
    mask: str | None = None
    tiles: Tiling | None = None
    objects: Objects | None = None


def front_end_files(spec: FrontEndSpec) -> list[str]:
    """The files of the bundle that a front-end needs, relative to it."""
    files = [] if spec.mask is None else [spec.mask]
    if spec.objects is not None and spec.objects.proposals.detector is not None:
        files.append(spec.objects.proposals.detector.file)
    if spec.objects is not None and spec.objects.flow is not None and spec.objects.flow.network is not None:
        files.append(spec.objects.flow.network.file)
    return files if spec.registration is None else [*files, spec.registration.reference]


def check_front_end(spec: FrontEndSpec, size: Preprocess) -> None:
    """Check that the parts of a front-end fit each other and the network's input size.

    Raises:
        BundleError: They do not.
    """
    if (spec.kind == "tiles") != (spec.tiles is not None):
        has = "no tiles" if spec.tiles is None else "tiles"
        raise BundleError(f"{MANIFEST_NAME} has {has} for a front-end of kind {spec.kind}")
    if (spec.kind == "objects") != (spec.objects is not None):
        has = "no objects" if spec.objects is None else "objects"
        raise BundleError(f"{MANIFEST_NAME} has {has} for a front-end of kind {spec.kind}")
    frame = spec.frame
    if spec.objects is not None:
        _check_objects(spec.objects, frame)
    if frame is None:
        parts = ("registration", "region", "zones", "mask", "tiles")
        for part in parts:
            if getattr(spec, part):
                raise BundleError(f"{MANIFEST_NAME} has {part} but no frame size, in whose pixels they are")
        return
    if not (0 < frame.width <= MAX_SIDE and 0 < frame.height <= MAX_SIDE) or (
        frame.width * frame.height > MAX_AREA
    ):
        raise BundleError(f"{MANIFEST_NAME} has frames of {frame.width}x{frame.height} pixels")
    region = spec.region or Region(left=0, top=0, width=frame.width, height=frame.height)
    if (
        min(region.left, region.top) < 0
        or min(region.width, region.height) < 1
        or region.left + region.width > frame.width
        or region.top + region.height > frame.height
    ):
        raise BundleError(
            f"{MANIFEST_NAME} has a region of {region.width}x{region.height} pixels at ({region.left}, "
            f"{region.top}), expected one inside the frame of {frame.width}x{frame.height}"
        )
    for number, zone in enumerate(spec.zones, 1):
        if len(zone) < 3:
            raise BundleError(f"zone {number} of {MANIFEST_NAME} has {len(zone)} corners, expected 3 or more")
        for x, y in zone:
            if not (0 <= x < frame.width and 0 <= y < frame.height):
                raise BundleError(
                    f"zone {number} of {MANIFEST_NAME} has a corner at ({x}, {y}), expected one inside the "
                    f"frame of {frame.width}x{frame.height}"
                )
    if spec.registration is not None:
        _check_registration(spec.registration, frame)
    if spec.tiles is not None:
        _check_tiles(spec.tiles, region, size)


def _check_objects(objects: Objects, frame: FrameSize | None) -> None:
    proposals, flow = objects.proposals, objects.flow
    if frame is None:
        raise BundleError(f"{MANIFEST_NAME} has objects but no frame size, in whose pixels they are")
    if (proposals.kind == "detector") != (proposals.detector is not None):
        has = "no detector" if proposals.detector is None else "a detector"
        raise BundleError(f"{MANIFEST_NAME} has {has} for proposals of kind {proposals.kind}")
    for name, value, low in (
        ("min_area", proposals.min_area, 1),
        ("limit", proposals.limit, 1),
        ("grow", proposals.grow, 0),
        ("warm_up", proposals.warm_up, 0),
        ("smoothing", objects.smoothing, 1),
        ("max_aspect", proposals.max_aspect, 1),
    ):
        if not low <= value <= MAX_AREA:
            raise BundleError(f"{MANIFEST_NAME} has {name} {value:g} of objects, expected {low} or more")
    if not math.isfinite(objects.empty_score):
        raise BundleError(f"{MANIFEST_NAME} has the empty score {objects.empty_score}, expected a number")
    if flow is not None and not (8 <= flow.width <= MAX_FLOW_SIDE and 8 <= flow.height <= MAX_FLOW_SIDE):
        raise BundleError(
            f"{MANIFEST_NAME} computes flow at {flow.width}x{flow.height} pixels, expected 8 to "
            f"{MAX_FLOW_SIDE} along each side"
        )
    network = None if flow is None else flow.network
    if network is not None and not (
        math.isfinite(network.low) and math.isfinite(network.high) and network.low < network.high
    ):
        raise BundleError(
            f"{MANIFEST_NAME} has a flow network for pixels from {network.low:g} to {network.high:g}, "
            "expected two rising numbers"
        )
    head = proposals.detector
    if head is not None and not (0 < head.confidence < 1 and 0 < head.overlap <= 1):
        raise BundleError(
            f"{MANIFEST_NAME} has a detector with confidence {head.confidence:g} and overlap "
            f"{head.overlap:g}, expected both between 0 and 1"
        )


def _check_registration(registration: Registration, frame: FrameSize) -> None:
    shorter = min(frame.width, frame.height)
    if shorter < MIN_REGISTERED:
        raise BundleError(
            f"{MANIFEST_NAME} registers frames of {frame.width}x{frame.height} pixels, expected "
            f"{MIN_REGISTERED} or more along each side"
        )
    for name, value, low, high in (
        ("max_shift", registration.max_shift, 0.0, shorter / 2),
        ("max_angle", registration.max_angle, 0.0, 90.0),
        ("min_correlation", registration.min_correlation, -1.0, 1.0),
    ):
        if not low <= value <= high:
            raise BundleError(f"{MANIFEST_NAME} has {name} {value:g}, expected {low:g} to {high:g}")


def _check_tiles(tiles: Tiling, region: Region, size: Preprocess) -> None:
    if size.width > region.width or size.height > region.height:
        raise BundleError(
            f"{MANIFEST_NAME} has tiles of {size.width}x{size.height} pixels, expected at most the region's "
            f"{region.width}x{region.height}"
        )
    shorter = min(size.width, size.height)
    if not 0 <= tiles.overlap < shorter:
        raise BundleError(
            f"{MANIFEST_NAME} has tiles that overlap by {tiles.overlap}, expected 0 to {shorter - 1}"
        )
    if not 0 <= 2 * tiles.margin <= tiles.overlap:
        raise BundleError(
            f"{MANIFEST_NAME} has tiles with a margin of {tiles.margin}, expected 0 to {tiles.overlap // 2}, "
            "half of their overlap"
        )
    if tiles.batch < 1:
        raise BundleError(f"{MANIFEST_NAME} has batches of {tiles.batch} tiles, expected 1 or more")
    count = len(grid(region.width, size.width, tiles.overlap)) * len(
        grid(region.height, size.height, tiles.overlap)
    )
    if count > MAX_TILES:
        raise BundleError(f"{MANIFEST_NAME} cuts {count} tiles out of a frame, expected at most {MAX_TILES}")
    if tiles.levels and len(tiles.levels) != count:
        raise BundleError(f"{MANIFEST_NAME} has levels for {len(tiles.levels)} tiles, expected {count}")
    for number, level in enumerate(tiles.levels):
        check_rising(level, f"the level of tile {number}")
