"""The front-end for hosts that score objects: find them, cut out how they look and move, sum up the frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.decision import is_anomalous
from sspcab_edge.errors import BundleError
from sspcab_edge.manifest import Artifact, Manifest
from sspcab_edge.ports import Array
from sspcab_edge.protocols import Frame, Request, ScoredObject, Verdict
from sspcab_runtime.frontends.boxes import Boxes, grown, no_boxes, scaled
from sspcab_runtime.frontends.keeping import kept
from sspcab_runtime.frontends.optical_flow import FlowField, open_flows
from sspcab_runtime.frontends.proposals import open_proposer
from sspcab_runtime.frontends.scores import on_source_scale
from sspcab_runtime.frontends.view import View, open_view
from sspcab_runtime.frontends.zones import read_inside

__all__ = ["ObjectFrontEnd"]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A frame in the ring: as it came, the region of it, and the boxes in that."""

    number: int
    frame: Frame
    pixels: Pixels
    boxes: Boxes


@dataclass(frozen=True, slots=True)
class _Asked:
    """What merging wants to know: boxes in pixels of the frame as it came.

    Attributes:
        boxes: Of the objects that are judged.
        ignored: How many more there were.
        warming: Whether there is no verdict yet.
        fresh: Whether frames before this one are forgotten.
    """

    boxes: Boxes
    ignored: int
    warming: bool
    fresh: bool


