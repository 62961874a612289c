"""What comes in and goes out: configuration, secrets, logs, addresses, systemd, the page."""

from __future__ import annotations

import base64
import http.client
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspcab_edge.errors import ConfigError, OptionError
from sspcab_edge.protocols import Verdict
from sspcab_runtime.daemon.config import WebConfig
from sspcab_runtime.daemon.config_file import parse_config, read_config
from sspcab_runtime.daemon.events import Event
from sspcab_runtime.daemon.logs import Redactor
from sspcab_runtime.daemon.notify import Notifier
from sspcab_runtime.daemon.parts import Answer, PartDecision, Trigger
from sspcab_runtime.daemon.picture import LatestPicture, Moment
from sspcab_runtime.daemon.status import CameraStatus, DaemonStatus, Score, Shown, StoreStatus
from sspcab_runtime.daemon.web import WebServer
from sspcab_runtime.secrets import make_token, read_secret
from sspcab_runtime.sources.camera_address import camera_address

pytest.importorskip("uvicorn", reason="uvicorn is not installed: no page")

GOOD = """# a comment
[bundles.tiny]
path = "bundle"

[cameras.gate]
source = "rtsp://10.0.0.7/stream"
bundle = "tiny"
fps = 5

[cameras.gate.alarm]
needed = 2
of = 3

[[cameras.gate.alarm.zones]]
name = "left"
corners = [[0, 0], [0.5, 0], [0.5, 1]]

[sinks.broker]
kind = "mqtt"
host = "127.0.0.1"
"""


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_configuration_of_an_editor_with_byte_order_marks(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    data = (mark + GOOD).encode(encoding)
    assert parse_config(data, tmp_path / "edge.toml") == parse_config(GOOD.encode(), tmp_path / "edge.toml")
    with pytest.raises(ConfigError, match=r"edge\.toml: byte \d+ is not UTF-"):
        parse_config(data[:50] + b"\xff\xd8" + data[50:-1], tmp_path / "edge.toml")


def test_a_configuration(tmp_path: Path) -> None:
    config = parse_config(GOOD.encode(), tmp_path / "edge.toml")
    assert config.cameras["gate"].fps == 5
    assert config.cameras["gate"].alarm.zones[0].name == "left"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fps = 5", "fps = -3", "edge.toml:8: cameras.gate.fps: expected `float` > 0"),
        ("fps = 5", 'fps = "x"', "edge.toml:8: cameras.gate.fps: expected `float | null`, got `str`"),
        ("fps = 5", "fsp = 5", "edge.toml:8: cameras.gate.fsp: there is no such key: did you mean fps?"),
        ("needed = 2", "needed = 4", "edge.toml:11: cameras.gate.alarm.needed: 4 of 3 frames can never be"),
        ('bundle = "tiny"', 'bundle = "other"', "edge.toml:7: cameras.gate.bundle: there is no bundle other"),
        ("rtsp://10.0.0.7", "rtsp://me:secret@10.0.0.7", "toml:6: cameras.gate.source: .*user = and"),
        ('kind = "mqtt"', 'kind = "kafka"', "edge.toml:19: sinks.broker.kind: invalid value 'kafka'"),
        ("[sinks.broker]", "[sinks.broker", "edge.toml:18: "),
        (
            'host = "127.0.0.1"',
            'host = "b"\nuser = "u"\npassword = "env:X"',
            "sinks.broker.password: .*the clear",
        ),
        (
            'kind = "mqtt"\nhost = "127.0.0.1"',
            'kind = "webhook"\nurl = "https://h/gr\u00f6\u00dfe"',
            "edge.toml:20: sinks.broker.url: '\u00f6' can never be sent",
        ),
        ('host = "127.0.0.1"', 'host = "mqtt://b"', "edge.toml:20: sinks.broker.host: expected a host"),
        ('host = "127.0.0.1"', 'host = "127.0.0.1"\npassword = "env:X"', "broker.password: a password needs"),
        ('host = "127.0.0.1"', 'host = "b"\ntopic = ""', "edge.toml:21: sinks.broker.topic: .*not empty"),
        ("# a comment", '[web]\nlisten = "0.0.0.0:80"', "edge.toml:2: web.listen: .*beyond this machine"),
    ],
)
def test_what_is_wrong_has_a_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=message) as caught:
        parse_config(GOOD.replace(old, new, 1).encode(), tmp_path / "edge.toml")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    st.binary(max_size=400) | st.text(max_size=400).map(lambda text: (GOOD + text).encode("utf-8", "replace"))
)
def test_only_config_errors(data: bytes) -> None:
    try:
        parse_config(data, Path("edge.toml"))
    except ConfigError as error:
        said = str(error)
    else:
        return
    assert said.startswith("edge.toml")


