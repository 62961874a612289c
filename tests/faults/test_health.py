"""What the daemon says of itself is as bad as its worst part: page, API, metrics and command alike."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from definitions.fake_camera import FakeCamera
from definitions.running_daemon import RunningDaemon, free_port, wait_for
from sspcab_runtime.daemon import kept_thread


class Receiver(BaseHTTPRequestHandler):
    """Answers all events alike."""

    code: ClassVar[int] = 403

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        del arguments


@pytest.fixture
def receiver() -> Iterator[str]:
    """Where it listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def told(daemon: RunningDaemon) -> tuple[int, str, str, int, str]:
    """Code and word of ``/readyz``, the page's badge, code and first line of the command."""
    code, data = daemon.request("/readyz")
    page = daemon.request("/")[1].decode()
    badge = re.search(r'<span class="badge \w+">([^<]*)</span>', page.split("</header>")[0])
    assert badge is not None
    command = subprocess.run(
        [
            *(sys.executable, "-m", "sspcab_runtime.daemon.cli", "status"),
            *("--config", str(daemon.folder / "edge.toml")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return code, json.loads(data)["state"], badge[1], command.returncode, command.stdout.splitlines()[0]


def metric(daemon: RunningDaemon, name: str) -> float:
    """A number of ``/metrics``."""
    lines = daemon.request("/metrics")[1].decode().splitlines()
    return float(next(line for line in lines if line.startswith(name)).split()[-1])


def test_the_worst_part_speaks(tmp_path: Path, toml: str, camera: FakeCamera, receiver: str) -> None:
    """A sink that takes nothing, and a camera that is gone, are never under a green light."""
    hook = f'[sinks.hook]\nkind = "webhook"\nurl = "{receiver}"\n'
    Receiver.code = 403
    with RunningDaemon(tmp_path, f"{toml}{hook}") as daemon:
        daemon.wait_ready()
        assert told(daemon) == (200, "ready", "ready", 0, "ready")
        assert metric(daemon, "sspcab_ready") == 1
        camera.mode = "freeze"
        wait_for(lambda: daemon.camera()["state"] == "down", 8, "down")
        wait_for(lambda: daemon.status()["state"] == "wrong", 8, "the event of it is not taken")
        code, word, badge, exit_code, line = told(daemon)
        assert (code, word, badge, exit_code) == (503, "wrong", "wrong", 3)
        assert line.startswith("NOT READY: wrong: sink hook is wrong: 127.0.0.1 answers 403")
        assert metric(daemon, 'sspcab_sink_up{sink="hook"}') == 0
        assert metric(daemon, "sspcab_ready") == 0
        Receiver.code = 204
        wait_for(lambda: daemon.status()["state"] == "down", 20, "only the camera is left")
        code, word, badge, exit_code, line = told(daemon)
        assert (code, word, badge, exit_code) == (503, "down", "down", 3)
        assert line.startswith("NOT READY: down: camera one is down: ")
        assert metric(daemon, 'sspcab_camera_up{camera="one"}') == 0
        camera.mode = "fine"
        wait_for(lambda: daemon.status()["ready"], 20, "ready again")
        assert told(daemon)[:4] == (200, "ready", "ready", 0)
        daemon.stop()


def test_no_thread_dies_in_silence(tmp_path: Path, toml: str, receiver: str) -> None:
    """An error in any thread is said, with its text, within 3 s; then the thread works again."""
    Receiver.code = 204
    rest = (
        f'[sinks.hook]\nkind = "webhook"\nurl = "{receiver}"\n'
        f'[sinks.lines]\nkind = "jsonl"\npath = "events.jsonl"\n'
        f'[modbus]\nlisten = "127.0.0.1:{free_port()}"\nunits = {{ two = 1 }}\n'
    )
    one = toml[toml.index("[cameras.one]") :]
    two = one.replace("cameras.one", "cameras.two").replace(
        "read_s", 'mode = "triggered"\ntrigger = { channel = "modbus" }\nread_s'
    )
    with RunningDaemon(tmp_path, f"{toml}{two}{rest}") as daemon:
        wait_for(daemon.answers, 30, "a page")
        wait_for(lambda: daemon.status()["ready"], 30, "ready")
        names = [found["name"] for found in daemon.status()["threads"]]
        assert sorted(names) == ["evidence", "modbus triggers", "sink hook", "sink lines", "store", "web"]
        for name in names:
            for _ in range(8):  # an error may land where another's error is caught, and passed on
                daemon.fault("throw", name)
                with contextlib.suppress(AssertionError):
                    wait_for(lambda n=name: failed(daemon, n), 3, f"{name} is said to have failed")  # type: ignore[misc]
                    break
            code, data = asked(daemon, "/readyz")
            assert (code, json.loads(data)["state"]) == (503, "failed")
            assert f"thread {name} is failed: ArithmeticError" in data.decode()
        wait_for(lambda: json.loads(asked(daemon, "/readyz")[1])["ready"], 20, "all work again")
        restarts = {one["name"]: one["restarts"] for one in daemon.status()["threads"]}
        assert all(restarts.values()), restarts
        daemon.stop()


def asked(daemon: RunningDaemon, path: str) -> tuple[int, bytes]:
    """As ``request``, of a page that may be about to begin anew."""
    for _ in range(100):
        with contextlib.suppress(OSError, HTTPException):
            return daemon.request(path)
        time.sleep(0.05)
    raise AssertionError("no page")


def failed(daemon: RunningDaemon, name: str) -> bool:
    """Whether a thread is said to have failed."""
    threads = json.loads(asked(daemon, "/api/status")[1])["threads"]
    return any(one["name"] == name and one["state"] == "failed" for one in threads)


def test_every_thread_of_the_daemon_is_kept() -> None:
    """None is made but by the one kind that is begun again, and a worker's heartbeat."""
    folder = Path(kept_thread.__file__).parent
    made = [file.name for file in folder.rglob("*.py") if "threading.Thread(" in file.read_text()]
    assert sorted(made) == ["kept_thread.py", "worker.py"]


def test_alarms_that_a_crash_left_open(tmp_path: Path, toml: str, scale: int) -> None:
    """Each alarm that was opened is closed once: by its own end, or at the next start as ``restarted``."""
    alarming = toml.replace("threshold = 10.0", "threshold = 1e-6")
    for _ in range(2 * scale):
        with RunningDaemon(tmp_path, alarming) as daemon:
            daemon.wait_ready()
            wait_for(lambda: still_open(daemon.events()) != set(), 10, "an alarm")
            os.kill(daemon.pid, signal.SIGKILL)
    with RunningDaemon(tmp_path, toml) as daemon:
        daemon.wait_ready()
        alarms = [event for event in daemon.events() if event["kind"] == "anomaly"]
        opened = [event["event_id"] for event in alarms if event["phase"] == "opened"]
        closed = [event["event_id"] for event in alarms if event["phase"] == "closed"]
        assert still_open(alarms) == set()
        assert sorted(opened) == sorted(closed)
        assert [event["reason"] for event in alarms if event["phase"] == "closed"] == ["restarted"] * len(
            opened
        )
        assert len(opened) == 2 * scale
        daemon.stop()


def still_open(events: list[dict[str, Any]]) -> set[str]:
    """Ids of alarms that were opened and not closed."""
    ids = {phase: {e["event_id"] for e in events if e["phase"] == phase} for phase in ("opened", "closed")}
    return ids["opened"] - ids["closed"]
