"""Networks that a front-end asks besides the host's, told by the shapes of their ONNX files."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from sspcab_edge.errors import OptionError, OutputError
from sspcab_edge.front_end_spec import DetectorHead, FlowNetwork, FlowSpec
from sspcab_export.graph import load_graph, save_graph

__all__ = ["put_file", "read_detector", "take_flow_network"]

_DETECTOR = "front_end/detector.onnx"
_FLOW = "front_end/flow.onnx"


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
    height, width = _picture_size(path, picture)
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


def take_flow_network(path: Path, levels: tuple[float, float], folder: Path) -> FlowSpec:
    """Put an optical flow network into a bundle: what it takes and gives, told by its shapes.

    See :class:`FlowNetwork`. Of several outputs that may be flow the largest is taken, of equal ones the
    last: iterative networks give their best answer at the end. The file in the bundle has that output alone.

    Args:
        path: An ONNX file.
        levels: What pixels 0 and 255 are to it, where it takes float32.
        folder: The bundle's.

    Raises:
        GraphError: The file is no valid ONNX model.
        OptionError: Its inputs or outputs are none that are known.
        OutputError: The folder cannot be written to.
    """
    model = load_graph(path)
    if len(model.graph.inputs) != 2:
        raise OptionError(f"{path} takes {len(model.graph.inputs)} inputs, expected two frames")
    first, second = model.graph.inputs
    height, width = _picture_size(path, first)
    if (first.dtype, _shape(first)[1:]) != (second.dtype, _shape(second)[1:]):
        raise OptionError(f"{path} takes {_shape(first)} and {_shape(second)}, expected frames of one size")
    fields = [(area, value) for value in model.graph.outputs if (area := _flow_area(value, height, width))]
    if not fields:
        names = ", ".join(f"{value.name} {_shape(value)} {value.dtype}" for value in model.graph.outputs)
        raise OptionError(
            f"{path} gives no flow: it gives {names}; expected float32 (1, 2, h, w) or (1, h, w, 2), no "
            f"larger than its frames of {width}x{height}"
        )
    largest = max(area for area, _ in fields)
    output = [value for area, value in fields if area == largest][-1]
    spec = FlowSpec(
        width=width,
        height=height,
        network=FlowNetwork(
            file=_FLOW,
            first=str(first.name),
            second=str(second.name),
            output=str(output.name),
            pixels=first.dtype == ir.DataType.UINT8,
            shape=tuple("N" if size is None else size for size in _shape(output)),
            low=levels[0],
            high=levels[1],
        ),
    )
    if len(model.graph.outputs) == 1:
        put_file(path, folder / _FLOW)
    else:
        model.graph.outputs[:] = [output]
        RemoveUnusedNodesPass()(model)
        _make_room(folder / _FLOW)
        save_graph(model, folder / _FLOW)
    return spec


def put_file(file: Path, to: Path) -> None:
    """Copy a file into a bundle.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        _make_room(to)
        shutil.copyfile(file, to)
    except OSError as error:
        raise OutputError(f"cannot write {to}: {error.strerror}") from error


def _make_room(to: Path) -> None:
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {to}: {error.strerror}") from error


def _flow_area(value: ir.Value, height: int, width: int) -> int:
    """Pixels of a flow field; 0 where it is none."""
    shape = _shape(value)
    if value.dtype != ir.DataType.FLOAT or len(shape) != 4 or shape[0] not in (1, None) or 2 not in shape[1:]:
        return 0
    rows, columns = shape[2:] if shape[1] == 2 else shape[1:3]
    if shape[1] != 2 and shape[3] != 2:
        return 0
    if rows is None or columns is None or rows > height or columns > width:
        return 0
    return rows * columns


def _picture_size(path: Path, picture: ir.Value) -> tuple[int, int]:
    """(height, width) of a picture that goes in.

    Raises:
        OptionError: It is no picture, of any size, or several.
    """
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
    if height is None or width is None:
        raise OptionError(f"{path} takes pictures of any size: export it with a fixed one, as in imgsz=416")
    if shape[0] not in (1, None):
        raise OptionError(f"{path} takes {shape[0]} pictures at a time, expected one")
    return height, width


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
