"""Evidence on disk: written by a thread of its own, bounded in size, never in the way of an event."""

from __future__ import annotations

import logging
import os
import queue
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import EdgeError
from sspcab_edge.protocols import Verdict
from sspcab_runtime.cache import write_atomically
from sspcab_runtime.daemon.config import EvidenceConfig
from sspcab_runtime.daemon.events import Event, EvidenceFiles
from sspcab_runtime.daemon.evidence.clips import Recent, Still, make_clip, small_jpeg
from sspcab_runtime.daemon.found import scored_objects
from sspcab_runtime.daemon.kept_thread import KeptThread
from sspcab_runtime.overlay import draw_overlay

__all__ = ["EvidenceKeeper"]

_LOG = logging.getLogger(__name__)

_QUALITY = 90
_JOBS = 64
_LONGEST_S = 60.0
"""Of a clip."""
_SAFE = re.compile(r"[0-9]{8}/[0-9a-f]{8,64}-(frame\.jpg|overlay\.jpg|clip\.(mp4|webm))")

Pixels = npt.NDArray[np.uint8]
Map = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Still:
    camera: str
    pixels: Pixels
    monotonic_s: float


@dataclass(frozen=True, eq=False)
class _Opened:
    event: Event
    pixels: Pixels
    heat_map: Map | None
    heat: tuple[float, float] | None
    done: Callable[[Event], None]


@dataclass(frozen=True, eq=False)
class _Closed:
    event: Event
    due_s: float
    done: Callable[[Event], None]