def test_a_configuration_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(ConfigError, match="larger than"):
        read_config(tmp_path / "large.toml")


HOSTILE = [
    "file:///etc/passwd",
    "/etc/passwd",
    "../../../etc/passwd",
    "concat:a|b",
    "data:text/plain,x",
    "gopher://127.0.0.1/x",
    "exec:ls",
    "exec://ls",
    "ftp://127.0.0.1/x",
    "tcp://127.0.0.1:9",
    "udp://127.0.0.1:9",
    "pipe:0",
    "rtmp://127.0.0.1/x",
    "crypto:file",
    "async:file:x",
    "cache:http://127.0.0.1/",
    "rtsp://user:pass@127.0.0.1/x",
    "rtsp://user@127.0.0.1/x",
    "rtsp://a\\@127.0.0.1/x",
    "rtsp://127.0.0.1\\x",
    "rtsp://127.0.0.1/a b",
    "rtsp://127.0.0.1/a\nb",
    "rtsp://127.0.0.1/a\x00b",
    "rtsp://127.0.0.1/a|b",
    "rtsp://127.0.0.1/`ls`",
    'rtsp://127.0.0.1/"x',
    "rtsp://-oProxy/x",
    "rtsp:///x",
    "rtsp://",
    "rtsp://:554/x",
    "rtsp://[::1/x",
    "rtsp://127.0.0.1:99999/x",
    "rtsp://127.0.0.1:0/x",
    "rtsp://127.0.0.1:-1/x",
    "http://a#b",
    "http://a<b",
    "http://127.0.0.1/\r\nHost: x",
    "http://\u0430pple/x",
    "v4l2://video0",
    "v4l2:///dev/sda",
    "v4l2:///dev/video0/../sda",
    "v4l2:///dev/video",
    "v4l2:///etc/passwd",
    "csi://x",
    "csi://0;ls",
    "csi://",
    "csi://-1",
    "gst:",
    "gst:-e",
    "gst:--gst-plugin-path=/x ! a",
    "gst:a ! filesink location=/x",
    "gst:a ! fdsink",
    "gst:'",
    "-i",
    "|ls",
    "",
    "x" * 5000,
    "file://host/x",
    "file:///x?y",
    "file:///x%0ay",
    "file:///x%00y",
    "HTTP://user:pw@x/",
    "images:///etc",
]


@pytest.mark.parametrize("source", HOSTILE)
def test_hostile_addresses(tmp_path: Path, source: str) -> None:
    with pytest.raises(OptionError) as caught:
        camera_address(source, tmp_path)
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize("host", ["line_3-camera", "_gateway", "cam_01.plant"])
def test_hosts_of_composed_networks_have_underscores(tmp_path: Path, host: str) -> None:
    assert camera_address(f"rtsp://{host}:554/x", tmp_path).host == host


