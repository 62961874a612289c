"""A bundle in use: the worker that serves, and the one that is getting ready to."""

from __future__ import annotations

import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sspcab_runtime.daemon.children import Child
from sspcab_runtime.daemon.config import BundleConfig
from sspcab_runtime.daemon.loop import Loop
from sspcab_runtime.daemon.messages import (
    FromWorker,
    Judge,
    Judged,
    Replay,
    Replayed,
    SlotFrame,
    StartWorker,
    Stop,
    WorkerEnded,
    WorkerProgress,
    WorkerReady,
)
from sspcab_runtime.daemon.waits import Waits
from sspcab_runtime.daemon.wire import WireClosed

__all__ = ["ServedBundle", "Worker"]

_LOG = logging.getLogger(__name__)

_MODULE = "sspcab_runtime.daemon.worker"
_SILENT_S = 30.0
"""A worker that prepares says so every second; this long without a word, it hangs."""
_WELL_S = 3.0
"""A worker that served for so long did start well."""
_FAILURES, _FAILURES_S = 3, 600.0
"""So many failures of one artifact in so many seconds: another is used, if there is one."""
_DYING_S = 0.1
"""Its end of the pipe is closed this long before its exit status is there, at most."""
_REPLAY_INPUTS = 2
_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
"""Somebody ended it: says nothing about its artifact."""


@dataclass(eq=False)
class Worker:
    """One worker process.

    Attributes:
        child: The process.
        started_s: When.
        heard_s: When it last said something.
        ready: What it said when it was ready.
        ready_s: When that was.
        busy: The request under way.
        due_s: When its answer is overdue.
        status: What it is preparing.
    """

    child: Child[Any]
    started_s: float
    heard_s: float
    ready: WorkerReady | None = None
    ready_s: float = 0.0
    busy: Judge | Replay | None = None
    due_s: float = 0.0
    status: str = "starting"