class EvidenceKeeper:
    """Keeps the pictures of events.

    An event goes on to ``done`` when its pictures are written, or at once without them where this thread is
    behind or the disk is full. The opening event has frame and overlay; the closing one has the clip, and
    waits ``after_s`` for it.

    Args:
        folder: Where files are kept.
        config: The evidence table.
    """

    def __init__(self, folder: Path, config: EvidenceConfig) -> None:
        self._folder, self._config = folder, config
        self._queue: queue.Queue[_Still | _Opened | _Closed | None] = queue.Queue(_JOBS)
        self._recent: dict[str, Recent] = {}
        self._next_s: dict[str, float] = {}
        self._opened: dict[str, tuple[float, EvidenceFiles]] = {}
        self._closing: list[_Closed] = []
        self._size = 0
        self.missing = 0
        self._job: _Still | _Opened | _Closed | None = None
        self.thread = KeptThread("evidence", self._run)

    def start(self) -> None:
        """Begin."""
        self._size = sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file())
        self.thread.start()

    def frame(self, camera: str, pixels: Pixels, monotonic_s: float) -> None:
        """A frame that was judged, (H, W, 3) uint8 RGB: some of them become clips. Copied if so."""
        if "clip" not in self._config.keep or monotonic_s < self._next_s.get(camera, float("-inf")):
            return
        self._next_s[camera] = monotonic_s + 1 / self._config.clip_fps
        step = max(1, max(pixels.shape[:2]) // 1280)
        try:
            self._queue.put_nowait(_Still(camera, pixels[::step, ::step].copy(), monotonic_s))
        except queue.Full:
            self.missing += 1

    def opened(
        self,
        event: Event,
        pixels: Pixels,
        heat_map: Map | None,
        heat: tuple[float, float] | None,
        done: Callable[[Event], None],
    ) -> None:
        """An alarm was opened by this frame, with this (h, w) map. Both are copied."""
        copied = None if heat_map is None else heat_map.copy()
        self._put(_Opened(event, pixels.copy(), copied, heat, done))

    def closed(self, event: Event, done: Callable[[Event], None]) -> None:
        """It is over."""
        self._put(_Closed(event, time.monotonic() + self._config.after_s, done))

    def read(self, path: str) -> bytes | None:
        """A file by its relative path; None where there is none, or the path is none of ours."""
        if _SAFE.fullmatch(path) is None:
            return None
        file = self._folder / path
        try:
            fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        with os.fdopen(fd, "rb") as opened:
            return opened.read()

    def stop(self, seconds: float) -> None:
        """Let go of what waits, with what pictures there are, and end."""
        self.thread.ending.set()
        try:
            self._queue.put(None, timeout=seconds)
        except queue.Full:
            _LOG.warning("evidence is behind: some events go without")
        self.thread.join(seconds)

    # the thread

    def _put(self, job: _Opened | _Closed) -> None:
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            self.missing += 1
            job.done(job.event)

    def _run(self) -> None:
        if self._job is not None and not isinstance(self._job, _Still):
            self._job.done(self._job.event)  # an error ended this thread over it: it goes without pictures
            self.missing += 1
        while True:
            self._job = None
            wait_s = (
                min((job.due_s for job in self._closing), default=time.monotonic() + 5) - time.monotonic()
            )
            try:
                job = self._queue.get(timeout=max(0.01, wait_s))
            except queue.Empty:
                job = False  # type: ignore[assignment]
            if job is None:
                break
            self._job = job or None
            if isinstance(job, _Still):
                recent = self._recent.setdefault(job.camera, Recent(_LONGEST_S + self._config.before_s))
                recent.add(Still(job.monotonic_s, small_jpeg(job.pixels)))
            elif isinstance(job, _Opened):
                self._open(job)
            elif isinstance(job, _Closed):
                self._closing.append(job)
            now = time.monotonic()
            for closed in [closing for closing in self._closing if closing.due_s <= now]:
                self._job = closed
                self._closing.remove(closed)
                self._close(closed)
        for closed in self._closing:
            closed.done(closed.event)
        self._job = None

    def _open(self, job: _Opened) -> None:
        event = job.event
        files: dict[str, str] = {}
        verdict = Verdict(event.score, event.threshold, True, job.heat_map, scored_objects(event.objects))
        if "frame" in self._config.keep:
            self._write(files, event, "frame", "jpg", lambda: _jpeg(job.pixels))
        if "overlay" in self._config.keep:
            self._write(
                files,
                event,
                "overlay",
                "jpg",
                lambda: _jpeg(draw_overlay(job.pixels, verdict, heat=job.heat)),
            )
        evidence = EvidenceFiles(**files)
        self._opened[event.event_id] = (event.monotonic_s, evidence)
        job.done(msgspec.structs.replace(event, evidence=evidence) if files else event)

    def _close(self, job: _Closed) -> None:
        event = job.event
        begin_s, evidence = self._opened.pop(event.event_id, (event.monotonic_s, EvidenceFiles()))
        recent = self._recent.get(event.camera)
        files: dict[str, str] = {}
        if "clip" in self._config.keep and recent is not None:
            stills = recent.since(begin_s - self._config.before_s)[: int(_LONGEST_S * self._config.clip_fps)]
            try:
                clip = make_clip(stills)
            except (EdgeError, OSError, ValueError) as error:
                _LOG.warning("no clip: %s", error)
                clip = None
            if clip is not None:
                data, kind = clip
                self._write(files, event, "clip", kind, lambda: data)
        evidence = msgspec.structs.replace(evidence, **files)
        job.done(msgspec.structs.replace(event, evidence=evidence))

    def _write(
        self, files: dict[str, str], event: Event, what: str, suffix: str, make: Callable[[], bytes]
    ) -> None:
        """Write one file; an event without it is better than none."""
        day = time.strftime("%Y%m%d", time.gmtime(event.wall_s))
        path = f"{day}/{event.event_id}-{what}.{suffix}"
        data = make()
        try:
            self._make_room(len(data))
            (self._folder / day).mkdir(parents=True, exist_ok=True)
            write_atomically(self._folder / path, data)
        except OSError as error:
            self.missing += 1
            _LOG.warning("no %s is kept of an event: %s", what, error.strerror)
            self.thread.say(f"pictures of events cannot be kept: {error.strerror}")
            return
        self.thread.say("")
        self._size += len(data)
        files[what] = path

    def _make_room(self, more: int) -> None:
        if self._size + more <= self._config.max_mb * 2**20:
            return
        oldest = sorted(
            (file for file in self._folder.rglob("*") if file.is_file()),
            key=lambda file: file.stat().st_mtime,
        )
        for file in oldest:
            if self._size + more <= 0.9 * self._config.max_mb * 2**20:
                break
            self._size -= file.stat().st_size
            file.unlink()


def _jpeg(pixels: Pixels) -> bytes:
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    return data.tobytes()
