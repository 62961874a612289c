"""One alarm: smoothing, k of n, hysteresis, cool-down. A state machine without a clock of its own."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from sspcab_edge.manifest import Quantiles
from sspcab_runtime.daemon.config import AlarmConfig

__all__ = ["Alarm", "AlarmClosed", "AlarmOpened", "Worst"]


@dataclass(frozen=True, slots=True)
class Worst:
    """The frame with the highest score of an alarm so far."""

    score: float
    frame: int
    monotonic_s: float


@dataclass(frozen=True, slots=True)
class AlarmOpened:
    """An alarm is raised by this frame."""

    zone: str | None
    score: float
    frame: int
    threshold: float
    peak: Worst


@dataclass(frozen=True, slots=True)
class AlarmClosed:
    """It is over. ``score`` and ``frame`` are the last ones; ``reason`` says why it ended."""

    zone: str | None
    score: float
    frame: int
    threshold: float
    peak: Worst
    duration_s: float
    reason: str


class Alarm:
    """Raised and cleared by a sequence of scores.

    A score counts as high when its exponential mean (time constant ``smoothing_s``, for frames that come at
    any times: weight of a new score 1 - exp(-dt / smoothing_s)) is above the threshold. ``needed`` high ones
    among the latest ``of`` open the alarm; ``of`` means in a row at or below the clearing level close it.
    That level is the share ``clear`` of the way from the normal score up to the threshold.

    Args:
        config: The camera's alarm table.
        threshold: Of this camera or zone.
        normal: Scores of normal pictures; None clears at the threshold.
        zone: Name of the zone, or None for the whole frame.
    """

    def __init__(
        self, config: AlarmConfig, threshold: float, normal: Quantiles | None, zone: str | None = None
    ) -> None:
        self._config, self._threshold, self._zone = config, threshold, zone
        self._clear = threshold
        if normal is not None and normal.median < threshold:
            self._clear = normal.median + config.clear * (threshold - normal.median)
        self._high: deque[bool] = deque(maxlen=config.of)
        self._low = 0
        self._mean: float | None = None
        self._mean_s = 0.0
        self._opened_s: float | None = None
        self._closed_s = float("-inf")
        self._peak: Worst | None = None
        self._last: tuple[float, int] = (0.0, 0)

    @property
    def open(self) -> bool:
        """Whether it is raised."""
        return self._opened_s is not None

    def push(
        self, score: float, now: float, frame: int, *, large: bool = True
    ) -> AlarmOpened | AlarmClosed | None:
        """The score of the next frame, at monotonic time ``now``.

        ``large`` False: what is above the threshold covers too little to count.
        """
        mean = self._smooth(score, now)
        self._last = (score, frame)
        self._high.append(mean > self._threshold and large)
        self._low = self._low + 1 if mean <= self._clear else 0
        if self._opened_s is None:
            if sum(self._high) < self._config.needed or now - self._closed_s < self._config.cool_down_s:
                return None
            self._opened_s = now
            self._peak = Worst(score, frame, now)
            return AlarmOpened(self._zone, score, frame, self._threshold, self._peak)
        if self._peak is None or score > self._peak.score:
            self._peak = Worst(score, frame, now)
        if self._low >= self._config.of:
            return self._end(now, "score")
        if now - self._opened_s >= self._config.max_open_s:
            return self._end(now, "long")
        return None

    def gap(self, now: float, reason: str = "gap") -> AlarmClosed | None:
        """Frames are missing: an open alarm is over, and what was before says nothing of what comes."""
        closed = self._end(now, reason) if self.open else None
        self._mean = None
        self._high.clear()
        self._low = 0
        return closed

    def _smooth(self, score: float, now: float) -> float:
        tau = self._config.smoothing_s
        if self._mean is None or tau == 0:
            mean = score
        else:
            weight = 1 - math.exp(-max(0.0, now - self._mean_s) / tau)
            mean = self._mean + weight * (score - self._mean)
        self._mean, self._mean_s = mean, now
        return mean

    def _end(self, now: float, reason: str) -> AlarmClosed:
        assert self._opened_s is not None
        assert self._peak is not None
        score, frame = self._last
        closed = AlarmClosed(
            self._zone, score, frame, self._threshold, self._peak, now - self._opened_s, reason
        )
        self._opened_s, self._peak, self._low = None, None, 0
        self._high.clear()
        # one that lasted too long may go on in the next, without a pause
        self._closed_s = float("-inf") if reason == "long" else now
        return closed
