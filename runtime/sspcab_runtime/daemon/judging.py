"""Judging frames that lie in slots: a front-end per camera, one engine for all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EngineError, InputError, PictureError, RegistrationError
from sspcab_edge.manifest import Artifact
from sspcab_edge.ports import Array
from sspcab_edge.protocols import Engine, Frame, FrontEnd, Request, Verdict
from sspcab_runtime.calls import batch_limit, timed_answer
from sspcab_runtime.daemon.found import found_objects
from sspcab_runtime.daemon.messages import JudgedFrame, SlotFrame
from sspcab_runtime.daemon.slots import Slots
from sspcab_runtime.frontends.table import open_front_end

__all__ = ["Judging"]


@dataclass
class _Camera:
    slots: Slots
    front_end: FrontEnd


@dataclass(frozen=True)
class _Asked:
    """One frame on its way through the engine."""

    frame: SlotFrame
    camera: _Camera
    request: Request


class Judging:
    """Frames to verdicts, for several cameras.

    Args:
        bundle: Checked.
        artifact: What runs.
        engine: What it runs on.

    Attributes:
        own_cpu_s: CPU seconds of this thread outside of the engine, so far.
    """

    def __init__(self, bundle: Bundle, artifact: Artifact, engine: Engine) -> None:
        self._bundle, self._artifact, self._engine = bundle, artifact, engine
        self._cameras: dict[str, _Camera] = {}
        self.own_cpu_s = 0.0

    def add(self, camera: str, slots: Slots, threshold: float | None) -> None:
        """Frames of a camera will come; ``threshold`` None is the bundle's.

        Raises:
            BundleError: Its front-end cannot be set up.
        """
        self.remove(camera)
        judged_by = self._bundle.manifest.decision.threshold if threshold is None else threshold
        front_end = open_front_end(self._bundle.manifest, self._artifact, judged_by, self._bundle.path)
        self._cameras[camera] = _Camera(slots, front_end)

    def remove(self, camera: str) -> None:
        """Forget a camera, if it is known."""
        known = self._cameras.pop(camera, None)
        if known is not None:
            known.slots.close()

    def reset(self, camera: str) -> None:
        """There is a gap in a camera's frames."""
        if camera in self._cameras:
            self._cameras[camera].front_end.reset()

    def judge(self, frames: Sequence[SlotFrame]) -> tuple[tuple[JudgedFrame, ...], dict[str, float]]:
        """The verdicts of frames, in their order, and milliseconds by stage. Maps are left in the slots.

        Raises:
            EngineError: The engine failed, or gave scores that are no numbers.
        """
        start, cpu_start = time.perf_counter(), time.thread_time()
        judged: dict[int, JudgedFrame] = {}
        asked: dict[int, _Asked] = {}
        for number, frame in enumerate(frames):
            found = self._prepare(frame)
            if isinstance(found, JudgedFrame):
                judged[number] = found
            else:
                asked[number] = found
        prepared, cpu_prepared = time.perf_counter(), time.thread_time()
        answers, stages = self._answer([item.request for item in asked.values()])
        answered, cpu_answered = time.perf_counter(), time.thread_time()
        for (number, item), outputs in zip(asked.items(), answers, strict=True):
            judged[number] = self._finish(item, outputs)
        finished = time.perf_counter()
        stages["prepare"] = (prepared - start) * 1e3
        stages["finish"] = (finished - answered) * 1e3
        self.own_cpu_s += (cpu_prepared - cpu_start) + (time.thread_time() - cpu_answered)
        return tuple(judged[number] for number in range(len(frames))), stages

    def _prepare(self, frame: SlotFrame) -> _Asked | JudgedFrame:
        camera = self._cameras.get(frame.camera)
        if camera is None:
            return _fault(frame, "bad", f"no camera {frame.camera} was announced")
        try:
            pixels = camera.slots.pixels(frame.slot, frame.height, frame.width)
            request = camera.front_end.push(
                Frame(pixels, frame.number, frame.camera, frame.monotonic_s, frame.wall_s)
            )
        except RegistrationError as error:
            return _fault(frame, "moved", str(error))
        except PictureError as error:
            return _fault(frame, "size", str(error))
        except InputError as error:
            return _fault(frame, "bad", str(error))
        if request is None:
            return JudgedFrame(camera=frame.camera, slot=frame.slot, number=frame.number, score=None)
        return _Asked(frame, camera, request)

    def _answer(self, requests: Sequence[Request]) -> tuple[list[Mapping[str, Array]], dict[str, float]]:
        """What the engine gives for each request: in one call, where they fit into one."""
        if not all(request.inputs for request in requests):
            return self._one_by_one(requests)
        sizes = [_entries(request) for request in requests]
        limit = batch_limit(self._engine, None)
        together = len(requests) > 1 and _alike(requests) and (limit is None or sum(sizes) <= limit)
        if not together:
            return self._one_by_one(requests)
        inputs = {
            name: np.concatenate([request.inputs[name] for request in requests])
            for name in requests[0].inputs
        }
        outputs, spent = timed_answer(self._engine, Request(inputs))
        ends = np.cumsum(sizes)
        parts: list[Mapping[str, Array]] = [
            {name: array[end - size : end] for name, array in outputs.items()}
            for end, size in zip(ends, sizes, strict=True)
        ]
        return parts, dict(spent)

    def _one_by_one(self, requests: Sequence[Request]) -> tuple[list[Mapping[str, Array]], dict[str, float]]:
        answers: list[Mapping[str, Array]] = []
        stages: dict[str, float] = {}
        for request in requests:
            outputs, spent = timed_answer(self._engine, request) if request.inputs else ({}, {})
            # an engine may give views of its own buffers, which its next call overwrites
            answers.append({name: np.array(array) for name, array in outputs.items()})
            for stage, milliseconds in spent.items():
                stages[stage] = stages.get(stage, 0.0) + milliseconds
        return answers, stages

    def _finish(self, item: _Asked, outputs: Mapping[str, Array]) -> JudgedFrame:
        frame = item.frame
        if outputs and not np.isfinite(outputs["score"]).all():
            raise EngineError(f"{self._engine.backend} gave a score that is no number")
        verdict = item.camera.front_end.merge(outputs, item.request.context)
        height, width = _leave_map(item.camera.slots, frame.slot, verdict)
        return JudgedFrame(
            camera=frame.camera,
            slot=frame.slot,
            number=frame.number,
            score=verdict.score,
            map_height=height,
            map_width=width,
            objects=found_objects(verdict.objects),
        )


