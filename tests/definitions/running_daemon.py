"""A real daemon in a process of its own, as tests see it: its status, its events, its processes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["RunningDaemon", "free_port", "wait_for"]


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(test: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait until ``test`` holds; how long it took."""
    begin = time.monotonic()
    while not test():
        assert time.monotonic() - begin < seconds, f"{what}: not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - begin


class RunningDaemon:
    """Starts ``sspcab-daemon --config`` in a folder.

    Args:
        folder: Where ``edge.toml``, the state and the log are.
        toml: The configuration without ``[web]``.
        environment: Variables besides this process's own.
    """

    def __init__(self, folder: Path, toml: str, environment: Mapping[str, str] | None = None) -> None:
        self.folder, self._port = folder, free_port()
        self._log_path = folder / "daemon.log"
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = f"\0sspcab-test-{os.getpid()}-{self._port}"
        self._notified.bind(address)
        self._notified.setblocking(False)
        self.notices: list[tuple[float, str]] = []
        (folder / "edge.toml").write_text(f'{toml}\n[web]\nlisten = "127.0.0.1:{self._port}"\n')
        (folder / "faults").mkdir(exist_ok=True)
        rig = Path(__file__).parents[1] / "faults" / "rig" / "broken_engine"
        variables = {
            **os.environ,
            "NOTIFY_SOCKET": "@" + address[1:],
            "WATCHDOG_USEC": "2000000",
            "PYTHONPATH": os.pathsep.join([str(rig), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
            "SSPCAB_TEST_FAULTS": str(folder / "faults"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "OMP_WAIT_POLICY": "PASSIVE",
            **(environment or {}),
        }
        variables.pop("WATCHDOG_PID", None)
        self._log = self._log_path.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sspcab_runtime.daemon.cli", "--config", str(folder / "edge.toml")],
            stdout=self._log,
            stderr=self._log,
            env=variables,
        )

    def __enter__(self) -> RunningDaemon:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._notified.close()
        self._log.close()

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        return self._process.pid

    @property
    def log(self) -> str:
        """All that it wrote."""
        return self._log_path.read_text()

    @property
    def token(self) -> str:
        """The token that it made."""
        return (self.folder / "state" / "token").read_text().strip()

    def request(
        self, path: str, *, method: str = "GET", body: bytes | None = None, token: str | None = ""
    ) -> tuple[int, bytes]:
        """Status and body; the right token unless another, or None for none."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        headers = {} if token is None else {"Authorization": f"Bearer {token or self.token}"}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """Its status."""
        code, data = self.request("/api/status")
        assert code == 200, data
        found: dict[str, Any] = json.loads(data)
        return found

    def camera(self, name: str = "one") -> dict[str, Any]:
        """The status of a camera."""
        return next(camera for camera in self.status()["cameras"] if camera["name"] == name)

    def worker(self) -> dict[str, Any]:
        """The status of the first bundle."""
        found: dict[str, Any] = self.status()["workers"][0]
        return found

    def events(self) -> list[dict[str, Any]]:
        """All stored events, oldest first, without paging (500 at most)."""
        found = json.loads(self.request("/api/events?limit=500")[1])["events"]
        return [entry["event"] for entry in reversed(found)]

    def answers(self) -> bool:
        """Whether its page does, which comes after its token."""
        try:
            self.status()
        except (OSError, FileNotFoundError):
            assert self._process.poll() is None, self.log
            return False
        return True

    def wait_ready(self, seconds: float = 30) -> float:
        """Wait until it is ready and every camera is scored; how long it took."""
        begin = time.monotonic()
        while True:
            try:
                status = self.status()
            except (OSError, FileNotFoundError):
                assert self._process.poll() is None, self.log
            else:
                if status["ready"] and all(camera["scored"] > 3 for camera in status["cameras"]):
                    return time.monotonic() - begin
            assert time.monotonic() - begin < seconds, self.log
            time.sleep(0.05)

    def fault(self, name: str, value: str | None) -> None:
        """Set, or clear, a fault of the engine: see ``tests/faults/rig/broken_engine``."""
        file = self.folder / "faults" / name
        if value is None:
            file.unlink(missing_ok=True)
        else:
            file.write_text(value)

    def said(self) -> list[str]:
        """What systemd was told so far."""
        while True:
            try:
                data = self._notified.recv(4096)
            except BlockingIOError:
                return [text for _, text in self.notices]
            self.notices.append((time.monotonic(), data.decode()))

    def descriptors(self) -> int:
        """Open descriptors of the supervisor."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def stop(self) -> float:
        """SIGTERM; it ends well, and within five seconds. How long it took."""
        begin = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(10)
        took = time.monotonic() - begin
        assert code == 0, self.log
        assert took <= 5.0, f"it took {took:.1f} s to end"
        return took
