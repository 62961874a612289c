"""What pages, metrics and triggers may ask, from their own threads: snapshots that the supervisor leaves."""

from __future__ import annotations

import queue
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import TimeoutError as LateError

from sspcab_runtime.daemon.events import Event
from sspcab_runtime.daemon.evidence import EvidenceKeeper
from sspcab_runtime.daemon.parts import Answer, Trigger
from sspcab_runtime.daemon.status import DaemonStatus, Score, Shown
from sspcab_runtime.daemon.store import Store
from sspcab_runtime.daemon.supervisor import Supervisor

__all__ = ["Observation"]

_STUCK_S = 5.0
_REDELIVER_S = 10.0


class Observation:
    """The daemon as :class:`~sspcab_runtime.daemon.status.Observed` by others.

    Args:
        supervisor: Whose snapshots these are.
        store: Of events.
        evidence: Of their pictures.
        first: The status until the supervisor gives one.
    """

    def __init__(
        self, supervisor: Supervisor, store: Store, evidence: EvidenceKeeper, first: DaemonStatus
    ) -> None:
        self._supervisor, self._store, self._evidence = supervisor, store, evidence
        self._status = first

    def renew(self, status: DaemonStatus) -> None:
        """Called by the supervisor's thread: this is how things are now."""
        self._status = status

    def status(self) -> DaemonStatus:
        """As of the latest snapshot."""
        return self._status

    def alive(self) -> bool:
        """Whether the supervisor's loop turned lately."""
        return time.monotonic() - self._supervisor.turned_s < _STUCK_S

    def shown(self, camera: str) -> Shown | None:
        """What is said beside the latest picture.

        Raises:
            KeyError: There is no such camera.
        """
        return self._supervisor.cameras[camera].picture.show()

    def picture(self, camera: str, number: int | None = None) -> bytes | None:
        """The latest picture as JPEG, or the one that was shown by that number.

        Raises:
            KeyError: There is no such camera.
        """
        return self._supervisor.cameras[camera].picture.jpeg(number)

    def scores(self, camera: str) -> Sequence[Score]:
        """The latest scores, oldest first.

        Raises:
            KeyError: There is no such camera.
        """
        return self._supervisor.cameras[camera].numbers.timeline.copy()

    def events(
        self, limit: int, before: int | None = None, camera: str | None = None
    ) -> Sequence[tuple[int, Event]]:
        """The latest events with their rows, newest first."""
        return self._store.events(limit, before, camera)

    def evidence(self, path: str) -> bytes | None:
        """A file of an event's evidence."""
        return self._evidence.read(path)

    def redeliver(self, sink: str | None, since_s: float | None, until_s: float | None) -> int | None:
        """Send again what a sink refused.

        Raises:
            KeyError: There is no such sink.
        """
        if sink is not None and sink not in {one.name for one in self._status.sinks}:
            raise KeyError(sink)
        try:
            return self._store.redeliver(sink, since_s, until_s).result(_REDELIVER_S)
        except (LateError, sqlite3.Error, queue.Full):
            return None

    def trigger(self, trigger: Trigger, answer: Answer) -> None:
        """A part is there.

        Raises:
            KeyError: There is no such camera, or it is not triggered.
        """
        if self._supervisor.cameras[trigger.camera].parts is None:
            raise KeyError(trigger.camera)
        self._supervisor.loop.post(lambda: self._supervisor.trigger(trigger, answer))
