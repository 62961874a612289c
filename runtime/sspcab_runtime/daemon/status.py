"""What the daemon knows of itself, as values: for the page, the API, metrics and ``sspcab-daemon status``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from sspcab_runtime.daemon.events import Event
from sspcab_runtime.daemon.parts import Answer, Trigger

__all__ = [
    "CameraState",
    "CameraStatus",
    "DaemonStatus",
    "HealthWord",
    "Observed",
    "Score",
    "Shown",
    "SinkStatus",
    "StoreStatus",
    "ThreadStatus",
    "WorkerState",
    "WorkerStatus",
]

CameraState = Literal["starting", "fine", "fault", "down"]

WorkerState = Literal["starting", "ready", "wrong", "down"]

HealthWord = Literal[
    "wrong", "down", "failed", "degraded", "fault", "silent", "disarmed", "retrying", "starting", "ready"
]
"""The whole in one word, the worst first.

``wrong``: verdicts were wrong, or a sink refuses whoever we are. ``down``: a worker or camera is not there.
``failed``: a thread of the daemon ended by an error. ``degraded``: events cannot be stored. ``fault``: frames
of a camera cannot be judged, or a bundle is not proved. ``silent``: frames come and none is scored.
``disarmed``: a camera has no threshold. ``retrying``: a sink takes nothing for now. ``starting``, ``ready``.
"""


class CameraStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One camera.

    ``state``: ``starting`` (never gave a frame yet), ``fine``, ``fault`` (frames come, but are not scored;
    ``faults`` says why) or ``down`` (no frames). Counters are since the daemon started: ``captured`` =
    ``scored`` + ``dropped`` + ``faulty`` + what is under way. ``frame_age_ms`` is from decoded to judged,
    of the last frame; ``frame_age_p99_ms`` is over the last 512.
    """

    name: str
    state: CameraState
    faults: tuple[str, ...]
    message: str
    mode: str
    bundle: str
    width: int | None
    height: int | None
    colour: str | None
    captured: int
    scored: int
    dropped: int
    skipped: int
    bad: int
    faulty: int
    reconnects: int
    fps: float
    frame_age_ms: float | None
    frame_age_p99_ms: float | None
    score: float | None
    threshold: float | None
    anomalous: bool | None
    alarm: bool
    drifting: bool
    parts: dict[str, int]


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One bundle in use. ``state``: ``starting``, ``ready``, ``wrong`` (a replay failed), ``down``."""

    name: str
    state: WorkerState
    message: str
    digest: str | None
    model: str | None
    artifact: str | None
    backend: str | None
    device: str | None
    attested: bool
    pid: int | None
    restarts: int
    replays: int
    replayed_s: float | None
    infer_ms: float | None
    own_cpu_s: float
    memory_mb: float | None


class StoreStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The outbox. ``generated`` = ``stored`` + ``memory`` + ``dropped``, exactly."""

    state: Literal["fine", "degraded"]
    message: str
    generated: int
    stored: int
    memory: int
    dropped: dict[str, int]
    size_mb: float


class SinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One sink.

    ``state``: ``fine``; ``retrying`` (not reached, or it asks to come again); ``wrong`` (it answers, and
    takes nothing: its address, or a right, has to be mended; or its file cannot be written). ``queued``
    events wait for it; ``refused`` ones it said it will never take: ``sspcab-daemon redeliver`` sends them
    again; ``quarantined`` ones were damaged in the store.
    """

    name: str
    kind: str
    state: Literal["fine", "retrying", "wrong"]
    message: str
    delivered: int
    queued: int
    refused: int
    quarantined: int = 0


class ThreadStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One thread of the daemon.

    ``state``: ``fine``; ``retrying`` (what it talks to is not there); ``failed`` (an error ended it: it is
    begun again, and fine when it worked for some seconds).
    """

    name: str
    state: Literal["fine", "retrying", "failed"]
    message: str
    restarts: int


class DaemonStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All of it.

    Attributes:
        ready: Nothing is wrong: every worker proved itself lately, every camera is armed and gives frames
            that are being scored, every sink takes events, they are stored, and no thread failed.
        state: ``ready``, or the word of what is worst.
        problems: Why it is not ready, a line each, the worst first.
    """

    schema: int = 1
    version: str
    ready: bool
    state: HealthWord
    problems: tuple[str, ...]
    started_wall_s: float
    uptime_s: float
    cameras: tuple[CameraStatus, ...]
    workers: tuple[WorkerStatus, ...]
    store: StoreStatus
    sinks: tuple[SinkStatus, ...]
    threads: tuple[ThreadStatus, ...] = ()
    temperature_c: float | None = None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One point of a timeline."""

    wall_s: float
    score: float
    anomalous: bool | None


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one camera beside its latest picture: all of it of that frame.

    Attributes:
        picture: Number of the picture, for :meth:`Observed.picture`.
        frame: Number of the frame since its capture began.
        wall_s: When it was taken.
        score: Its own; None where it was not judged.
        threshold: That it was judged by.
        anomalous: None without score or threshold.
        fault: Why it was not judged; empty where it was.
        alarm: Whether an alarm was open once it was judged.
    """

    picture: int
    frame: int
    wall_s: float
    score: float | None
    threshold: float | None
    anomalous: bool | None
    fault: str
    alarm: bool


class Observed(Protocol):
    """What pages, metrics and triggers may ask of the daemon, from any thread; nothing of it blocks long."""

    def status(self) -> DaemonStatus:
        """As of now."""

    def alive(self) -> bool:
        """Whether the supervisor's loop made progress lately."""

    def shown(self, camera: str) -> Shown | None:
        """What is said beside the latest picture, which is kept for a moment; None while there is none.

        Raises:
            KeyError: There is no such camera.
        """

    def picture(self, camera: str, number: int | None = None) -> bytes | None:
        """The latest picture, with its heat map, as JPEG, or the one that was shown by that number.

        None while there is none, or where that one is no longer kept.

        Raises:
            KeyError: There is no such camera.
        """

    def scores(self, camera: str) -> Sequence[Score]:
        """The latest scores, oldest first, a few hundred at most.

        Raises:
            KeyError: There is no such camera.
        """

    def events(
        self, limit: int, before: int | None = None, camera: str | None = None
    ) -> Sequence[tuple[int, Event]]:
        """The latest events with their rows in the store, newest first; ``before`` a row, to page on."""

    def evidence(self, path: str) -> bytes | None:
        """A file of an event's evidence by its relative path; None where there is none (any more)."""

    def redeliver(self, sink: str | None, since_s: float | None, until_s: float | None) -> int | None:
        """Send again what a sink (None: any) refused, of that time; how many events; None: storage fails.

        Raises:
            KeyError: There is no such sink.
        """

    def trigger(self, trigger: Trigger, answer: Answer) -> None:
        """A part is there: ``answer`` is called exactly once, maybe before this returns.

        Raises:
            KeyError: There is no such camera, or it is not triggered.
        """
