"""The manifest of a bundle: typed, closed, and one canonical byte form.

The JSON of a manifest is what a device trusts, so its bytes are canonical: keys sorted, two spaces of
indent, UTF-8, one newline at the end. Unknown keys are refused, because a device that ignores a key would
run something else than what was verified.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Final, Literal

import msgspec

from sspcab_edge.block import BlockSpec
from sspcab_edge.errors import BundleError
from sspcab_edge.grid import grid
from sspcab_edge.ports import CONTRACT_VERSION, Port

__all__ = [
    "MANIFEST_NAME",
    "SCHEMA",
    "VIDEO_KINDS",
    "Artifact",
    "Calibration",
    "Decision",
    "DetectorHead",
    "FileEntry",
    "FlowNetwork",
    "FlowSpec",
    "FrameSize",
    "FrontEndSpec",
    "Gate",
    "Manifest",
    "Model",
    "Objects",
    "Parity",
    "ParityPack",
    "Precision",
    "Preprocess",
    "Proposals",
    "Quantiles",
    "Region",
    "Registration",
    "ResizeFilter",
    "ScoreMap",
    "Target",
    "Tiling",
    "check_front_end",
    "decode_manifest",
    "encode_manifest",
]

SCHEMA = 1
MANIFEST_NAME = "manifest.json"

Target = Literal["onnx", "openvino", "tensorrt"]
Precision = Literal["fp32", "fp16", "int8"]
ResizeFilter = Literal["opencv-linear", "antialias-linear"]
FrontEndKind = Literal["whole-frame", "tiles", "clip", "objects"]
Policy = Literal["false-alarm-rate", "quantile", "best-f1", "checkpoint", "given", "none"]


VIDEO_KINDS: Final = ("clip", "objects")
"""Front-ends that look at several frames of one camera, and so at videos instead of pictures."""


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the manifest: immutable, and no key too many."""


class FileEntry(_Record, frozen=True, kw_only=True):
    """One file of the bundle: path relative to it (``/`` between parts), size in bytes, SHA-256."""

    path: str
    size: int
    sha256: str


class Model(_Record, frozen=True, kw_only=True):
    """Which model this is: where it came from and what was told or assumed about it.

    ``source`` lists the checkpoint's files; ``digest`` is one SHA-256 over them. ``overrides`` are options
    that won over recognition, ``assumptions`` what nothing told and a default decided.
    """

    name: str
    source: tuple[FileEntry, ...]
    digest: str
    overrides: dict[str, str] = {}
    assumptions: tuple[str, ...] = ()


class Preprocess(_Record, frozen=True, kw_only=True):
    """How a frame of any size becomes the graph's input: size in pixels and the pinned resize filter."""

    width: int
    height: int
    resize: ResizeFilter


class FrameSize(_Record, frozen=True, kw_only=True):
    """Size of a frame in pixels."""

    width: int
    height: int


class Region(_Record, frozen=True, kw_only=True):
    """A rectangle of the frame, in its pixels: the part that is looked at."""

    left: int
    top: int
    width: int
    height: int


class Registration(_Record, frozen=True, kw_only=True):
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


class Tiling(_Record, frozen=True, kw_only=True):
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


class DetectorHead(_Record, frozen=True, kw_only=True):
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


class Proposals(_Record, frozen=True, kw_only=True):
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


class FlowNetwork(_Record, frozen=True, kw_only=True):
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


class FlowSpec(_Record, frozen=True, kw_only=True):
    """How optical flow is computed, on frames of this size in pixels: the pixels that it is measured in.

    By ``network``, or without one by dense inverse search on grey frames (DIS, Kroeger et al., ECCV 2016,
    arXiv 1603.03590), as thoroughly as ``preset`` says.
    """

    width: int
    height: int
    preset: Literal["ultrafast", "fast", "medium"] = "ultrafast"
    network: FlowNetwork | None = None


class Objects(_Record, frozen=True, kw_only=True):
    """How objects are found, cut out and summed up to the score of a frame.

    A frame's score is that of its worst object, or ``empty_score`` without any. ``smoothing`` frames, this
    one the last of them, are averaged (1: none): causal, unlike the filters of papers.
    """

    proposals: Proposals
    flow: FlowSpec | None
    empty_score: float
    smoothing: int = 1


class FrontEndSpec(_Record, frozen=True, kw_only=True):
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


class Quantiles(_Record, frozen=True, kw_only=True):
    """Five numbers of a score distribution, on the source's scale."""

    minimum: float
    q25: float
    median: float
    q75: float
    maximum: float

    @property
    def iqr(self) -> float:
        """Interquartile range."""
        return self.q75 - self.q25


