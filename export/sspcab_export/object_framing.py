"""The front-end of hosts that look at clips or objects, as a manifest has it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from sspcab_edge.errors import BundleError, OptionError
from sspcab_edge.front_end_spec import (
    DetectorHead,
    FlowSpec,
    FrontEndSpec,
    Objects,
    Proposals,
    check_front_end,
)
from sspcab_export.framing import make_geometry
from sspcab_export.front_end_options import FrontEndOptions
from sspcab_export.hosts import LoadedHost
from sspcab_export.side_networks import put_file, read_detector, take_flow_network

__all__ = ["make_video_front_end"]

_AREA_SHARE = 1500
"""An object has at least this part of the frame: 153 pixels of 640 x 360."""

_FLOW_WIDTH = 320
_WARM_UP = {"background": 30, "difference": 1, "detector": 0}


def make_video_front_end(
    options: FrontEndOptions, host: LoadedHost, size: tuple[int, int], folder: Path
) -> FrontEndSpec:
    """The front-end of a bundle in the making.

    Args:
        options: What the user asks for.
        host: Says what its graph takes.
        size: (height, width) of a frame, where the user does not say it.
        folder: The bundle's; mask and detector are written there.

    Raises:
        OptionError: The parts do not fit each other or the host.
        GraphError: The detector is no valid ONNX file.
        PictureError: The mask cannot be decoded.
        OutputError: The folder cannot be written to.
    """
    assert host.video is not None
    if options.tiles or options.reference is not None:
        raise OptionError(f"--tiles and --register are for pictures of parts: {host.name} looks at videos")
    plain = make_geometry(options, size, folder)
    if host.video.empty_score is None:
        options.refuse_objects(host.name)
        return msgspec.structs.replace(plain, kind="clip") if not options.plain else FrontEndSpec(kind="clip")
    assert plain.frame is not None
    kind = "detector" if options.detector is not None else options.proposals or "background"
    if options.detector is not None and options.proposals not in (None, "detector"):
        raise OptionError(f"--detector finds the objects: leave --proposals {options.proposals} out")
    if kind == "detector" and options.detector is None:
        raise OptionError("--proposals detector needs its ONNX file: give --detector FILE")
    if options.detector is None and (options.classes or options.confidence is not None):
        raise OptionError("--detector-class and --detector-confidence are about --detector FILE")
    frame = plain.frame
    proposals = Proposals(
        kind=kind,
        min_area=options.min_area or max(1, frame.width * frame.height // _AREA_SHARE),
        limit=options.max_objects,
        warm_up=_WARM_UP[kind],
        detector=None if options.detector is None else _take_detector(options, folder),
    )
    pairs = any(port.pairs for port in host.video.inputs)
    if not pairs:
        options.refuse_flow(host.name)
    spec = msgspec.structs.replace(
        plain,
        kind="objects",
        objects=Objects(
            proposals=proposals,
            flow=_flow(options, plain, folder) if pairs else None,
            empty_score=host.video.empty_score if host.fit is None else 0.0,
            smoothing=options.smoothing,
        ),
    )
    try:
        check_front_end(spec, host.preprocess)
    except BundleError as error:
        raise OptionError(f"the front-end does not fit: {error}") from error
    return spec


def _flow(options: FrontEndOptions, plain: FrontEndSpec, folder: Path) -> FlowSpec:
    if options.flow is not None:
        if options.flow_size is not None or options.flow_preset != "ultrafast":
            raise OptionError(
                "--flow-size and --flow-preset are about inverse search: leave them or --flow out"
            )
        return take_flow_network(options.flow, options.flow_range, folder)
    if options.flow_range != (0.0, 255.0):
        raise OptionError("--flow-range is about a flow network: give --flow FILE")
    preset = options.flow_preset
    if options.flow_size is not None:
        height, width = options.flow_size
        return FlowSpec(width=width, height=height, preset=preset)
    assert plain.frame is not None
    box = plain.region or plain.frame
    width = min(box.width, _FLOW_WIDTH)
    return FlowSpec(width=width, height=max(8, round(box.height * width / box.width)), preset=preset)


def _take_detector(options: FrontEndOptions, folder: Path) -> DetectorHead:
    assert options.detector is not None
    head = read_detector(options.detector)
    head = msgspec.structs.replace(
        head, classes=options.classes, confidence=options.confidence or head.confidence
    )
    put_file(options.detector, folder / head.file)
    return head