def test_addresses_that_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "film.mp4").touch()
    found = camera_address("rtsp://camera.local:8554/a/b?c=1", tmp_path)
    assert (found.host, found.port, found.path) == ("camera.local", 8554, "/a/b?c=1")
    assert camera_address("http://[::1]:80/x", tmp_path).display == "http://[::1]:80/x"
    assert camera_address("film.mp4", tmp_path).file == tmp_path / "film.mp4"
    assert camera_address("v4l2:///dev/video3", tmp_path).device == "/dev/video3"
    assert camera_address("csi://1", tmp_path).sensor == 1
    assert camera_address("gst:videotestsrc ! identity", tmp_path).pipeline == (
        "videotestsrc",
        "!",
        "identity",
    )
    assert camera_address(f"file://{tmp_path}/line%201.mp4", tmp_path).file == tmp_path / "line 1.mp4"
    assert camera_address("100%25.mp4", tmp_path).file == tmp_path / "100%25.mp4"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert camera_address("~/film.mp4", tmp_path).file == tmp_path / "film.mp4"
    assert camera_address("file://~/film.mp4", None).file == tmp_path / "film.mp4"
    (tmp_path / "link").symlink_to("/etc/passwd")
    for name in ("link", "~/../x", "file:///%2e%2e/x"):
        with pytest.raises(OptionError, match="outside"):
            camera_address(name, tmp_path)


def test_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret-value\n")
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="may be read by everybody") as caught:
        read_secret(f"file:{file}")
    assert "s3cret" not in str(caught.value)
    file.chmod(0o600)
    assert read_secret(f"file:{file}") == "s3cret-value"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret("credential:token") == "s3cret-value"
    monkeypatch.setenv("TOKEN_X", "abc")
    assert read_secret("env:TOKEN_X") == "abc"
    for wrong in (
        "credential:../token",
        "env:NOT_THERE",
        "file:/nowhere",
        "s3cret-value",
        f"file:{tmp_path}",
    ):
        with pytest.raises(ConfigError):
            read_secret(wrong)
    made = make_token(tmp_path / "made")
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600
    assert make_token(tmp_path / "made") == made
    assert len(base64.urlsafe_b64decode(made + "=")) == 32


SENTINEL = "p@ss/w0rd sentinel"


@pytest.mark.parametrize(
    "text",
    [
        f"failed: rtsp://admin:{SENTINEL}@camera-7/stream",
        f"token {SENTINEL!r}",
        f"{quote(SENTINEL)} at camera-7",
        f"{quote(SENTINEL, safe='')}",
        base64.b64encode(SENTINEL.encode()).decode(),
        json.dumps({"a": SENTINEL}),
    ],
)
def test_redaction(text: str) -> None:
    redactor = Redactor()
    redactor.learn([SENTINEL])
    clean = redactor.redact(text)
    assert "sentinel" not in clean
    assert base64.b64encode(SENTINEL.encode()).decode().rstrip("=") not in clean
    assert ("camera-7" in clean) == ("camera-7" in text)


def test_logins_are_redacted_unknown() -> None:
    clean = Redactor().redact("open rtsp://admin:we@ird/pass@10.0.0.7:554/x and http://h/a@b")
    assert "ird" not in clean
    assert "10.0.0.7:554/x" in clean


def test_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "3000000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        notifier = Notifier()
        assert notifier.watchdog_s == 1.5
        notifier.ready("two\nlines")
        assert systemd.recv(500) == b"READY=1\nSTATUS=two lines"
        notifier.alive()
        assert systemd.recv(500) == b"WATCHDOG=1"
        notifier.close()
    deaf = Notifier()
    deaf.alive()
    deaf.close()
    monkeypatch.delenv("NOTIFY_SOCKET")
    Notifier().alive()


