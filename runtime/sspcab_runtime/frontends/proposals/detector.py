"""Objects as an object detector of the bundle finds them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import BundleError, EngineError
from sspcab_edge.front_end_spec import DetectorHead, Proposals
from sspcab_edge.ports import Array, Port
from sspcab_runtime.frontends.boxes import Boxes, plausible
from sspcab_runtime.frontends.side_network import open_side_network

__all__ = ["Candidates", "ObjectDetector", "letterbox", "read_head"]

_GREY = 114
"""What YOLO's authors fill margins with."""

Candidates = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]
"""Boxes (K, 4) in the detector's pixels, their scores (K,) and classes (K,)."""


class ObjectDetector:
    """A detector's boxes, the surest first. Remembers nothing.

    Args:
        spec: Says what the detector takes and gives.
        folder: The bundle's.

    Raises:
        BundleError: No folder was given.
        MissingPackageError: Neither OpenVINO nor ONNX Runtime is installed.
        EngineError: The file is refused.
    """

    def __init__(self, spec: Proposals, folder: Path | None) -> None:
        head = spec.detector
        if head is None or folder is None:
            raise BundleError(
                "proposals of a detector need its file: open the front-end with the bundle's folder"
            )
        self._spec, self._head = spec, head
        size: tuple[int, ...] = (1, 3, head.height, head.width)
        dtype, layout = "float32", "NCHW"
        if head.head == "boxes":
            size, dtype, layout = (1, head.height, head.width, 3), "uint8", "NHWC"
        taken = Port(name=head.input, dtype=dtype, shape=size, layout=layout, colour="RGB")
        given = Port(name=head.output, dtype="float32", shape=head.shape, layout="NKB")
        self._engine = open_side_network(folder / head.file, (taken,), given)

    def propose(self, pixels: npt.NDArray[np.uint8]) -> Boxes:
        """Boxes in one frame, after non-maximum suppression by class."""
        head = self._head
        picture, scale, left, top = letterbox(pixels, head.width, head.height)
        taken: Array = picture[None]
        if head.head != "boxes":
            taken = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        found = self._engine.infer({head.input: taken})[head.output]
        boxes, scores, classes = read_head(np.asarray(found, np.float64), head)
        best = _suppressed(boxes, scores, classes, head)
        height, width = pixels.shape[:2]
        moved = (boxes[best] - np.array([left, top, left, top])) / scale
        corners = np.concatenate([np.floor(moved[:, :2]), np.ceil(moved[:, 2:])], axis=1)
        limited = np.clip(corners, 0, [width, height, width, height]).astype(np.int64)
        kept = plausible(limited, self._spec.min_area, self._spec.max_aspect)
        return np.asarray(limited[kept], np.int64)

    def reset(self) -> None:
        """Nothing is remembered, so nothing is forgotten."""


def letterbox(
    pixels: npt.NDArray[np.uint8], width: int, height: int
) -> tuple[npt.NDArray[np.uint8], float, int, int]:
    """A frame inside of a grey picture of the detector's size, in the middle, never enlarged.

    Returns:
        (height, width, 3) uint8, how many times smaller the frame became, and its left and top there.
    """
    rows, columns = pixels.shape[:2]
    scale = min(width / columns, height / rows, 1.0)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    picture = np.full((height, width, 3), _GREY, np.uint8)
    picture[top : top + size[1], left : left + size[0]] = small
    return picture, scale, left, top


def read_head(found: npt.NDArray[np.float64], head: DetectorHead) -> Candidates:
    """Candidates with enough confidence and of a class that counts; see :class:`DetectorHead` for the heads.

    Raises:
        EngineError: The detector gave what is no number.
    """
    rows = found[0].T if head.head == "yolo" else found[0]
    if not np.isfinite(rows).all():
        raise EngineError("the object detector gave what is no number: its file is damaged, or overflows")
    if head.head in ("boxes", "yolo-end-to-end"):
        boxes, scores, classes = rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64)
    else:
        first = 5 if head.head == "yolo-anchor" else 4
        by_class = rows[:, first:] * (rows[:, 4:5] if head.head == "yolo-anchor" else 1.0)
        classes = by_class.argmax(axis=1)
        scores = np.take_along_axis(by_class, classes[:, None], axis=1)[:, 0]
        half = rows[:, 2:4] / 2
        boxes = np.concatenate([rows[:, :2] - half, rows[:, :2] + half], axis=1)
    kept = scores >= head.confidence
    if head.classes:
        kept &= np.isin(classes, head.classes)
    return boxes[kept], scores[kept], classes[kept]


def _suppressed(
    boxes: npt.NDArray[np.float64],
    scores: npt.NDArray[np.float64],
    classes: npt.NDArray[np.int64],
    head: DetectorHead,
) -> npt.NDArray[np.int64]:
    """Which boxes are left, the surest first."""
    order = np.argsort(-scores, kind="stable")
    if head.head in ("boxes", "yolo-end-to-end") or not len(order):
        return order
    sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxesBatched(
        sides.tolist(), scores.tolist(), classes.tolist(), head.confidence, head.overlap
    )
    chosen = np.asarray(kept, np.int64).ravel()
    return chosen[np.argsort(-scores[chosen], kind="stable")]
