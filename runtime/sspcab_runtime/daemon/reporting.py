"""The status of everything, as values, from what the supervisor holds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from sspcab_runtime.daemon.bundles import ServedBundle
from sspcab_runtime.daemon.camera import newest_state
from sspcab_runtime.daemon.camera_run import CameraRun
from sspcab_runtime.daemon.health import Problem, health_word, worst_first
from sspcab_runtime.daemon.status import (
    CameraStatus,
    DaemonStatus,
    SinkStatus,
    StoreStatus,
    ThreadStatus,
    WorkerState,
    WorkerStatus,
)
from sspcab_runtime.daemon.supervisor import Supervisor

__all__ = ["camera_status", "daemon_status", "worker_state", "worker_status"]

_SILENT_S = 5.0
"""Frames arrive and none was scored for so long: not ready."""
_MISSED_REPLAYS = 2.5


def daemon_status(
    supervisor: Supervisor,
    store: StoreStatus,
    sinks: Sequence[SinkStatus],
    threads: Sequence[ThreadStatus],
    started: tuple[float, float],
) -> DaemonStatus:
    """All of it; ``started`` on the monotonic and on the wall clock."""
    now = time.monotonic()
    cameras = tuple(camera_status(run, now) for run in supervisor.cameras.values())
    workers = tuple(worker_status(bundle, now) for bundle in supervisor.bundles.values())
    problems = [*_of_workers(supervisor, now), *_of_cameras(supervisor, now)]
    problems += [
        Problem(camera.state, f"camera {camera.name} is {camera.state}{_why(camera)}")
        for camera in cameras
        if camera.state != "fine"
    ]
    if store.state != "fine":
        problems.append(Problem(store.state, f"storage: {store.message}"))
    problems += [
        Problem(sink.state, f"sink {sink.name} is {sink.state}: {sink.message}")
        for sink in sinks
        if sink.state != "fine"
    ]
    problems += [
        Problem(thread.state, f"thread {thread.name} is {thread.state}: {thread.message}")
        for thread in threads
        if thread.state != "fine"
    ]
    return DaemonStatus(
        version=version("sspcab-edge"),
        ready=not problems,
        state=health_word(problems),
        problems=tuple(problem.text for problem in worst_first(problems)),
        started_wall_s=started[1],
        uptime_s=now - started[0],
        cameras=cameras,
        workers=workers,
        store=store,
        sinks=tuple(sinks),
        threads=tuple(threads),
        temperature_c=_temperature_c(),
    )


def camera_status(run: CameraRun, now: float) -> CameraStatus:
    """One camera."""
    numbers = run.numbers
    opened = None if run.connection is None else run.connection.opened
    connected = opened is not None and run.lost is None
    return CameraStatus(
        name=run.name,
        state=newest_state(
            connected=connected, ever=run.ever or run.lost is not None, faults=len(run.faults)
        ),
        faults=tuple(run.faults),
        message=run.message,
        mode=run.config.mode,
        bundle=run.config.bundle,
        width=None if opened is None else opened.width,
        height=None if opened is None else opened.height,
        colour=None if opened is None else opened.colour,
        captured=numbers.captured,
        scored=numbers.scored,
        dropped=numbers.dropped,
        skipped=numbers.skipped,
        bad=numbers.bad,
        faulty=numbers.faulty,
        reconnects=max(0, run.capture.connections - 1),
        fps=numbers.fps(now),
        frame_age_ms=numbers.age_ms,
        frame_age_p99_ms=numbers.age_p99_ms(),
        score=numbers.score,
        threshold=run.threshold,
        anomalous=numbers.anomalous,
        alarm=bool(run.open),
        drifting=run.drifting,
        parts=dict(numbers.parts),
    )


def worker_state(bundle: ServedBundle) -> WorkerState:
    """The one word for a bundle in use."""
    if bundle.ready is not None:
        return "ready"
    if bundle.wrong:
        return "wrong"
    return "starting" if bundle.coming is not None and bundle.starts <= 1 else "down"


def worker_status(bundle: ServedBundle, now: float) -> WorkerStatus:
    """One bundle in use."""
    ready, worker = bundle.ready, bundle.serving or bundle.coming
    return WorkerStatus(
        name=bundle.name,
        state=worker_state(bundle),
        message=bundle.message if ready is None else "",
        digest=None if ready is None else ready.bundle,
        model=None if ready is None else ready.model,
        artifact=None if ready is None else ready.artifact,
        backend=None if ready is None else ready.backend,
        device=None if ready is None else ready.device,
        attested=ready is not None and ready.attested,
        pid=None if worker is None else worker.child.pid,
        restarts=max(0, bundle.starts - 1),
        replays=bundle.replays,
        replayed_s=None if bundle.replayed_s is None else now - bundle.replayed_s,
        infer_ms=bundle.infer_ms,
        own_cpu_s=bundle.own_cpu_s,
        memory_mb=None if worker is None else _memory_mb(worker.child.pid),
    )


def _of_workers(supervisor: Supervisor, now: float) -> list[Problem]:
    problems = []
    for bundle in supervisor.bundles.values():
        name, ready, silent_s = bundle.name, bundle.ready, now - (bundle.replayed_s or now)
        if ready is None:
            state = worker_state(bundle)
            problems.append(Problem(state, f"bundle {name} is {state}: {bundle.message or 'starting'}"))
        elif not ready.attested:
            problems.append(Problem("fault", f"bundle {name} has no valid attestation"))
        elif silent_s > _MISSED_REPLAYS * bundle.config.replay_s:
            problems.append(Problem("fault", f"bundle {name} was not replayed for {silent_s:.0f} s"))
    return problems


def _of_cameras(supervisor: Supervisor, now: float) -> list[Problem]:
    """What a camera's own state does not say."""
    problems = []
    for run in supervisor.cameras.values():
        served = supervisor.bundles[run.config.bundle].ready is not None
        if served and run.threshold is None:
            text = (
                f"camera {run.name} is not armed: neither its bundle nor its alarm table has a threshold; "
                "fit one with `sspcab-edge fit` or `sspcab-daemon learn`"
            )
            problems.append(Problem("disarmed", text))
        silent_s = run.numbers.scored_since(now)
        flowing = run.free and not run.faults and run.opened_since(now) > _SILENT_S and run.parts is None
        if served and flowing and (silent_s is None or silent_s > _SILENT_S):
            problems.append(Problem("silent", f"camera {run.name} gives frames and none is scored"))
    return problems


def _why(camera: CameraStatus) -> str:
    why = ", ".join(camera.faults) if camera.state == "fault" else camera.message
    return f": {why}" if why else ""


def _memory_mb(pid: int) -> float | None:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * 4096 / 2**20


def _temperature_c() -> float | None:
    """The hottest thermal zone; None where the machine tells none."""
    found = []
    for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            found.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):
            continue
    return max(found, default=None)