class ServedBundle:
    """What the supervisor does about one bundle.

    Args:
        name: Its name in the configuration.
        path: Its folder.
        config: Its table.
        loop: Where messages are watched for.
        waits: Between starts.
        ready: Called when another worker serves from now on.
        judged: Called with the request and its answer.
        failed: Called with a request that will never be answered.
        trouble: Called with reason, message and whether a worker still serves, for an event.
    """

    def __init__(
        self,
        name: str,
        path: str,
        config: BundleConfig,
        loop: Loop,
        waits: Waits,
        ready: Callable[[ServedBundle], None],
        judged: Callable[[ServedBundle, Judge, Judged], None],
        failed: Callable[[ServedBundle, Judge], None],
        trouble: Callable[[ServedBundle, str, str, bool], None],
    ) -> None:
        self.name, self.path, self.config = name, path, config
        self._loop, self._waits = loop, waits
        self._ready, self._judged, self._failed, self._trouble = ready, judged, failed, trouble
        self.serving: Worker | None = None
        self.coming: Worker | None = None
        self.wrong = False
        self.message = "starting"
        self.starts = 0
        self.replays = 0
        self.replayed_s: float | None = None
        self.infer_ms: float | None = None
        self.own_cpu_s = 0.0
        self._start_s = 0.0
        self._prove = False
        self._avoid: set[tuple[str, str]] = set()
        self._failures: deque[tuple[float, str, str]] = deque(maxlen=16)
        self._request = 0

    @property
    def ready(self) -> WorkerReady | None:
        """What serves, or None."""
        return None if self.serving is None else self.serving.ready

    @property
    def idle(self) -> bool:
        """Whether frames can be sent now."""
        return self.serving is not None and self.serving.busy is None

    def tick(self, now: float) -> None:
        """Start what is due, replay what is due, end what is overdue."""
        if self.serving is None and self.coming is None and now >= self._start_s:
            self._start(now)
        if self.coming is not None and now - self.coming.heard_s > _SILENT_S:
            self._end(self.coming, now, "engine", f"not a word for {_SILENT_S:g} s while it prepared", None)
        worker = self.serving
        if worker is None:
            return
        if worker.busy is not None:
            if now > worker.due_s:
                what = "a replay" if isinstance(worker.busy, Replay) else "frames"
                self._end(
                    worker, now, "engine", f"no answer to {what} within {self.config.infer_s:g} s", None
                )
            return
        if self.coming is not None and self.coming.ready is not None:
            self._switch(now)
        elif now - (self.replayed_s or worker.ready_s) > self.config.replay_s:
            self._send(worker, Replay(inputs=_REPLAY_INPUTS), now + _REPLAY_INPUTS * self.config.infer_s)

    def judge(self, frames: Sequence[SlotFrame], now: float) -> Judge | None:
        """Send frames to the worker, which is idle; None where it is gone."""
        worker = self.serving
        assert worker is not None
        assert worker.busy is None
        self._request += 1
        request = Judge(request=self._request, frames=tuple(frames))
        return request if self._send(worker, request, now + self.config.infer_s) else None

    def send(self, message: Any, fds: tuple[int, ...] = ()) -> None:
        """Tell the worker that serves, if any."""
        if self.serving is not None:
            self.serving.child.send(message, fds)

    def swap(self, now: float) -> bool:
        """Start another worker beside the one that serves; False where one is coming already."""
        if self.coming is not None:
            return False
        self._avoid.clear()
        self._start(now)
        return True

    def stop(self) -> None:
        """Ask all workers to end; nothing is reported any more."""
        for worker in (self.serving, self.coming):
            if worker is not None:
                worker.child.send(Stop())
                self._loop.bury(worker.child, kill=False)
        self.serving = self.coming = None
        self._start_s = float("inf")

    def _start(self, now: float) -> None:
        config = self.config
        try:
            child: Child[Any] = Child(_MODULE, FromWorker)  # type: ignore[arg-type]
        except OSError as error:
            self._start_s = now + self._waits.next()
            self._trouble(self, "engine", f"no process: {error.strerror}", self.serving is not None)
            return
        self.starts += 1
        worker = self.coming = Worker(child, now, now)
        self._loop.watch_child(f"bundle {self.name}", child, lambda: self._readable(worker))
        child.send(
            StartWorker(
                bundle=self.path,
                backend=config.backend,
                precision=config.precision,
                threads=config.threads,
                batch=config.batch,
                memory_mb=config.memory_mb,
                prove=self._prove,
                avoid=tuple(sorted(self._avoid)),
            )
        )

    def _send(self, worker: Worker, message: Judge | Replay, due_s: float) -> bool:
        worker.busy, worker.due_s = message, due_s
        if worker.child.send(message):
            return True
        worker.busy = None
        return False

    def _readable(self, worker: Worker) -> None:
        from time import monotonic

        while worker in (self.serving, self.coming):
            try:
                message, fds = worker.child.wire.receive()
            except BlockingIOError:
                return
            except WireClosed:
                worker.child.wait(_DYING_S)
                status = worker.child.exited()
                how = "" if status is None else f" by signal {-status}" if status < 0 else f" with {status}"
                reason = "killed" if status in _FROM_OUTSIDE else "engine"
                self._end(worker, monotonic(), reason, f"the worker ended{how}", None)
                return
            for fd in fds:
                os.close(fd)
            now = worker.heard_s = monotonic()
            if isinstance(message, WorkerProgress):
                worker.status = message.status
            elif isinstance(message, WorkerReady):
                worker.ready, worker.ready_s = message, now
                if self.serving is None or self.serving.busy is None:
                    self._switch(now)
            elif isinstance(message, Judged):
                request, worker.busy = worker.busy, None
                if isinstance(request, Judge):
                    self.infer_ms = message.stages_ms.get("infer", self.infer_ms)
                    self.own_cpu_s = message.own_cpu_s
                    self._judged(self, request, message)
            elif isinstance(message, Replayed):
                worker.busy = None
                self.replays += 1
                self.replayed_s = now
                if not message.right:
                    self.wrong = self._prove = True
                    self._end(worker, now, "wrong", f"its verdicts are wrong: {message.message}", None)
            elif isinstance(message, WorkerEnded):
                artifact = (
                    (message.artifact, message.backend) if message.artifact and message.backend else None
                )
                self._end(worker, now, message.reason, message.message, artifact)

    def _switch(self, now: float) -> None:
        old, self.serving, self.coming = self.serving, self.coming, None
        if old is not None:
            old.child.send(Stop())
            self._loop.bury(old.child, kill=False)
        self.wrong = self._prove = False
        self.replayed_s = now
        self.message = ""
        self._ready(self)

    def _end(
        self, worker: Worker, now: float, reason: str, message: str, artifact: tuple[str, str] | None
    ) -> None:
        request, served = worker.busy, worker is self.serving
        worker.busy = None
        self._loop.bury(worker.child)
        if served:
            self.serving = None
            if now - worker.ready_s > _WELL_S:
                self._waits.reset()
        else:
            self.coming = None
        self._start_s = now + self._waits.next()
        if artifact is None and worker.ready is not None:
            artifact = (worker.ready.artifact, worker.ready.backend)
        if reason in ("engine", "memory", "wrong") and artifact is not None:
            self._failures.append((now, *artifact))
            same = [at for at, *what in self._failures if tuple(what) == artifact and now - at < _FAILURES_S]
            if len(same) >= _FAILURES:
                self._avoid.add(artifact)
        elif self._avoid and reason != "killed":
            self._avoid.clear()  # nothing else is left: whatever there is has to be tried again
        self.message = message
        if isinstance(request, Judge):
            self._failed(self, request)
        self._trouble(self, reason, message, self.serving is not None)