class Still:
    """A daemon whose status never changes."""

    def status(self) -> DaemonStatus:
        camera = CameraStatus(
            name="gate",
            state="fine",
            faults=(),
            message="<script>",
            mode="triggered",
            bundle="tiny",
            width=4,
            height=3,
            colour=None,
            captured=9,
            scored=8,
            dropped=1,
            skipped=0,
            bad=0,
            faulty=0,
            reconnects=0,
            fps=4.5,
            frame_age_ms=20.0,
            frame_age_p99_ms=31.0,
            score=0.4,
            threshold=0.5,
            anomalous=False,
            alarm=True,
            drifting=False,
            parts={"pass": 3},
        )
        store = StoreStatus(
            state="fine", message="", generated=3, stored=2, memory=0, dropped={"room": 1}, size_mb=0.1
        )
        return DaemonStatus(
            version="1",
            ready=False,
            state="retrying",
            problems=("one <b>",),
            started_wall_s=0,
            uptime_s=5,
            cameras=(camera,),
            workers=(),
            store=store,
            sinks=(),
        )

    def alive(self) -> bool:
        return True

    def shown(self, camera: str) -> Shown | None:
        return Shown(
            picture=1, frame=2, wall_s=0, score=None, threshold=0.5, anomalous=None, fault="<i>", alarm=False
        )

    def picture(self, camera: str, number: int | None = None) -> bytes | None:
        if camera != "gate":
            raise KeyError(camera)
        return b"jpeg"

    def scores(self, camera: str) -> Sequence[Score]:
        if camera != "gate":
            raise KeyError(camera)
        return [Score(wall_s=float(number), score=0.1 * number, anomalous=None) for number in range(5)]

    def events(
        self, limit: int, before: int | None = None, camera: str | None = None
    ) -> Sequence[tuple[int, Event]]:
        event = Event(
            kind="anomaly",
            phase="opened",
            event_id="e" * 32,
            camera="gate",
            reason="<i>",
            boot_id="b",
            wall_s=0.0,
            monotonic_s=0.0,
        )
        return [(7, event)] if before is None or before > 7 else []

    def evidence(self, path: str) -> bytes | None:
        return b"jpeg" if path == "20260101/00000000-frame.jpg" else None

    def redeliver(self, sink: str | None, since_s: float | None, until_s: float | None) -> int | None:
        if sink not in (None, "hook"):
            raise KeyError(sink)
        return 3

    def trigger(self, trigger: Trigger, answer: Answer) -> None:
        answer(PartDecision(camera=trigger.camera, part=trigger.part, decision="pass", reason="score"))


READ, CONTROL = "read-token-sentinel", "control-token-sentinel"


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    """A page with two tokens."""
    made = WebServer(WebConfig(listen="127.0.0.1:0"), Still(), READ, CONTROL, None, {"gate": 1.0})
    made.start()
    yield made
    made.stop(5)


