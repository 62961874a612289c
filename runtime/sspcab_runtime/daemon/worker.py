"""The worker process: proves a bundle on this device, then judges frames, until it is told to stop.

Single-threaded but for a heartbeat while it prepares. It ends itself, with a reason, where the bundle is
damaged, no artifact gives the right verdicts, the engine fails or memory grows beyond its budget.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import (
    BundleError,
    EdgeError,
    GateError,
    InputError,
    MissingPackageError,
    OptionError,
)
from sspcab_edge.manifest import Parity
from sspcab_runtime.attestation import read_attestation
from sspcab_runtime.daemon.batching import worthwhile_batch
from sspcab_runtime.daemon.children import adopt
from sspcab_runtime.daemon.judging import Judging
from sspcab_runtime.daemon.messages import (
    AddCamera,
    Judge,
    Judged,
    RemoveCamera,
    Replay,
    Replayed,
    Reset,
    StartWorker,
    Stop,
    ToWorker,
    WorkerEnded,
    WorkerProgress,
    WorkerReady,
)
from sspcab_runtime.daemon.replaying import Samples, tolerance
from sspcab_runtime.daemon.slots import Geometry, Slots
from sspcab_runtime.daemon.wire import Wire, WireClosed
from sspcab_runtime.engines.base import GraphEngine
from sspcab_runtime.opening import open_first, wanted_settings
from sspcab_runtime.overlay import heat_range
from sspcab_runtime.replay import judge_replay, replay
from sspcab_runtime.setting import Setting
from sspcab_runtime.tuning import read_tuning

__all__ = ["main"]

_LOG = logging.getLogger(__name__)

_HEARTBEAT_S = 1.0
_CHECK_EVERY = 50
"""Requests between looks at this process's own memory."""
_MIB = 2**20


class _TooLarge(Exception):
    """This process holds more memory than it may."""


def main() -> None:
    """Run as ``python -m``, by the supervisor."""
    wire: Wire[object] = adopt(sys.argv[1:], ToWorker)  # type: ignore[arg-type]
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with contextlib.suppress(OSError):  # not allowed everywhere; then the system's own choice stands
        Path("/proc/self/oom_score_adj").write_text("500")
    try:
        start, _ = wire.receive()
        if isinstance(start, StartWorker):
            _work(wire, start)
    except WireClosed:
        return


def _work(wire: Wire[object], start: StartWorker) -> None:
    setting: Setting | None = None
    try:
        with ExitStack() as closing:
            with _heartbeat(wire, "checking and proving the bundle"):
                bundle, setting, engine, parity = _open(start, closing)
                limits = tolerance(setting.artifact, parity)
                samples = Samples(bundle, setting.artifact, engine, limits)
                first = samples.inputs[0].entry
                batch = worthwhile_batch(bundle.manifest, setting.artifact, engine, first, start.batch)
            decision = bundle.manifest.decision
            wire.send(
                WorkerReady(
                    bundle=bundle.digest,
                    model=bundle.manifest.model.name,
                    artifact=setting.artifact.name,
                    backend=setting.backend,
                    device=engine.device,
                    threshold=decision.threshold,
                    normal=decision.normal,
                    heat=heat_range(decision, decision.threshold),
                    batch=batch,
                    maps=any(port.name == "map" for port in engine.outputs),
                    attested=True,
                )
            )
            _serve(wire, Judging(bundle, setting.artifact, engine), samples, start.memory_mb)
    except (EdgeError, MemoryError, _TooLarge) as error:
        reason = _reason(error)
        message = str(error) or "out of memory"
        artifact = None if setting is None else setting.artifact.name
        backend = None if setting is None else setting.backend
        wire.send(WorkerEnded(reason=reason, message=message, artifact=artifact, backend=backend))  # type: ignore[arg-type]


def _reason(error: Exception) -> str:
    if isinstance(error, BundleError):
        return "bundle"
    if isinstance(error, GateError):
        return "proof"
    if isinstance(error, OptionError | MissingPackageError):
        return "configuration"
    if isinstance(error, MemoryError | _TooLarge) or "bad_alloc" in str(error) or "allocate" in str(error):
        return "memory"
    return "engine"