class Decision(_Record, frozen=True, kw_only=True):
    """The threshold and where it came from. A frame is anomalous when ``score > threshold``.

    ``threshold`` is None when nothing could tell it: scores then come without labels. ``parameter`` is the
    rate or quantile of the policy; ``fitted_on`` counts the pictures it was fitted to; ``normal`` describes
    the scores of those that are normal.
    """

    threshold: float | None
    policy: Policy
    parameter: float | None = None
    fitted_on: int = 0
    normal: Quantiles | None = None
    note: str | None = None


class ScoreMap(_Record, frozen=True, kw_only=True):
    """A strictly increasing, piecewise linear map from an artifact's scores to the source's scale.

    ``artifact`` and ``source`` are the knots' coordinates; outside them the end segments go on. No knots is
    the identity.
    """

    artifact: tuple[float, ...] = ()
    source: tuple[float, ...] = ()

    @property
    def identity(self) -> bool:
        """Whether scores pass unchanged."""
        return not self.artifact


class Gate(_Record, frozen=True, kw_only=True):
    """What an artifact has to reach; a limit that is None is not asked for.

    ``max_flips`` counts all that is compared, blends included. ``max_flips_upper95`` limits the 95 % upper
    bound of the flip rate on pictures (blends are chosen to lie near the threshold: their flips say nothing
    of a rate). ``max_auroc_drop`` applies where labels exist. ``score_tolerance`` and
    ``mean_score_tolerance`` limit the largest and the mean difference of scores; they are absolute, already
    multiplied by ``max(1, IQR of normal scores)``. ``score_relative`` is the share of a score by which it may
    differ besides: distances of anomalies can be a hundred times those of normal pictures, and rounding grows
    with them.
    """

    max_flips: int | None = None
    max_flips_upper95: float | None = None
    max_auroc_drop: float | None = None
    score_tolerance: float | None = None
    score_relative: float = 0.0
    mean_score_tolerance: float | None = None
    map_tolerance: float | None = None


class Parity(_Record, frozen=True, kw_only=True):
    """Source against artifact on the judge pictures, from file to verdict.

    ``pictures`` counts all that were compared, ``blends`` those of them that were mixed to lie near the
    threshold. ``engine`` names what computed the artifact's side. ``score_excess`` is the largest
    difference of scores without the share of the score that the gate allows for rounding. ``margin`` is the
    smallest distance of a source score to the threshold. ``flips`` counts all labels that changed,
    ``blend_flips`` those of blends; ``flips_upper95`` is the exact 95 % upper bound of the flip rate on
    pictures that are no blends (None without a threshold). ``scene`` is ``built-in`` when no pictures of the
    user's scene were given.
    """

    pictures: int
    labelled: int
    blends: int
    scene: Literal["given", "built-in"]
    engine: str
    max_abs_score_diff: float
    score_excess: float
    mean_abs_score_diff: float
    max_abs_map_diff: float | None
    margin: float | None
    flips: int | None
    blend_flips: int | None
    flips_upper95: float | None
    auroc_source: float | None
    auroc_artifact: float | None
    gate: Gate
    passed: bool


class Artifact(_Record, frozen=True, kw_only=True):
    """One file set for one target at one precision. The first of ``files`` is the one to load.

    ``parity`` is what the export showed; ``replay`` is what the parity pack has to show on a device.
    ``flavour`` tells graphs of one precision apart: ``unsigned`` or ``signed`` activations of int8.
    ``float_layers`` names the layers that were kept in float at a lower precision.
    """

    target: Target
    precision: Precision
    files: tuple[str, ...]
    size_bytes: int
    opset: int
    parity: Parity
    replay: Gate
    flavour: Literal["unsigned", "signed"] | None = None
    float_layers: tuple[str, ...] = ()
    score_map: ScoreMap = ScoreMap()

    @property
    def name(self) -> str:
        """The artifact in one word, as in ``onnx-fp32``."""
        return f"{self.target}-{self.precision}"


class Calibration(_Record, frozen=True, kw_only=True):
    """The pictures that ranges were measured and thresholds fitted on.

    ``fingerprint`` is one SHA-256 over the sorted hashes of all pictures that were used; ``ranges``, ``fit``,
    ``judge`` and ``training`` (what the host's density was fitted to) count them by use. ``excluded`` counts
    those left out, by reason.
    """

    fingerprint: str
    ranges: int
    fit: int
    judge: int
    training: int = 0
    excluded: dict[str, int] = {}


class ParityPack(_Record, frozen=True, kw_only=True):
    """Where the parity pack lies: an index file, with inputs and expected verdicts beside it."""

    index: str
    inputs: int


