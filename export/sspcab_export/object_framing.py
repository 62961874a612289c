"""The front-end of hosts that look at clips or objects, as a manifest has it."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import onnx_ir as ir

from sspcab_edge.errors import BundleError, OptionError, OutputError
from sspcab_edge.manifest import (
    DetectorHead,
    FlowSpec,
    FrontEndSpec,
    Objects,
    Proposals,
    check_front_end,
)
from sspcab_export.framing import FrontEndOptions, make_geometry
from sspcab_export.graph import load_graph
from sspcab_export.hosts import LoadedHost

__all__ = ["make_video_front_end", "read_detector"]

_DETECTOR = "front_end/detector.onnx"
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
    if not pairs and options.flow_size is not None:
        raise OptionError(f"--flow-size is of no use for {host.name}: its graph takes no flow")
    spec = msgspec.structs.replace(
        plain,
        kind="objects",
        objects=Objects(
            proposals=proposals,
            flow=_flow(options, plain) if pairs else None,
            empty_score=host.video.empty_score if host.fit is None else 0.0,
            smoothing=options.smoothing,
        ),
    )
    try:
        check_front_end(spec, host.preprocess)
    except BundleError as error:
        raise OptionError(f"the front-end does not fit: {error}") from error
    return spec


def _flow(options: FrontEndOptions, plain: FrontEndSpec) -> FlowSpec:
    if options.flow_size is not None:
        height, width = options.flow_size
        return FlowSpec(width=width, height=height)
    assert plain.frame is not None
    box = plain.region or plain.frame
    width = min(box.width, _FLOW_WIDTH)
    return FlowSpec(width=width, height=max(8, round(box.height * width / box.width)))


def _take_detector(options: FrontEndOptions, folder: Path) -> DetectorHead:
    assert options.detector is not None
    head = read_detector(options.detector)
    head = msgspec.structs.replace(
        head, classes=options.classes, confidence=options.confidence or head.confidence
    )
    try:
        (folder / _DETECTOR).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(options.detector, folder / _DETECTOR)
    except OSError as error:
        raise OutputError(f"cannot write {folder / _DETECTOR}: {error.strerror}") from error
    return head


def read_detector(path: Path) -> DetectorHead:
    """What a detector's ONNX file takes and gives, told by its shapes; see :class:`DetectorHead`.

    Raises:
        GraphError: The file is no valid ONNX model.
        OptionError: Its input or its head is none that is known.
    """
    model = load_graph(path)
    if len(model.graph.inputs) != 1:
        raise OptionError(f"{path} takes {len(model.graph.inputs)} inputs, expected one picture")
    (picture,) = model.graph.inputs
    shape = _shape(picture)
    if len(shape) == 4 and shape[3] == 3 and picture.dtype == ir.DataType.UINT8:
        height, width = shape[1], shape[2]
    elif len(shape) == 4 and shape[1] == 3 and picture.dtype == ir.DataType.FLOAT:
        height, width = shape[2], shape[3]
    else:
        raise OptionError(
            f"{path} takes {picture.name} {shape} {picture.dtype}, expected float32 (1, 3, H, W) or uint8 "
            "(1, H, W, 3)"
        )
    if not (isinstance(height, int) and isinstance(width, int)):
        raise OptionError(f"{path} takes pictures of any size: export it with a fixed one, as in imgsz=416")
    if shape[0] not in (1, None) and isinstance(shape[0], int):
        raise OptionError(f"{path} takes {shape[0]} pictures at a time, expected one")
    output = model.graph.outputs[0]
    given = _shape(output)
    head = _head(given, picture.dtype == ir.DataType.UINT8)
    if len(model.graph.outputs) != 1 or output.dtype != ir.DataType.FLOAT or head is None:
        names = ", ".join(f"{value.name} {_shape(value)}" for value in model.graph.outputs)
        raise OptionError(
            f"{path} has a head that is not known: it gives {names}; expected one float32 output (1, K, 6) "
            "of final boxes, (1, 4 + C, K) as YOLOv8 to 11, or (1, K, 5 + C) as YOLOv5 and 7"
        )
    return DetectorHead(
        file=_DETECTOR,
        head=head,  # type: ignore[arg-type]
        input=str(picture.name),
        output=str(output.name),
        width=width,
        height=height,
        shape=tuple("K" if size is None else size for size in given),
    )


def _head(shape: list[int | None], pixels: bool) -> str | None:
    if len(shape) != 3 or shape[0] not in (1, None):
        return None
    _, second, third = shape
    if third == 6 and (pixels or second is None or second <= 1000):
        return "boxes" if pixels else "yolo-end-to-end"
    if pixels:
        return None
    if second is not None and second > 4 and (third is None or third > second):
        return "yolo"
    return "yolo-anchor" if third is not None and third > 5 and (second is None or second > third) else None


def _shape(value: ir.Value) -> list[int | None]:
    if value.shape is None:
        return []
    return [size if isinstance(size, int) else None for size in value.shape]
