"""The supervisor: frames to workers, verdicts to alarms, events to the store. One thread, never blocked."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from sspcab_edge.local_path import local_path
from sspcab_edge.protocols import Verdict
from sspcab_runtime.daemon.alarms import AlarmClosed, AlarmOpened, CameraAlarms
from sspcab_runtime.daemon.announcing import Announcer
from sspcab_runtime.daemon.bundles import ServedBundle
from sspcab_runtime.daemon.camera import Fault, Held
from sspcab_runtime.daemon.camera_run import CameraRun
from sspcab_runtime.daemon.captures import Capture, Connection
from sspcab_runtime.daemon.config import CameraConfig, Config
from sspcab_runtime.daemon.drift import DriftWatch
from sspcab_runtime.daemon.events import SYSTEM
from sspcab_runtime.daemon.evidence import EvidenceKeeper
from sspcab_runtime.daemon.found import scored_objects
from sspcab_runtime.daemon.integrity.judge import CameraJudge
from sspcab_runtime.daemon.loop import Loop
from sspcab_runtime.daemon.messages import (
    AddCamera,
    Captured,
    GeometryMessage,
    Judge,
    Judged,
    JudgedFrame,
    RemoveCamera,
    Reset,
    SlotFrame,
)
from sspcab_runtime.daemon.parts import Answer, PartDecision, Trigger
from sspcab_runtime.daemon.picture import Moment
from sspcab_runtime.daemon.scheduling import next_cameras
from sspcab_runtime.daemon.store import Store
from sspcab_runtime.daemon.triggered import Ledger, PartQueue
from sspcab_runtime.daemon.waits import CAMERA_STEPS_S, WORKER_STEPS_S, Waits

__all__ = ["Supervisor"]

_LOG = logging.getLogger(__name__)

_LIVE_SLOTS, _TRIGGERED_SLOTS = 4, 12
_TURN_S = 0.05
_REAP_S = 1.0
_WELL_FRAMES = 5
"""A camera has recovered when so many of its frames were scored."""


class Supervisor:
    """Everything that is alive, and what happens next.

    Args:
        config: Checked.
        base: Folder of the configuration file, which its paths are relative to.
        state: The state folder.
        secrets: Resolves a reference to a secret.
        store: Started.
        evidence: Started.
        ledger: Of parts, loaded.
        chance: Random numbers for waits.

    Attributes:
        changed: Something is wrong, or right again, since whoever reports set this to False.
    """

    def __init__(
        self,
        config: Config,
        base: Path,
        state: Path,
        secrets: Callable[[str], str],
        store: Store,
        evidence: EvidenceKeeper,
        ledger: Ledger,
        chance: random.Random | None = None,
    ) -> None:
        self.config, self.loop, self._evidence = config, Loop(), evidence
        self._announcer = Announcer(store, evidence)
        self._ledger = ledger
        self._chance = chance or random.Random()
        self._served_s: dict[str, float] = {}
        self._requests: dict[tuple[str, int], list[tuple[CameraRun, Held]]] = {}
        self._trouble: dict[str, Fault] = {}
        self._reaped_s = 0.0
        self.stopping = self.changed = False
        self.turned_s = time.monotonic()
        files = str((base / local_path(config.files or ".")).resolve())
        watched = Counter(camera.bundle for camera in config.cameras.values())
        self.bundles = {
            name: ServedBundle(
                name,
                str((base / local_path(table.path)).resolve()),
                msgspec.structs.replace(table, batch=min(table.batch, watched[name])),
                self.loop,
                Waits(WORKER_STEPS_S, self._chance),
                self._bundle_ready,
                self._judged,
                self._unanswered,
                self._bundle_trouble,
            )
            for name, table in config.bundles.items()
            if watched[name]
        }
        references = state / "reference"
        references.mkdir(exist_ok=True)
        self.cameras = {
            name: self._camera(name, table, secrets, files, references)
            for name, table in config.cameras.items()
        }

    def _camera(
        self, name: str, table: CameraConfig, secrets: Callable[[str], str], files: str, references: Path
    ) -> CameraRun:
        triggered = table.mode == "triggered"
        capture = Capture(
            name,
            table,
            None if table.password is None else secrets(table.password),
            files,
            str(references / f"{name}.view") if table.integrity.moved else None,
            _TRIGGERED_SLOTS if triggered else _LIVE_SLOTS,
            self.loop,
            Waits(CAMERA_STEPS_S, self._chance),
            lambda connection: self._camera_opened(self.cameras[name], connection),
            lambda connection, message: self._captured(self.cameras[name], connection, message),
            lambda connection, reason, message: self._camera_lost(
                self.cameras[name], connection, reason, message
            ),
        )
        parts = PartQueue(name, table.trigger) if triggered else None
        return CameraRun(name, table, capture, CameraJudge(table.integrity), parts=parts)

    # the loop

    def turn(self) -> None:
        """Wait for the next thing, and do it and all that is due."""
        now = time.monotonic()
        due = [part for run in self.cameras.values() if run.parts and (part := run.parts.next_deadline())]
        self.loop.turn(min([_TURN_S, *(deadline - now for deadline in due)]))
        now = self.turned_s = time.monotonic()
        if self.stopping:
            return
        for bundle in self.bundles.values():
            bundle.tick(now)
        for run in self.cameras.values():
            run.capture.tick(now)
            self._tick(run, now)
        for bundle in self.bundles.values():
            self._feed(bundle, now)
        if now - self._reaped_s > _REAP_S / 4:
            self._reaped_s = now
            self.loop.reap(_REAP_S)

    def working(self, now: float) -> bool:
        """Whether nothing hangs: no worker owes an answer that is overdue."""
        workers = [bundle.serving for bundle in self.bundles.values()]
        return not any(worker is not None and worker.busy and now > worker.due_s for worker in workers)

    def stop(self, seconds: float) -> None:
        """End all children, within so many seconds; open alarms are closed, waiting parts answered."""
        now = time.monotonic()
        self.stopping = True
        for run in self.cameras.values():
            if run.parts is not None:
                self._decide(run, run.parts.close("stopped", now))
            self._alarms(run, run.alarms.gap(now, "stopped") if run.alarms else ())
            run.capture.stop()
        for bundle in self.bundles.values():
            bundle.stop()
        until = now + seconds
        while self.loop.dying and time.monotonic() < until:
            self.loop.turn(0.02)
            self.loop.reap(seconds / 2)
        self.loop.reap(0.0)
        self.loop.close()

    def reload(self) -> None:
        """Open every bundle's folder again beside what serves, and change over where that proves itself."""
        for bundle in self.bundles.values():
            if bundle.swap(time.monotonic()):
                _LOG.info("bundle %s: another worker starts beside the one that serves", bundle.name)

    # cameras

    def _camera_opened(self, run: CameraRun, connection: Connection) -> None:
        opened = connection.opened
        assert opened is not None
        _LOG.info(
            "camera %s: %dx%d %s, %s", run.name, opened.width, opened.height, opened.codec, opened.colour
        )
        run.connection, run.ever, run.since_recovery, run.message = connection, True, 0, ""
        run.opened_s = time.monotonic()
        run.judge.reset()
        self._add(run)

    def _camera_lost(self, run: CameraRun, connection: Connection, reason: str, message: str) -> None:
        now = time.monotonic()
        if run.connection is connection:
            run.connection = None
            self._gap(run, now, message)
            bundle = self.bundles[run.config.bundle]
            if run.added is connection:
                bundle.send(RemoveCamera(camera=run.name))
                run.added = None
        if not any(held.connection is connection for held in run.under_way):
            connection.close()
        run.message = message
        if reason == "size":
            _LOG.warning("camera %s: %s; it is opened again", run.name, message)
            return
        run.lost = "stalled" if reason == "stalled" else "lost"
        self.changed = True
        self._announcer.fault_opened(run, run.lost, message, now)

    def _gap(self, run: CameraRun, now: float, message: str) -> None:
        """Frames are missing: what was seen before says nothing of what comes."""
        for held in run.waiting:
            self._release(run, held)
            run.numbers.dropped += 1
        run.waiting.clear()
        if run.alarms is not None:
            self._alarms(run, run.alarms.gap(now))
        if run.parts is not None:
            self._decide(run, run.parts.camera_fault(message, now))

    def _captured(self, run: CameraRun, connection: Connection, message: Captured) -> None:
        now = time.monotonic()
        held = Held(connection, message)
        run.numbers.count(message)
        faults = run.judge.frame(message.facts, now)
        self._integrity(run, now)
        if faults:
            run.numbers.faulty += 1
            self._picture(run, held, None, ", ".join(sorted(faults)))
            self._release(run, held)
            return
        if run.parts is not None:
            if run.parts.frame(message.monotonic_s, message.number):
                run.waiting.append(held)
            else:
                run.numbers.skipped += 1
                run.numbers.captured -= 1
                self._release(run, held)
        else:
            for older in run.waiting:
                run.numbers.dropped += 1
                self._release(run, older)
            run.waiting = [held]
        self._feed(self.bundles[run.config.bundle], now)

    def _tick(self, run: CameraRun, now: float) -> None:
        self._integrity(run, now)
        if run.verdict_fault is not None and now > run.verdict_fault[1]:
            self._announcer.fault_closed(run, run.verdict_fault[0], now)
            run.verdict_fault = None
        if run.parts is not None:
            self._decide(run, run.parts.tick(now))

    def _integrity(self, run: CameraRun, now: float) -> None:
        opened, closed = run.judge.changes()
        for reason in opened:
            if reason == "stalled":
                continue  # its capture process is replaced, which says so
            self._announcer.fault_opened(run, reason, f"the camera is at fault: {reason}", now)
            self._gap(run, now, reason)
            self.bundles[run.config.bundle].send(Reset(camera=run.name))
        for reason in closed:
            self._announcer.fault_closed(run, reason, now)

    def _alarms(
        self,
        run: CameraRun,
        changes: Iterable[AlarmOpened | AlarmClosed],
        held: Held | None = None,
        frame: JudgedFrame | None = None,
    ) -> None:
        self._announcer.alarms(run, self.bundles[run.config.bundle].ready, changes, held, frame)

    def _release(self, run: CameraRun, held: Held) -> None:
        run.capture.release(held.connection, held.captured.slot)

    # workers

    def _add(self, run: CameraRun) -> None:
        """Give a camera's memory to the worker that serves it."""
        bundle, connection = self.bundles[run.config.bundle], run.connection
        if bundle.ready is None or connection is None or connection.opened is None or run.added is connection:
            return
        if run.added is not None:
            bundle.send(RemoveCamera(camera=run.name))
        geometry = connection.geometry
        bundle.send(
            AddCamera(
                camera=run.name,
                geometry=GeometryMessage(
                    count=geometry.count, max_pixels=geometry.max_pixels, max_map=geometry.max_map
                ),
                threshold=run.config.alarm.threshold,
            ),
            (connection.fd,),
        )
        run.added = connection

    def _bundle_ready(self, bundle: ServedBundle) -> None:
        ready = bundle.ready
        assert ready is not None
        self.changed = True
        _LOG.info(
            "bundle %s: %s on %s, %s",
            bundle.name,
            ready.artifact,
            ready.device,
            ready.bundle.split(":")[-1][:12],
        )
        fault = self._trouble.pop(bundle.name, None)
        if fault is not None:
            self._announcer.emit(
                "system",
                "closed",
                SYSTEM,
                fault.reason,
                f"bundle {bundle.name} serves again",
                event_id=fault.event_id,
                bundle=ready.bundle,
                artifact=ready.artifact,
            )
        for run in self.cameras.values():
            if run.config.bundle != bundle.name:
                continue
            now = time.monotonic()
            if run.alarms is not None:
                self._alarms(run, run.alarms.gap(now))
            threshold = run.config.alarm.threshold
            run.threshold = ready.threshold if threshold is None else threshold
            run.alarms = None
            if run.threshold is not None:
                run.alarms = CameraAlarms(run.config.alarm, run.threshold, ready.normal)
            run.drift = None if ready.normal is None else DriftWatch(run.config.drift, ready.normal)
            if run.parts is not None:
                run.parts.engine_ready()
            run.added = None
            self._add(run)

    def _feed(self, bundle: ServedBundle, now: float) -> None:
        """Send the next frames, if the worker has nothing to do."""
        if not bundle.idle or bundle.ready is None:
            return
        runs = {
            name: run
            for name, run in self.cameras.items()
            if run.config.bundle == bundle.name and run.waiting and run.added is run.connection
        }
        waiting = {name: run.waiting[0].captured.monotonic_s for name, run in runs.items()}
        chosen = next_cameras(waiting, self._served_s, bundle.ready.batch)
        if not chosen:
            return
        sent = []
        for name in chosen:
            run = runs[name]
            held = run.waiting.pop(0)
            run.under_way.append(held)
            self._served_s[name] = now
            sent.append((run, held))
        request = bundle.judge([_slot_frame(run, held) for run, held in sent], now)
        if request is None:
            for run, held in sent:
                self._lost_frame(run, held)
        else:
            self._requests[bundle.name, request.request] = sent

    def _lost_frame(self, run: CameraRun, held: Held) -> None:
        run.under_way.remove(held)
        run.numbers.dropped += 1
        self._finish(run, held)

    def _finish(self, run: CameraRun, held: Held) -> None:
        if held.connection is run.connection:
            self._release(run, held)
        elif not any(other.connection is held.connection for other in run.under_way):
            held.connection.close()

    def _unanswered(self, bundle: ServedBundle, request: Judge) -> None:
        now = time.monotonic()
        sent = self._requests.pop((bundle.name, request.request), [])
        for run, held in sent:
            if run.parts is not None:
                self._decide(run, run.parts.failed(held.captured.number, "engine", bundle.message, now))
            self._lost_frame(run, held)

    def _bundle_trouble(self, bundle: ServedBundle, reason: str, message: str, serving: bool) -> None:
        now = time.monotonic()
        self.changed = True
        _LOG.error("bundle %s: %s: %s", bundle.name, reason, message)
        if serving:
            self._announcer.emit(
                "system", "noted", SYSTEM, "swap", f"bundle {bundle.name}: {message}; the old one serves on"
            )
            return
        for run in self.cameras.values():
            if run.config.bundle == bundle.name:
                run.added = None
                if run.parts is not None:
                    self._decide(run, run.parts.engine_fault(message, now))
        if bundle.name not in self._trouble:
            fault = self._trouble[bundle.name] = Fault.new(reason, now)
            self._announcer.emit(
                "system",
                "opened",
                SYSTEM,
                reason,
                f"bundle {bundle.name}: {message}",
                event_id=fault.event_id,
            )

    def _judged(self, bundle: ServedBundle, request: Judge, answer: Judged) -> None:
        now = time.monotonic()
        sent = self._requests.pop((bundle.name, request.request), [])
        for (run, held), frame in zip(sent, answer.frames, strict=True):
            run.under_way.remove(held)
            if held.connection is not run.connection:  # the camera was lost meanwhile
                run.numbers.dropped += 1
            elif frame.fault is not None:
                self._no_verdict(run, held, frame, now)
            elif frame.score is None:
                run.numbers.faulty += 1  # its front-end is warming up
            else:
                self._verdict(bundle, run, held, frame, now)
            self._finish(run, held)
        self._feed(bundle, now)

    def _no_verdict(self, run: CameraRun, held: Held, frame: JudgedFrame, now: float) -> None:
        assert frame.fault is not None
        run.numbers.faulty += 1
        reason = frame.fault
        if run.verdict_fault is not None and run.verdict_fault[0] != reason:
            self._announcer.fault_closed(run, run.verdict_fault[0], now)
        run.verdict_fault = (reason, now + max(run.config.integrity.hold_s, 0.1))
        self._announcer.fault_opened(run, reason, frame.message, now)
        self._picture(run, held, None, reason)
        if run.parts is not None:
            self._decide(run, run.parts.failed(held.captured.number, "camera", frame.message, now))

    def _verdict(
        self, bundle: ServedBundle, run: CameraRun, held: Held, frame: JudgedFrame, now: float
    ) -> None:
        assert frame.score is not None
        assert bundle.ready is not None
        anomalous = None if run.threshold is None else frame.score > run.threshold
        run.numbers.judged(held, frame.score, anomalous, now)
        run.since_recovery += 1
        if run.since_recovery == _WELL_FRAMES:
            run.capture.well()
        if run.lost is not None:
            self._announcer.fault_closed(run, run.lost, now)
            run.lost = None
        pixels = held.connection.slots.pixels(held.captured.slot, held.captured.height, held.captured.width)
        heat_map = None
        if frame.map_height:
            heat_map = held.connection.slots.map(held.captured.slot, frame.map_height, frame.map_width)
        self._evidence.frame(run.name, pixels, held.captured.monotonic_s)
        if run.parts is not None:
            self._decide(
                run,
                run.parts.judged(
                    held.captured.number,
                    frame.score,
                    run.threshold,
                    anomalous,
                    now,
                    bundle=bundle.ready.bundle,
                ),
            )
        if run.alarms is not None and run.threshold is not None:
            changes = run.alarms.push(frame.score, heat_map, held.captured.monotonic_s, held.captured.number)
            self._alarms(run, changes, held, frame)
        objects = scored_objects(frame.objects)
        self._picture(run, held, Verdict(frame.score, run.threshold, anomalous, heat_map, objects), "")
        if run.drift is not None:
            drifting = run.drift.push(frame.score, now)
            if drifting and not run.drifting:
                self._announcer.emit(
                    "camera",
                    "noted",
                    run.name,
                    "drift",
                    "normal scores no longer look as they did when "
                    "the threshold was fitted: look at the camera, or learn a new threshold",
                )
            run.drifting = drifting

    def _picture(self, run: CameraRun, held: Held, verdict: Verdict | None, fault: str) -> None:
        """Keep the picture for the page, with what is said of it."""
        captured = held.captured
        pixels = held.connection.slots.pixels(captured.slot, captured.height, captured.width)
        ready = self.bundles[run.config.bundle].ready
        moment = Moment(captured.number, captured.wall_s, fault, bool(run.open))
        run.picture.keep(pixels, verdict, None if ready is None else ready.heat, moment, time.monotonic())

    # parts

    def trigger(self, trigger: Trigger, answer: Answer) -> None:
        """A part is in front of a camera; in the loop's thread."""
        run, now = self.cameras[trigger.camera], time.monotonic()
        assert run.parts is not None
        earlier = self._ledger.earlier(trigger)
        if earlier is not None:
            answer(earlier)
            return
        run.answers.setdefault(trigger.part, []).append(answer)
        if run.parts.waits(trigger.part):
            return
        self._ledger.begin(trigger)
        decisions = run.parts.trigger(trigger, now)
        self._decide(run, decisions)
        if self.stopping:
            self._decide(run, run.parts.close("stopped", now))

    def _decide(self, run: CameraRun, decisions: Sequence[PartDecision]) -> None:
        for decision in decisions:
            run.numbers.parts[decision.decision] += 1
            self._ledger.finish(decision)
            for answer in run.answers.pop(decision.part, ()):
                answer(decision)


def _slot_frame(run: CameraRun, held: Held) -> SlotFrame:
    captured = held.captured
    return SlotFrame(
        camera=run.name,
        slot=captured.slot,
        number=captured.number,
        height=captured.height,
        width=captured.width,
        monotonic_s=captured.monotonic_s,
        wall_s=captured.wall_s,
    )