class Manifest(_Record, frozen=True, kw_only=True):
    """Everything a device needs to know about a bundle."""

    schema: int
    contract: int
    release: int
    created: str
    tools: dict[str, str]
    model: Model
    host: str
    blocks: tuple[BlockSpec, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    preprocess: Preprocess
    front_end: FrontEndSpec
    decision: Decision
    artifacts: tuple[Artifact, ...]
    parity_pack: ParityPack
    files: tuple[FileEntry, ...]
    calibration: Calibration | None = None
    score: str | None = None
    """How the score follows from the map: ``map-max``, ``map-mean``, ``map-mean-filter:K`` (the largest mean
    over K x K pixels, zeros around the map); None where it does not, or is not known."""


_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_SCORE = re.compile(r"map-max\Z|map-mean\Z|map-mean-filter:[1-9][0-9]{0,3}\Z")

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


def encode_manifest(manifest: Manifest) -> bytes:
    """The canonical bytes of a manifest."""
    plain = msgspec.json.encode(manifest, order="sorted")
    return msgspec.json.format(plain, indent=2) + b"\n"


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest and check what types alone cannot.

    Raises:
        BundleError: Not JSON, another schema, unknown keys, unsafe paths, or references to unlisted files.
    """
    try:
        header = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{MANIFEST_NAME} is not JSON: {error}") from error
    schema = header.get("schema") if isinstance(header, dict) else None
    if schema != SCHEMA:
        raise BundleError(
            f"{MANIFEST_NAME} has schema {schema!r}, expected {SCHEMA}: "
            "the bundle was made for another version of sspcab-edge"
        )
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"{MANIFEST_NAME} is not a valid manifest: {error}") from error
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    """Raise BundleError where a manifest contradicts itself."""
    if manifest.contract != CONTRACT_VERSION:
        raise BundleError(
            f"{MANIFEST_NAME} has graph contract {manifest.contract}, expected {CONTRACT_VERSION}: "
            "the bundle was made for another version of sspcab-edge"
        )
    listed = [entry.path for entry in manifest.files]
    if len(set(listed)) != len(listed):
        raise BundleError(f"{MANIFEST_NAME} lists a file twice")
    for entry in manifest.files:
        parts = entry.path.split("/")
        if not all(parts) or any(part in (".", "..") for part in parts) or "\\" in entry.path:
            raise BundleError(f"{MANIFEST_NAME} lists the unsafe path {entry.path!r}")
        if entry.path == MANIFEST_NAME or "\0" in entry.path:
            raise BundleError(f"{MANIFEST_NAME} lists the unsafe path {entry.path!r}")
        if entry.size < 0 or not _SHA256.match(entry.sha256):
            raise BundleError(f"{MANIFEST_NAME} has no usable size and SHA-256 for {entry.path!r}")
    wanted = [manifest.parity_pack.index, *(file for a in manifest.artifacts for file in a.files)]
    wanted += _front_end_files(manifest.front_end)
    for file in wanted:
        if file not in listed:
            raise BundleError(f"{MANIFEST_NAME} refers to {file!r}, which it does not list")
    names = [artifact.name for artifact in manifest.artifacts]
    if not names or len(set(names)) != len(names):
        raise BundleError(f"{MANIFEST_NAME} has artifacts {names}, expected one or more, each once")
    for artifact in manifest.artifacts:
        if not artifact.files:
            raise BundleError(f"{MANIFEST_NAME} has no files for artifact {artifact.name}")
        _check_rising(artifact.score_map, f"the score map of {artifact.name}")
    _check_ports(manifest)
    size = manifest.preprocess
    if not (0 < size.width <= 8192 and 0 < size.height <= 8192):
        raise BundleError(f"{MANIFEST_NAME} asks for frames of {size.width}x{size.height} pixels")
    if manifest.score is not None and not _SCORE.match(manifest.score):
        raise BundleError(
            f"{MANIFEST_NAME} has the score {manifest.score!r}, expected map-max, map-mean or "
            "map-mean-filter:K"
        )
    check_front_end(manifest.front_end, size)


def _check_ports(manifest: Manifest) -> None:
    """Refuse a graph behind a front-end that does not make its inputs."""
    kind = manifest.front_end.kind
    names = {port.name for port in manifest.inputs}
    ranks = {len(port.shape) for port in manifest.inputs if port.name == "frames"}
    wanted = {"objects": "appearance"}.get(kind, "frames")
    if wanted not in names or (wanted == "frames" and ranks != {5 if kind == "clip" else 4}):
        raise BundleError(
            f"{MANIFEST_NAME} has a front-end of kind {kind} for a graph that takes "
            f"{', '.join(sorted(f'{port.name} {port.layout}' for port in manifest.inputs))}: they do not fit"
        )


def _check_rising(knots: ScoreMap, name: str) -> None:
    rising = all(low < high for axis in (knots.artifact, knots.source) for low, high in pairwise(axis))
    if len(knots.artifact) != len(knots.source) or len(knots.artifact) == 1 or not rising:
        raise BundleError(f"{name} is not strictly increasing")


def _front_end_files(spec: FrontEndSpec) -> list[str]:
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
        _check_rising(level, f"the level of tile {number}")