class ObjectFrontEnd:
    """One frame in, one entry of the batch for each object, one verdict out.

    A graph whose ports look at later frames gets its verdicts as many frames late. Frames are numbered from
    the last gap; a frame of another size is a gap.

    Args:
        manifest: Of the bundle; its front-end has ``frame`` and ``objects``, its ports their time windows.
        artifact: Says how its scores are mapped onto the source's scale.
        threshold: On the source's scale, or None for scores without labels.
        folder: The bundle's, where the front-end has a mask, a detector or a flow network.

    Attributes:
        behind: How many frames before the judged one are needed.
        ahead: How many after it.

    Raises:
        BundleError: The manifest says nothing of objects, or a file of the front-end cannot be read.
        MissingPackageError: A detector or a flow network has no engine here.
        EngineError: The file of one is refused.
    """

    remembers = True

    def __init__(
        self, manifest: Manifest, artifact: Artifact, threshold: float | None, folder: Path | None = None
    ) -> None:
        spec = manifest.front_end
        view = open_view(spec, folder)
        ports = {port.name: port for port in manifest.inputs}
        if spec.objects is None or view is None or "appearance" not in ports:
            raise BundleError("the front-end looks for objects but its graph takes none: export it again")
        self.threshold = threshold
        self._view: View = view
        self._spec = spec.objects
        self._score_map = artifact.score_map
        self._size = (manifest.preprocess.width, manifest.preprocess.height)
        self._window = ports["appearance"].window
        flow = ports.get("flow")
        self._pairs = () if flow is None else flow.pairs
        self._scale = np.float32(1.0 if flow is None else flow.scale)
        if self._pairs and spec.objects.flow is None:
            raise BundleError("the graph takes flow, and the front-end does not say how: export it again")
        self._flows = None if spec.objects.flow is None else open_flows(spec.objects.flow, folder)
        offsets = [*self._window, *(offset for pair in self._pairs for offset in pair), 0]
        self.behind, self.ahead = -min(offsets), max(offsets)
        self._inside = read_inside(spec, folder)
        self._proposer = open_proposer(spec.objects.proposals, folder)
        self._ring: deque[_Seen] = deque(maxlen=self.behind + self.ahead + 1)
        self._recent: deque[float] = deque(maxlen=spec.objects.smoothing)
        self._number = 0
        self._shape: tuple[int, ...] | None = None
        self._fresh = True

    def push(self, frame: Frame) -> Request | None:
        """``appearance`` and ``flow`` of the objects in the frame, or in the one ``ahead`` frames before it.

        Raises:
            InputError: The frame is not (H, W, 3) uint8.
        """
        pixels, _ = self._view.cut(frame)
        if frame.pixels.shape != self._shape:
            self._forget()
            self._shape = frame.pixels.shape
        boxes = self._judged_boxes(self._proposer.propose(pixels), pixels)
        self._ring.append(_Seen(self._number, frame, kept(pixels, frame), boxes))
        if self._flows is not None:
            self._flows.add(self._number, pixels)
            self._flows.forget(self._number - self.behind - self.ahead)
        self._number += 1
        if len(self._ring) <= self.ahead:
            return None
        judged = self._ring[-1 - self.ahead]
        about = judged.frame if self.ahead else None
        if judged.number < max(self.behind, self._spec.proposals.warm_up):
            return Request({}, context=_Asked(no_boxes(), 0, warming=True, fresh=False), frame=about)
        limit = self._spec.proposals.limit
        chosen = judged.boxes[:limit]
        asked = _Asked(
            self._on_frame(chosen, judged.frame), len(judged.boxes) - len(chosen), False, self._fresh
        )
        self._fresh = False
        return Request(self._cut(judged.number, chosen) if len(chosen) else {}, context=asked, frame=about)

    def merge(self, outputs: Mapping[str, Array], context: object) -> Verdict:
        """The verdict of one frame from ``score`` (objects,), or from nothing where there are none.

        Raises:
            EngineError: A score is not finite; no threshold could judge it.
        """
        assert isinstance(context, _Asked)
        if context.warming:
            return Verdict(score=None, threshold=self.threshold, anomalous=None)
        if context.fresh:
            self._recent.clear()
        scores = on_source_scale(self._score_map, outputs["score"]) if outputs else np.empty(0)
        self._recent.append(float(scores.max(initial=-np.inf)) if len(scores) else self._spec.empty_score)
        score = float(np.mean(self._recent))
        order = np.argsort(-scores, kind="stable")
        objects = tuple(
            ScoredObject((int(a), int(b), int(c), int(d)), float(scores[n]))
            for n in order
            for a, b, c, d in (context.boxes[n],)
        )
        return Verdict(
            score=score,
            threshold=self.threshold,
            anomalous=is_anomalous(score, self.threshold),
            objects=objects,
            ignored=context.ignored,
        )

    def reset(self) -> None:
        """Forget earlier frames and scores."""
        self._forget()
        self._recent.clear()

    def _forget(self) -> None:
        """What pushing remembers; merging is told by the next request, as it may be behind."""
        self._ring.clear()
        self._proposer.reset()
        if self._flows is not None:
            self._flows.forget(self._number + 1)
        self._number = 0
        self._shape = None
        self._fresh = True

    def _judged_boxes(self, boxes: Boxes, pixels: Pixels) -> Boxes:
        """Boxes in the region, grown, whose middle lies in a zone that is judged."""
        height, width = pixels.shape[:2]
        boxes = grown(boxes, self._spec.proposals.grow, width, height)
        if self._inside is None or not len(boxes):
            return boxes
        middles = (boxes[:, :2] + boxes[:, 2:] - 1) // 2
        return np.asarray(boxes[self._inside[middles[:, 1], middles[:, 0]]], np.int64)

    def _on_frame(self, boxes: Boxes, frame: Frame) -> Boxes:
        """Boxes in the region, in pixels of the frame as it came."""
        box, size = self._view.box, self._view.frame
        height, width = frame.pixels.shape[:2]
        moved = boxes + np.array([box.left, box.top, box.left, box.top])
        return scaled(moved, width / size.width, height / size.height)

    def _cut(self, number: int, boxes: Boxes) -> dict[str, Array]:
        """The inputs of the graph for boxes of the frame with this number."""
        first = self._ring[0].number
        frames = [self._ring[number + offset - first].pixels for offset in self._window]
        appearance = np.stack([np.stack([self._crop(pixels, box) for pixels in frames]) for box in boxes])
        inputs: dict[str, Array] = {"appearance": appearance}
        if self._flows is not None and self._pairs:
            fields = [self._flows.between(number + a, number + b) for a, b in self._pairs]
            height, width = frames[0].shape[:2]
            small = scaled(boxes, self._flows.size[0] / width, self._flows.size[1] / height)
            flow = np.stack([np.stack([self._crop(field, box) for field in fields]) for box in small])
            inputs["flow"] = np.asarray(flow if self._scale == 1 else flow * self._scale, np.float32)
        return inputs

    def _crop(self, picture: Pixels | FlowField, box: npt.NDArray[np.int64]) -> Pixels | FlowField:
        left, top, right, bottom = (int(side) for side in box)
        part = picture[top:bottom, left:right]
        return cv2.resize(part, self._size, interpolation=cv2.INTER_LINEAR)  # type: ignore[return-value]
