"""Parts of what the supervisor knows of one camera: frames that are held, faults that are open, numbers."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from uuid import uuid4

from sspcab_runtime.daemon.captures import Connection
from sspcab_runtime.daemon.messages import Captured
from sspcab_runtime.daemon.status import CameraState, Score

__all__ = ["Fault", "Held", "Numbers", "newest_state"]

_TIMELINE = 600
_RATE_S = 5.0


@dataclass(frozen=True, eq=False)
class Held:
    """A frame in a slot that is the supervisor's, or its worker's."""

    connection: Connection
    captured: Captured


@dataclass(frozen=True)
class Fault:
    """A fault that is open: what the event that opened it said."""

    reason: str
    event_id: str
    since_s: float

    @classmethod
    def new(cls, reason: str, now: float) -> Fault:
        """Opened now."""
        return cls(reason, uuid4().hex, now)


@dataclass
class Numbers:
    """What a camera's status counts: ``captured`` = ``scored`` + ``dropped`` + ``faulty`` + under way."""

    captured: int = 0
    scored: int = 0
    dropped: int = 0
    skipped: int = 0
    bad: int = 0
    faulty: int = 0
    parts: Counter[str] = field(default_factory=Counter)
    age_ms: float | None = None
    score: float | None = None
    anomalous: bool | None = None
    timeline: deque[Score] = field(default_factory=lambda: deque(maxlen=_TIMELINE))
    ages_ms: deque[float] = field(default_factory=lambda: deque(maxlen=512))
    _times: deque[float] = field(default_factory=lambda: deque(maxlen=512))

    def count(self, message: Captured) -> None:
        """A frame arrived, and what its process says of those that did not."""
        self.captured += 1 + message.dropped
        self.dropped += message.dropped
        self.skipped += message.skipped
        self.bad += message.bad

    def judged(self, frame: Held, score: float, anomalous: bool | None, now: float) -> None:
        """A frame was scored, at monotonic time ``now``."""
        self.scored += 1
        self.score, self.anomalous = score, anomalous
        self.age_ms = (now - frame.captured.monotonic_s) * 1e3
        self.ages_ms.append(self.age_ms)
        self.timeline.append(Score(wall_s=frame.captured.wall_s, score=score, anomalous=anomalous))
        self._times.append(now)

    def age_p99_ms(self) -> float | None:
        """99 of 100 frames were no older when they had a verdict, of the last 512."""
        ages = sorted(self.ages_ms)
        return ages[math.ceil(0.99 * len(ages)) - 1] if ages else None

    def fps(self, now: float) -> float:
        """Scored frames a second, of late."""
        while self._times and now - self._times[0] > _RATE_S:
            self._times.popleft()
        return len(self._times) / _RATE_S

    def scored_since(self, now: float) -> float | None:
        """Seconds since a frame was scored; None where none was in the last few."""
        return now - self._times[-1] if self._times else None


def newest_state(*, connected: bool, ever: bool, faults: int) -> CameraState:
    """The one word for a camera."""
    if not connected:
        return "down" if ever else "starting"
    return "fault" if faults else "fine"