def _open(start: StartWorker, closing: ExitStack) -> tuple[Bundle, Setting, GraphEngine, Parity]:
    """Check the files, then open and prove the first setting that is fit."""
    bundle = Bundle.open(start.bundle)
    settings = _settings(bundle, start)
    while True:
        setting, engines = open_first(bundle, settings, fallback=True, single=start.batch == 1)
        for engine in engines:
            closing.callback(engine.close)
        remembered = read_attestation(bundle, setting.artifact, engines[0])
        parity = setting.artifact.parity if remembered is None else remembered.parity
        if not start.prove:
            return bundle, setting, engines[0], parity
        compared = replay(bundle, setting.artifact, engines[0])
        name = f"{setting.backend} {engines[0].version}"
        parity = judge_replay(setting.artifact, compared, bundle.manifest.decision.threshold, name)
        if parity.passed:
            return bundle, setting, engines[0], parity
        closing.close()
        _LOG.warning("%s does not give the source's verdicts now", setting)
        settings = [other for other in settings if other != setting]
        if not settings:
            raise GateError(f"{setting} does not give the source's verdicts now, and nothing else is left")


def _settings(bundle: Bundle, start: StartWorker) -> Sequence[Setting]:
    wanted = wanted_settings(
        bundle.manifest.artifacts,
        backend=start.backend,
        precision=start.precision,
        threads=start.threads,
        fallback=True,
    )
    if (start.backend, start.precision, start.threads) == (None, None, None):
        tuned = read_tuning(bundle)
        if tuned is not None:
            one = Setting(
                tuned.setting.artifact, tuned.setting.backend, tuned.setting.hint, tuned.setting.threads
            )
            wanted = (one, *(setting for setting in wanted if setting != one))
    avoided = set(start.avoid)
    left = [setting for setting in wanted if (setting.artifact.name, setting.backend) not in avoided]
    return left or wanted  # what failed is better than nothing


def _serve(wire: Wire[object], judging: Judging, samples: Samples, memory_mb: int) -> None:
    space, resident = _memory()
    limit = space + memory_mb * _MIB
    shared: dict[str, int] = {}  # memory that is not this process's own
    requests = 0
    _limit_memory(limit)
    while True:
        message, fds = wire.receive()
        if isinstance(message, AddCamera):
            geometry = Geometry(
                **{name: getattr(message.geometry, name) for name in ("count", "max_pixels", "max_map")}
            )
            shared[message.camera] = geometry.total_bytes
            _limit_memory(limit + sum(shared.values()))
            try:
                slots = Slots(fds[0], geometry)
            finally:
                _close(fds)
            judging.add(message.camera, slots, message.threshold)
        elif isinstance(message, RemoveCamera):
            judging.remove(message.camera)
            _limit_memory(limit + sum(shared.values()) - shared.pop(message.camera, 0))
        elif isinstance(message, Reset):
            judging.reset(message.camera)
        elif isinstance(message, Judge):
            frames, stages = judging.judge(message.frames)
            wire.send(
                Judged(request=message.request, frames=frames, stages_ms=stages, own_cpu_s=judging.own_cpu_s)
            )
            requests += 1
            if requests % _CHECK_EVERY == 0 and _memory()[1] - resident > memory_mb * _MIB:
                raise _TooLarge(f"the worker grew by more than {memory_mb} MiB: it starts anew")
        elif isinstance(message, Replay):
            wrong = samples.replay(message.inputs)
            wire.send(Replayed(right=wrong is None, inputs=message.inputs, message=wrong or ""))
        elif isinstance(message, Stop):
            return
        else:
            raise InputError(f"unexpected message {type(message).__name__}")


def _limit_memory(space: int) -> None:
    """Let this process have so many bytes of address space at most."""
    resource.setrlimit(resource.RLIMIT_AS, (space, resource.RLIM_INFINITY))


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _memory() -> tuple[int, int]:
    """Bytes of address space, and of memory that is this process's alone (resident without shared)."""
    size, resident, shared = Path("/proc/self/statm").read_text().split()[:3]
    page = resource.getpagesize()
    return int(size) * page, (int(resident) - int(shared)) * page


@contextlib.contextmanager
def _heartbeat(wire: Wire[object], status: str) -> Iterator[None]:
    """Say once a second that this process is alive."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(_HEARTBEAT_S):
            with contextlib.suppress(WireClosed):  # the main thread will find out by itself
                wire.send(WorkerProgress(status=status))

    wire.send(WorkerProgress(status=status))
    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    main()
