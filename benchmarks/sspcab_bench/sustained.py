"""A long run at full speed: the first minute's figure is not the third's on a box that gets hot."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from sspcab_bench.inputs import endless_frames
from sspcab_bench.phases import with_score
from sspcab_bench.sensors import Sample, Sensors, Watch, Watched, summarise_samples
from sspcab_bench.summary import Statistics, summarise
from sspcab_edge.bundle import Bundle
from sspcab_runtime.detector import Detector
from sspcab_runtime.frontends import open_front_end
from sspcab_runtime.opening import open_first, wanted_settings

__all__ = ["SLOWED", "Point", "Sustained", "run_sustained"]

SLOWED = 0.95
"""The last third is slower than this share of the first third: the run slowed down."""


@dataclass(frozen=True, slots=True)
class Point:
    """A part of the run.

    Attributes:
        at_s: Its end, from the beginning of the run.
        fps: Frames a second in it.
        gaps: Times between verdicts in milliseconds.
        hottest_c: Highest temperature at its end, or None. Also ``clock_mhz``, ``power_mw``.
    """

    at_s: float
    fps: float
    gaps: Statistics
    hottest_c: float | None
    clock_mhz: float | None
    power_mw: float | None


@dataclass(frozen=True, slots=True)
class Sustained:
    """The run.

    Attributes:
        artifact: That ran. Also its ``backend``.
        frames: Verdicts given.
        points: Its parts, in order.
        watched: What sensors said.
    """

    artifact: str
    backend: str
    frames: int
    points: tuple[Point, ...]
    watched: Watched

    @property
    def first_fps(self) -> float:
        """Median of the first third."""
        return statistics.median(point.fps for point in self.points[: max(1, len(self.points) // 3)])

    @property
    def last_fps(self) -> float:
        """Median of the last third."""
        return statistics.median(point.fps for point in self.points[-max(1, len(self.points) // 3) :])

    @property
    def slowed(self) -> bool:
        """Whether it ended slower than it began."""
        return self.last_fps < SLOWED * self.first_fps


def run_sustained(
    bundle: Bundle,
    *,
    backend: str | None,
    source: str | None = None,
    seconds: float,
    points: int,
    sensors: Sensors,
    progress: Callable[[Point], None] = lambda point: None,
) -> Sustained:
    """A source, or else the parity pack, again and again through the runtime's pipeline, stages overlapped.

    Raises:
        EdgeError: The bundle cannot be opened, or a frame failed.
    """
    settings = wanted_settings(bundle.manifest.artifacts, backend=backend)
    setting, engines = open_first(bundle, settings, fallback=backend is None)
    threshold, artifact = bundle.manifest.decision.threshold, setting.artifact
    front_end = open_front_end(bundle.manifest, artifact, threshold, bundle.path)
    found: list[Point] = []
    frames = 0
    with (
        closing(engines[0]),
        Detector(bundle, artifact, engines[0], front_end, threshold) as detector,
        closing(endless_frames(bundle, source)) as frames_in,
        closing(detector.stream(frames_in)) as results,
        Watch(sensors) as watch,
    ):
        scored = with_score(results)
        next(scored)
        begin = last = time.perf_counter()
        for number in range(points):
            start, until = last, begin + seconds * (number + 1) / points
            gaps: list[float] = []
            while last < until or not gaps:
                next(scored)
                now = time.perf_counter()
                gaps.append((now - last) * 1e3)
                last = now
            frames += len(gaps)
            look: Sample = sensors.sample(time.monotonic())
            point = Point(
                last - begin, len(gaps) / (last - start), summarise(gaps), look.hottest_c, look.clock_mhz,
                look.power_mw,
            )  # fmt: skip
            found.append(point)
            progress(point)
    return Sustained(artifact.name, setting.backend, frames, tuple(found), summarise_samples(watch.samples))