def ask(
    server: WebServer, path: str, method: str = "GET", body: Any = None, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body, headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(
            method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


ROUTES = [
    "/",
    "/cameras/gate",
    "/events",
    "/events/7",
    "/health",
    "/picture/gate.jpg",
    "/readyz",
    "/metrics",
    "/evidence/20260101/00000000-frame.jpg",
    "/api/status",
    "/api/cameras",
    "/api/cameras/gate/scores",
    "/api/events",
]
PART = "/api/cameras/gate/parts"


def bearer(token: str) -> dict[str, str]:
    """As a header."""
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_wants_a_token(server: WebServer, path: str) -> None:
    assert ask(server, path)[0] == 401
    assert ask(server, path, Cookie="sspcab_session=99999999999.read.abcd")[0] == 401
    code, data, headers = ask(server, path, **bearer(READ))
    assert code == (503 if path == "/readyz" else 200), "something is wrong with that daemon"
    assert data
    assert headers["x-content-type-options"] == "nosniff"
    if headers["content-type"].startswith("text/html"):
        assert b"<script>" not in data
        assert b"<i>" not in data


def test_scopes(server: WebServer) -> None:
    body = b'{"part": "a"}'
    assert ask(server, PART, "POST", body)[0] == 401
    assert ask(server, PART, "POST", body, **bearer(READ))[0] == 403
    code, data, _ = ask(server, PART, "POST", body, **bearer(CONTROL))
    assert code == 200
    assert json.loads(data)["decision"] == "pass"


def test_sending_again(server: WebServer) -> None:
    again = "/api/redeliver"
    assert ask(server, again, "POST", b"{}", **bearer(READ))[0] == 403
    assert ask(server, again, "POST", b'{"sink": "hook"}', **bearer(CONTROL))[1] == b'{"schema":1,"events":3}'
    assert ask(server, again, "POST", b'{"sink": "none"}', **bearer(CONTROL))[0] == 404
    assert ask(server, again, "POST", b'{"sink": 4}', **bearer(CONTROL))[0] == 400


def test_the_open_door_says_nothing(server: WebServer) -> None:
    assert ask(server, "/healthz")[:2] == (200, b"ok")
    assert ask(server, "/nothing")[0] == 401
    assert ask(server, "/nothing", **bearer(READ))[0] == 404


def test_sessions(server: WebServer) -> None:
    assert ask(server, "/", Accept="text/html")[2]["location"] == "/login"
    code, _, headers = ask(server, "/login", "POST", f"token={CONTROL}".encode())
    assert code == 303
    cookie = headers["set-cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    session = cookie.split(";")[0]
    assert ask(server, "/", Cookie=session)[0] == 200
    assert ask(server, PART, "POST", b'{"part": "b"}', Cookie=session)[0] == 403, "no origin"
    own = f"http://127.0.0.1:{server.port}"
    assert ask(server, PART, "POST", b'{"part": "b"}', Cookie=session, Origin=own)[0] == 200
    assert ask(server, PART, "POST", b'{"part": "b"}', Cookie=session, Origin="http://evil")[0] == 403
    old = f"{int(time.time()) - 5}.control.{session.rpartition('.')[2]}"
    assert ask(server, "/", Cookie=f"sspcab_session={old}")[0] == 401


def test_other_names_are_refused(server: WebServer) -> None:
    assert ask(server, "/", Host="evil.example", **bearer(READ))[0] == 421


TRAVERSALS = [
    prefix + middle + "etc/passwd"
    for prefix in ("", "20260101/", "/", "./")
    for middle in (
        "../" * 3,
        "..%2f" * 3,
        "%2e%2e/" * 3,
        "%252e%252e%252f" * 3,
        "..\\" * 3,
        "..%5c" * 3,
        "....//" * 3,
        "..;/" * 3,
        "%00../",
        "//",
        "\uff0e\uff0e/".encode().decode("latin-1"),
        "~/",
    )
] + ["20260101/00000000-frame.jpg%00", "20260101/00000000-frame.jpg/..", "..", ".", "%2e", "20260101"]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_traversal(server: WebServer, path: str) -> None:
    for route in ("/evidence/", "/picture/", "/cameras/", "/static/", "/events/"):
        target = quote(route + path, safe="/%.;~\\:")
        code, data, _ = ask(server, target, **bearer(READ))
        assert code in (400, 404, 307), (target, code)
        assert b"root:" not in data


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\xff" * 100 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET " + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"b" * 1_000_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: b\r\n\r\n",
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_malformed_requests(server: WebServer, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=15) as client:
        got = b""
        try:
            client.sendall(raw)
            client.shutdown(socket.SHUT_WR)
            while chunk := client.recv(65536):
                got += chunk
        except OSError:
            pass  # it hung up, which is an answer too
    assert not got.startswith(b"HTTP/1.1 5"), got[:100]
    assert ask(server, "/healthz")[0] == 200


def test_slow_clients(server: WebServer) -> None:
    """N1: none holds a place for more than ten seconds, and everybody else is served meanwhile."""
    begin = time.monotonic()
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(25)]
    open_ = dict.fromkeys(slow, True)
    longest = 0.0
    for client in slow:
        client.setblocking(False)
    while any(open_.values()) and time.monotonic() - begin < 12:
        for client in slow:
            try:
                client.send(b"G")
                if client.recv(10) == b"":
                    open_[client] = False
            except BlockingIOError:
                continue
            except OSError:
                open_[client] = False
        asked = time.monotonic()
        assert ask(server, "/healthz")[0] == 200
        longest = max(longest, time.monotonic() - asked)
        time.sleep(0.4)
    took = time.monotonic() - begin
    for client in slow:
        client.close()
    assert not any(open_.values())
    assert longest <= 0.5
    print(
        f"25 slow clients were hung up on within {took:.1f} s; /healthz took {longest * 1e3:.0f} ms at most"
    )


def test_too_many_clients(server: WebServer) -> None:
    crowd = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
    time.sleep(0.3)
    closed = 0
    for client in crowd:
        client.settimeout(0.05)
        try:
            closed += client.recv(10) == b""
        except TimeoutError:
            continue
        except OSError:
            closed += 1
    for client in crowd:
        client.close()
    assert closed >= 60 - 32


def test_bodies_have_a_limit(server: WebServer) -> None:
    code, _, _ = ask(server, PART, "POST", b'{"part": "' + b"x" * 70_000 + b'"}', **bearer(CONTROL))
    assert code == 413
    for body in (b"", b"[]", b'{"part": 3}', b'{"part": ""}', b'{"part": "a", "deadline_ms": -1}', b"\xff"):
        assert ask(server, PART, "POST", body, **bearer(CONTROL))[0] == 400


def test_guessing_is_slowed_down(caplog: pytest.LogCaptureFixture) -> None:
    made = WebServer(WebConfig(listen="127.0.0.1:0"), Still(), READ, None, None, {"gate": 1.0})
    made.start()
    with caplog.at_level(logging.DEBUG):
        codes = [ask(made, "/", **bearer(f"wrong-{number}"))[0] for number in range(12)]
    assert codes == [401] * 10 + [429] * 2
    assert ask(made, "/", **bearer(READ))[0] == 429
    made.stop(5)
    assert READ not in caplog.text


class Flipping(Still):
    """Its camera is judged as fast as it can be, normal and anomalous in turn."""

    def __init__(self) -> None:
        self._latest, self._stop = LatestPicture(every_s=0.0), threading.Event()
        self._thread = threading.Thread(target=self._judge)

    def __enter__(self) -> Flipping:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _judge(self) -> None:
        grey, number = np.full((300, 600, 3), 128, np.uint8), 0
        while not self._stop.is_set():
            number += 1
            anomalous = bool(number % 2)
            verdict = Verdict(0.5 + (0.01 if anomalous else -0.01) * (number % 7 + 1), 0.5, anomalous, None)
            moment = Moment(number, number / 1e3, alarm=anomalous)
            self._latest.keep(grey, verdict, None, moment, time.monotonic())
            time.sleep(0.0005)

    def shown(self, camera: str) -> Shown | None:
        return self._latest.show()

    def picture(self, camera: str, number: int | None = None) -> bytes | None:
        return self._latest.jpeg(number)


@pytest.mark.parametrize("path", ["/", "/cameras/gate"])
def test_a_card_is_of_one_frame(path: str) -> None:
    """The word, the figures and the alarm beside a picture are those that are burnt into it."""
    with Flipping() as daemon:
        server = WebServer(WebConfig(listen="127.0.0.1:0"), daemon, READ, CONTROL, None, {"gate": 1.0})
        server.start()
        words = set()
        for _ in range(20):
            page = ask(server, path, **bearer(READ))[1].decode()
            found = re.search(r'src="(/picture/gate\.jpg\?number=\d+)"', page)
            word = re.search(r'<span class="badge \w+">(normal|anomalous)</span>', page)
            score = re.search(r"score (0\.\d+), threshold 0\.5", page)
            assert found is not None
            assert word is not None
            assert score is not None
            time.sleep(0.01)  # a browser comes a while later
            code, data, _ = ask(server, found[1], **bearer(READ))
            assert code == 200
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            assert image is not None
            blue, green, red = image[3, 3].tolist()
            assert word[1] == ("anomalous" if red > green else "normal"), (blue, green, red)
            assert (float(score[1]) > 0.5) == (word[1] == "anomalous")
            assert ('<span class="badge bad">alarm</span>' in page) == (word[1] == "anomalous")
            words.add(word[1])
        assert words == {"normal", "anomalous"}
        assert ask(server, "/picture/gate.jpg?number=1", **bearer(READ))[0] == 404, "no longer kept"
        server.stop(5)


def test_a_fault_is_no_verdict(server: WebServer) -> None:
    page = ask(server, "/", **bearer(READ))[1].decode()
    assert "not judged: &lt;i&gt;" in page
    assert "normal" not in page
