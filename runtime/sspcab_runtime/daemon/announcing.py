"""Events made of what happens to cameras, alarms and workers."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any, Literal
from uuid import uuid4

from sspcab_runtime.daemon.alarms import AlarmClosed, AlarmOpened, Worst
from sspcab_runtime.daemon.camera import Fault, Held
from sspcab_runtime.daemon.camera_run import CameraRun
from sspcab_runtime.daemon.clock import boot_id, clock_synchronised
from sspcab_runtime.daemon.events import Event, Peak
from sspcab_runtime.daemon.evidence import EvidenceKeeper
from sspcab_runtime.daemon.messages import JudgedFrame, WorkerReady
from sspcab_runtime.daemon.store import Store

__all__ = ["Announcer"]

_LOG = logging.getLogger(__name__)


class Announcer:
    """Makes events and gives them to the store, with evidence where there is any.

    Args:
        store: Started.
        evidence: Started.
    """

    def __init__(self, store: Store, evidence: EvidenceKeeper) -> None:
        self._store, self._evidence = store, evidence
        self._boot = boot_id()

    def fault_opened(self, run: CameraRun, reason: str, message: str, now: float) -> None:
        """Something is wrong with a camera; nothing new where its fault of that reason is open."""
        if reason in run.faults:
            return
        fault = run.faults[reason] = Fault.new(reason, now)
        _LOG.warning("camera %s: %s: %s", run.name, reason, message)
        self.emit("camera", "opened", run.name, reason, message, event_id=fault.event_id)

    def fault_closed(self, run: CameraRun, reason: str, now: float) -> None:
        """It is no longer; nothing where no such fault is open."""
        fault = run.faults.pop(reason, None)
        if fault is not None:
            _LOG.info("camera %s: no longer %s", run.name, reason)
            self.emit(
                "camera", "closed", run.name, reason, event_id=fault.event_id, duration_s=now - fault.since_s
            )

    def alarms(
        self,
        run: CameraRun,
        ready: WorkerReady | None,
        changes: Iterable[AlarmOpened | AlarmClosed],
        held: Held | None,
        frame: JudgedFrame | None,
    ) -> None:
        """What alarms of a camera did; ``held`` and ``frame`` are what opened one; None: none can have."""
        for change in changes:
            facts: dict[str, Any] = {
                "zone": change.zone,
                "score": change.score,
                "frame": change.frame,
                "threshold": change.threshold,
                "peak": _peak(change.peak),
            }
            if isinstance(change, AlarmClosed):
                opened = run.open.pop(change.zone, None)
                if opened is not None:
                    event = self._made(
                        "anomaly",
                        "closed",
                        run.name,
                        change.reason,
                        event_id=opened.event_id,
                        bundle=opened.bundle,
                        artifact=opened.artifact,
                        duration_s=change.duration_s,
                        **facts,
                    )
                    self._evidence.closed(event, self._store.put)
                continue
            assert held is not None
            assert frame is not None
            event = self._made(
                "anomaly",
                "opened",
                run.name,
                "score",
                bundle=None if ready is None else ready.bundle,
                artifact=None if ready is None else ready.artifact,
                objects=frame.objects,
                **facts,
            )
            run.open[change.zone] = event
            slots, captured = held.connection.slots, held.captured
            pixels = slots.pixels(captured.slot, captured.height, captured.width)
            heat_map = None
            if frame.map_height:
                heat_map = slots.map(captured.slot, frame.map_height, frame.map_width)
            self._evidence.opened(
                event, pixels, heat_map, None if ready is None else ready.heat, self._store.put
            )

    def emit(
        self,
        kind: Literal["anomaly", "camera", "system"],
        phase: Literal["opened", "closed", "noted"],
        camera: str,
        reason: str,
        message: str = "",
        **more: Any,
    ) -> None:
        """Make an event of now and keep it."""
        self._store.put(self._made(kind, phase, camera, reason, message, **more))

    def _made(self, kind: Any, phase: Any, camera: str, reason: str, message: str = "", **more: Any) -> Event:
        return Event(
            kind=kind,
            phase=phase,
            event_id=more.pop("event_id", None) or uuid4().hex,
            camera=camera,
            reason=reason,
            message=message,
            boot_id=self._boot,
            wall_s=time.time(),
            monotonic_s=time.monotonic(),
            clock_synchronised=clock_synchronised(),
            **more,
        )


def _peak(peak: Worst) -> Peak:
    wall = time.time() - (time.monotonic() - peak.monotonic_s)
    return Peak(score=peak.score, frame=peak.frame, wall_s=wall, monotonic_s=peak.monotonic_s)