def _leave_map(slots: Slots, slot: int, verdict: Verdict) -> tuple[int, int]:
    """Write the map into the slot, smaller where it has no room; its size, or zeros."""
    found = verdict.map
    if found is None:
        return 0, 0
    height, width = found.shape
    room = slots.geometry.max_map
    if height * width > room:
        factor = (room / (height * width)) ** 0.5
        height, width = max(1, int(height * factor)), max(1, int(width * factor))
        found = np.asarray(cv2.resize(found, (width, height), interpolation=cv2.INTER_AREA), np.float32)
    slots.map(slot, height, width)[:] = found
    return height, width


def _fault(frame: SlotFrame, fault: str, message: str) -> JudgedFrame:
    return JudgedFrame(
        camera=frame.camera,
        slot=frame.slot,
        number=frame.number,
        score=None,
        fault=fault,  # type: ignore[arg-type]
        message=message,
    )


def _entries(request: Request) -> int:
    return max((len(array) for array in request.inputs.values()), default=0)


def _alike(requests: Sequence[Request]) -> bool:
    """Whether their inputs can be put one behind the other."""
    shapes = [{name: array.shape[1:] for name, array in request.inputs.items()} for request in requests]
    whole = all(len({len(array) for array in request.inputs.values()}) == 1 for request in requests)
    return (
        whole
        and all(request.batch is None for request in requests)
        and all(shape == shapes[0] for shape in shapes)
    )
