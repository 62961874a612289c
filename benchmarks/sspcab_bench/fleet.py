"""Cameras on the real daemon: films at a camera's pace, one capture process each, one worker."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sspcab_bench.files import read_text
from sspcab_edge.errors import EngineError
from sspcab_runtime.daemon.status import DaemonStatus
from sspcab_runtime.machine import PROC

__all__ = ["PARTS", "Fleet", "run_fleet"]

PARTS = ("supervisor", "capture", "worker")
"""Processes of the daemon, by what they do."""

_START_S, _STOP_S, _ASK_S = 60.0, 10.0, 5.0
_SETTLE_S = 6.0
_OFF = "integrity = { stall_s = 0, frozen_s = 0, black = 0, saturated = 0, blurred = 0, moved = 0 }"


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the daemon did with its cameras while it was watched.

    Attributes:
        cameras: How many.
        fps: Frames a second that each of them sends.
        seconds: How long they were watched, after a start that does not count.
        captured_fps: Frames a second that were decoded, of all cameras together.
        served_fps: Frames a second that got a verdict, of all cameras together.
        dropped: Frames that were decoded and got none: newer ones took their place.
        age_p99_ms: From decoded to judged: 99 of 100 frames are no older, of the camera that has it worst.
        infer_ms: The last call of the engine.
        artifact: That was run. Also its ``backend``.
        cores: Cores kept busy, by part of the daemon.
        worker_own_cores: Of the worker's: outside of its engine.
    """

    cameras: int
    fps: float
    seconds: float
    captured_fps: float
    served_fps: float
    dropped: int
    age_p99_ms: float
    infer_ms: float
    artifact: str
    backend: str
    cores: dict[str, float]
    worker_own_cores: float


def run_fleet(
    bundle: Path, film: Path, folder: Path, *, cameras: int, fps: float, seconds: float, backend: str | None
) -> Fleet:
    """Start the daemon in ``folder``, with ``cameras`` that all show ``film``, and watch it.

    Integrity checks are off: the film jumps between pictures. Everything else is as it always is.

    Raises:
        EngineError: It does not start, or stops serving; with its last words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _daemon(bundle, film, folder, cameras, backend) as daemon:
        daemon.wait_served()
        time.sleep(_SETTLE_S)
        before, cpu_before, start = daemon.status(), daemon.cpu_s(), time.monotonic()
        time.sleep(seconds)
        after, cpu_after = daemon.status(), daemon.cpu_s()
        took = time.monotonic() - start
    worker = after.workers[0]
    if worker.artifact is None or worker.backend is None:
        raise EngineError(f"the worker is gone: {worker.message}")

    def gained(name: str) -> int:
        pairs = zip(after.cameras, before.cameras, strict=True)
        return sum(getattr(new, name) - getattr(old, name) for new, old in pairs)

    return Fleet(
        cameras=cameras,
        fps=fps,
        seconds=took,
        captured_fps=gained("captured") / took,
        served_fps=gained("scored") / took,
        dropped=gained("dropped"),
        age_p99_ms=max(camera.frame_age_p99_ms or float("inf") for camera in after.cameras),
        infer_ms=worker.infer_ms or 0.0,
        artifact=worker.artifact,
        backend=worker.backend,
        cores={part: (cpu_after[part] - cpu_before[part]) / took for part in PARTS},
        worker_own_cores=(worker.own_cpu_s - before.workers[0].own_cpu_s) / took,
    )


class _Daemon:
    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self._process, self._folder = process, folder
        self._port = 0

    def status(self) -> DaemonStatus:
        if not self._port:
            self._port = int((self._folder / "port").read_text())
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ASK_S)
        token = (self._folder / "state" / "token").read_text().strip()
        try:
            connection.request("GET", "/api/status", headers={"Authorization": f"Bearer {token}"})
            return msgspec.json.decode(connection.getresponse().read(), type=DaemonStatus)
        finally:
            connection.close()

    def wait_served(self) -> None:
        begin = time.monotonic()
        while self._process.poll() is None and time.monotonic() - begin < _START_S:
            try:
                if all(camera.scored > 0 for camera in self.status().cameras):
                    return
            except (OSError, http.client.HTTPException, msgspec.DecodeError):
                pass  # it is still starting
            time.sleep(0.1)
        words = (self._folder / "log").read_text().strip().splitlines()[-3:]
        raise EngineError(f"the daemon gave no verdicts within {_START_S:g} s: {' / '.join(words)}")

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, by part."""
        found = dict.fromkeys(PARTS, 0.0)
        tick = os.sysconf("SC_CLK_TCK")
        for pid in _family(self._process.pid):
            line = read_text(PROC / str(pid) / "cmdline")
            fields = read_text(PROC / str(pid) / "stat").rpartition(")")[2].split()
            if len(fields) > 12:
                part = next((part for part in PARTS[1:] if f"daemon.{part}" in line), PARTS[0])
                found[part] += (int(fields[11]) + int(fields[12])) / tick
        return found


def _family(pid: int) -> Iterator[int]:
    yield pid
    for tasks in (PROC / str(pid) / "task").glob("*/children"):
        for child in read_text(tasks).split():
            yield from _family(int(child))


@contextmanager
def _daemon(bundle: Path, film: Path, folder: Path, cameras: int, backend: str | None) -> Iterator[_Daemon]:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "port").write_text(str(port))
    lines = ["[bundles.one]", f"path = {json.dumps(str(bundle.resolve()))}"]
    if backend is not None:
        lines.append(f'backend = "{backend}"')
    for number in range(cameras):
        lines += [
            f"[cameras.c{number}]", f"source = {json.dumps(str(film.resolve()))}", 'bundle = "one"', _OFF,
            f"[cameras.c{number}.alarm]", "threshold = 1e30",
        ]  # fmt: skip
    lines += ["[evidence]", "keep = []", "[web]", f'listen = "127.0.0.1:{port}"']
    (folder / "edge.toml").write_text(
        "\n".join([f"files = {json.dumps(str(film.resolve().parent))}", *lines])
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sspcab_runtime.daemon.cli", "--config", str(folder / "edge.toml")],
            stdout=log,
            stderr=log,
        )
    try:
        yield _Daemon(process, folder)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
