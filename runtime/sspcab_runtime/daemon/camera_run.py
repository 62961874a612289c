"""One camera while the daemon runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from sspcab_runtime.daemon.alarms import CameraAlarms
from sspcab_runtime.daemon.camera import Fault, Held, Numbers
from sspcab_runtime.daemon.captures import Capture, Connection
from sspcab_runtime.daemon.config import CameraConfig
from sspcab_runtime.daemon.drift import DriftWatch
from sspcab_runtime.daemon.events import Event
from sspcab_runtime.daemon.integrity.judge import CameraJudge
from sspcab_runtime.daemon.parts import Answer
from sspcab_runtime.daemon.picture import LatestPicture
from sspcab_runtime.daemon.triggered import PartQueue

__all__ = ["CameraRun"]


@dataclass(eq=False)
class CameraRun:
    """A camera and all that is kept of it while the daemon runs.

    Attributes:
        connection: The open one.
        waiting: The newest frame that was not sent yet (live), or those that parts need (triggered).
        under_way: Frames that the worker has.
        added: The connection whose memory the serving worker has.
        faults: Open ones by reason.
        verdict_fault: Why the latest frame had no verdict, and until when that counts.
        open: The opening event of each alarm that is open, by zone.
    """

    name: str
    config: CameraConfig
    capture: Capture
    judge: CameraJudge
    numbers: Numbers = field(default_factory=Numbers)
    picture: LatestPicture = field(default_factory=LatestPicture)
    alarms: CameraAlarms | None = None
    drift: DriftWatch | None = None
    parts: PartQueue | None = None
    connection: Connection | None = None
    opened_s: float = 0.0
    ever: bool = False
    message: str = ""
    waiting: list[Held] = field(default_factory=list)
    under_way: list[Held] = field(default_factory=list)
    added: Connection | None = None
    faults: dict[str, Fault] = field(default_factory=dict)
    lost: str | None = None
    verdict_fault: tuple[str, float] | None = None
    since_recovery: int = 0
    open: dict[str | None, Event] = field(default_factory=dict)
    threshold: float | None = None
    drifting: bool = False
    answers: dict[str, list[Answer]] = field(default_factory=dict)

    def opened_since(self, now: float) -> float:
        """Seconds since its connection opened; 0 without one."""
        return now - self.opened_s if self.connection is not None else 0.0

    @property
    def free(self) -> bool:
        """Whether its frames may be scored."""
        return self.connection is not None and self.lost is None
