"""Events are kept: through kills, damaged databases, full disks and brokers that are gone."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from definitions.running_daemon import free_port, wait_for
from sspcab_edge.errors import ConfigError, OutputError
from sspcab_runtime.daemon.cli import group
from sspcab_runtime.daemon.config import (
    EvidenceConfig,
    JsonLinesConfig,
    MqttConfig,
    StoreConfig,
    WebhookConfig,
)
from sspcab_runtime.daemon.events import Event
from sspcab_runtime.daemon.evidence import EvidenceKeeper
from sspcab_runtime.daemon.parts import PartDecision, Trigger
from sspcab_runtime.daemon.sinks.json_lines import JsonLinesSink
from sspcab_runtime.daemon.sinks.mqtt import MqttSink
from sspcab_runtime.daemon.sinks.runner import SinkRunner
from sspcab_runtime.daemon.sinks.webhook import WebhookSink
from sspcab_runtime.daemon.store import Store
from sspcab_runtime.daemon.triggered import Ledger

_WRITER = """
import sys, threading, time
from pathlib import Path
from sspcab_runtime.daemon.config import StoreConfig
from sspcab_runtime.daemon.events import Event
from sspcab_runtime.daemon.store import Store
store = Store(Path(sys.argv[1]), StoreConfig(), ("sink",))
store.start()
lock = threading.Lock()
def stored(event):
    with lock:
        sys.stdout.write(f"{event.event_id} {event.seq}\\n")
        sys.stdout.flush()
number = 0
while True:
    number += 1
    store.put(Event(kind="anomaly", phase="opened", event_id=f"{sys.argv[2]}-{number}",
                    camera=f"c{number % 2}", reason="score", boot_id="b", wall_s=0.0,
                    monotonic_s=0.0), stored)
    time.sleep(0.005)
"""


def event(number: int, camera: str = "one", kind: str = "anomaly") -> Event:
    """Some event."""
    return Event(
        kind=kind,  # type: ignore[arg-type]
        phase="noted",
        event_id=uuid4().hex,
        camera=camera,
        reason="score",
        message=str(number),
        boot_id="boot",
        wall_s=float(number),
        monotonic_s=float(number),
    )


def database(folder: Path) -> sqlite3.Connection:
    """A look at the file while nobody else has it."""
    return sqlite3.connect(folder / "events.db")


def test_nothing_acknowledged_is_lost_by_kills(tmp_path: Path, scale: int) -> None:
    """S1: SIGKILL at random times; what was acknowledged is there, numbered without gaps."""
    chance, kills = random.Random(20), 6 * scale * (5 if scale > 1 else 1)
    acknowledged: dict[str, int] = {}
    for run in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path), str(run)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(chance.uniform(0, 0.6))
        child.send_signal(signal.SIGKILL)
        out, _ = child.communicate(timeout=30)
        for line in (first + out).splitlines():
            words = line.split()
            if len(words) == 2:
                acknowledged[words[0]] = int(words[1])
    connection = database(tmp_path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    stored = dict(connection.execute("SELECT event_id, seq FROM events").fetchall())
    for camera in ("c0", "c1"):
        rows = connection.execute("SELECT seq FROM events WHERE camera=? ORDER BY row", (camera,)).fetchall()
        assert [seq for (seq,) in rows] == list(range(1, len(rows) + 1))
    connection.close()
    print(f"{kills} kills, {len(acknowledged)} events acknowledged, {len(stored)} stored")
    assert len(acknowledged) > 40 * kills / 2
    assert acknowledged.items() <= stored.items()


def test_every_acknowledged_commit_is_synced(tmp_path: Path) -> None:
    """S2 (a): as many syncs as transactions, counted by the kernel's calls."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    script = _WRITER.replace("while True:", "for _ in range(20):").replace(
        "time.sleep(0.005)", "store.flush(5)"
    )
    log = tmp_path / "calls"
    subprocess.run(
        [strace, "-f", "-e", "trace=fdatasync,fsync", "-o", str(log), sys.executable, "-c",
         script + "store.stop(5)", str(tmp_path), "r"],
        check=True, timeout=60, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert len([line for line in log.read_text().splitlines() if "sync(" in line]) >= 20


def test_a_damaged_database_is_put_aside(tmp_path: Path) -> None:
    """S5: started within 5 s, the old file kept, what is readable saved, and an event says so."""
    (tmp_path / "one").mkdir()
    store = Store(tmp_path / "one", StoreConfig(), ("sink",))
    store.start()
    for number in range(300):
        store.put(event(number))
    assert store.flush(20)
    store.stop(5)
    whole = (tmp_path / "one" / "events.db").read_bytes()
    chance, saved = random.Random(21), []
    cases = 200
    for case in range(cases):
        folder = tmp_path / f"case {case}"
        folder.mkdir()
        data = bytearray(whole)
        if case % 2:
            data = data[: chance.randrange(1, len(data))]
        else:
            for _ in range(200):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (folder / "events.db").write_bytes(bytes(data))
        begin = time.monotonic()
        store = Store(folder, StoreConfig(), ("sink",))
        store.start()
        store.put(event(1000))
        assert store.flush(5), store.status()
        assert time.monotonic() - begin <= 5
        found = store.events(1000, None, None)
        aside = [file.name for file in folder.glob("*.corrupt-*")]
        if aside:
            assert any(one.reason == "database" and "was damaged" in one.message for _, one in found)
            saved.append(len(found) - 2)
        assert store.status().state == "fine"
        store.stop(5)
        connection = database(folder)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
    print(f"{len(saved)} of {cases} were put aside; events saved of 300: at most {max(saved)}")
    assert len(saved) > cases / 2


def test_a_full_disk_is_counted_and_recovers(tmp_path: Path) -> None:
    """S3: generated = stored + memory + dropped, always; alarms stay, and writing goes on by itself."""
    store = Store(tmp_path, StoreConfig(memory=50), ("sink",))
    store.start()
    for number in range(20):
        store.put(event(number))
    assert store.flush(10)
    full = store.call(lambda connection: connection.execute("PRAGMA max_page_count=1").fetchone()[0])
    full.result(5)
    for number in range(400):
        store.put(event(number, kind="anomaly" if number % 4 == 0 else "camera"))
    wait_for(lambda: store.status().state == "degraded", 10, "degraded")
    store.flush(5)
    status = store.status()
    assert status.generated == 420
    assert status.generated == status.stored + status.memory + sum(status.dropped.values())
    assert status.memory <= 50
    begin = time.monotonic()
    store.call(lambda connection: connection.execute("PRAGMA max_page_count=1000000").fetchone()).result(5)
    wait_for(lambda: store.status().state == "fine", 5, "writing again")
    status = store.status()
    print(f"writing again after {time.monotonic() - begin:.1f} s: {status}")
    assert status.generated == 420 == status.stored + sum(status.dropped.values())
    assert status.memory == 0
    kept = [one for _, one in store.events(500, None, None)]
    assert sum(one.kind == "anomaly" for one in kept) >= 50
    store.stop(5)


def test_a_full_file_system(tmp_path: Path) -> None:
    """S3 on a tmpfs of 8 MiB that is filled to the last byte: nothing is lost uncounted, and it recovers."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "sspcab-test", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no right to mount: {mounted.stderr.decode().strip()}")
    try:
        store = Store(tmp_path, StoreConfig(memory=200), ("sink",))
        store.start()
        for number in range(50):
            store.put(event(number))
        assert store.flush(5)
        ballast = tmp_path / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
        wait_for(lambda: _put_until_degraded(store), 10, "degraded")
        for number in range(1000, 1500):
            store.put(event(number))
        time.sleep(1.0)
        held = store.status()
        assert held.state == "degraded"
        assert held.memory <= 200
        ballast.unlink()
        begin = time.monotonic()
        wait_for(lambda: store.status().state == "fine", 5, "writing again")
        recovered_s = time.monotonic() - begin
        assert store.flush(5)
        status = store.status()
        print(f"writing again after {recovered_s:.1f} s: {status}")
        assert status.generated == status.stored + status.memory + sum(status.dropped.values())
        assert status.dropped
        store.stop(5)
        connection = database(tmp_path)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def _put_until_degraded(store: Store) -> bool:
    for number in range(20):
        store.put(event(500 + number))
    time.sleep(0.1)
    return store.status().state == "degraded"


def test_the_size_has_a_cap(tmp_path: Path) -> None:
    """S6: within the cap; delivered events go first; the rest is counted."""
    store = Store(tmp_path, StoreConfig(max_mb=1), ("sink",))
    store.start()
    for number in range(6000):
        store.put(event(number))
    assert store.flush(60)
    status = store.status()
    assert status.size_mb <= 1.1
    assert (tmp_path / "events.db-wal").stat().st_size <= 4 * 2**20
    assert status.dropped["room"] > 0
    assert status.generated == 6000 == status.stored + status.dropped["room"]
    assert store.queued("sink") == status.stored
    store.stop(5)


def test_one_daemon_a_folder(tmp_path: Path) -> None:
    """R3: the second is told at once."""
    store = Store(tmp_path, StoreConfig(), ())
    with pytest.raises(OutputError, match="another daemon uses"):
        Store(tmp_path, StoreConfig(), ())
    store.start()
    store.stop(5)
    again = Store(tmp_path, StoreConfig(), ())
    again.start()
    again.stop(5)


class Broker:
    """A real mosquitto that can be killed."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        if not Path(program).exists():
            pytest.skip("mosquitto is not installed: no broker to test with")
        self.port = free_port()
        self._folder = folder
        self._command = [program, "-c", str(folder / "mosquitto.conf")]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, anonymous: bool = True) -> None:
        """Start it, and wait until it listens."""
        import socket

        (self._folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous {str(anonymous).lower()}\npersistence true\n"
            f"persistence_location {self._folder}/\nautosave_interval 1\nautosave_on_changes true\n"
            "user root\n"
        )

        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        wait_for(listens, 10, "the broker listens")

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None


@pytest.fixture
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """It is not started yet."""
    made = Broker(tmp_path_factory.mktemp("broker"))
    yield made
    made.kill()


def test_a_broker_that_dies(tmp_path: Path, broker: Broker) -> None:
    """M1: all that was generated arrives, in order per camera, few of them twice."""
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    got: list[dict[str, object]] = []
    broker.start()

    def listen() -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id="listener", clean_session=False)
        client.on_message = lambda _, __, message: got.append(json.loads(message.payload))
        client.on_connect = lambda c, *_: c.subscribe("sspcab/+/anomaly", qos=1)
        client.connect("127.0.0.1", broker.port)
        client.reconnect_delay_set(0.2, 0.5)  # type: ignore[arg-type]
        client.loop_start()
        return client

    listener = listen()
    store = Store(tmp_path, StoreConfig(), ("mqtt",))
    store.start()
    config = MqttConfig(host="127.0.0.1", port=broker.port)
    sink = MqttSink("mqtt", config, lambda reference: "", tmp_path, tmp_path)
    runner = SinkRunner("mqtt", "mqtt", sink, store)
    runner.start()
    generated = 0
    for outage in range(3):
        for _ in range(100):
            store.put(event(generated, camera=f"c{generated % 2}"))
            generated += 1
            time.sleep(0.002)
        if outage < 2:
            broker.kill()
            for _ in range(100):
                store.put(event(generated, camera=f"c{generated % 2}"))
                generated += 1
            wait_for(lambda: runner.status().state == "retrying", 10, "noticed")
            broker.start()
    wait_for(lambda: len({one["event_id"] for one in got}) == generated, 30, "all delivered")
    wait_for(lambda: store.queued("mqtt") == 0, 10, "nothing is owed any more")
    status = runner.status()
    assert status.delivered == generated
    assert len(got) - generated <= 2 * 20
    for camera in ("c0", "c1"):
        numbers = [one["seq"] for one in got if one["camera"] == camera]
        firsts = list(dict.fromkeys(numbers))
        assert firsts == sorted(firsts)  # type: ignore[type-var]
    print(f"{generated} generated, {len(got)} received, {len(got) - generated} twice")
    runner.stop(5)
    listener.disconnect()
    listener.loop_stop()
    store.stop(5)


class Hook(BaseHTTPRequestHandler):
    """Answers what it is told to, and remembers."""

    answers: ClassVar[list[int]] = []
    got: ClassVar[list[tuple[int, str, str]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        code = self.answers.pop(0) if self.answers else 204
        self.got.append((code, body["message"], self.headers["Idempotency-Key"]))
        self.send_response(code)
        self.send_header("Location", "http://127.0.0.1:9/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        del arguments


@contextlib.contextmanager
def hooks(folder: Path, answers: list[int]) -> Iterator[tuple[Store, SinkRunner]]:
    """A store with a sink that posts to a :class:`Hook` which answers so."""
    Hook.answers, Hook.got = answers, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    store = Store(folder, StoreConfig(), ("hook",))
    store.start()
    config = WebhookConfig(url=f"http://127.0.0.1:{server.server_port}/x", token="env:T")
    runner = SinkRunner(
        "hook", "webhook", WebhookSink("hook", config, lambda _: "t0ken", folder, folder), store
    )
    runner.start()
    try:
        yield store, runner
    finally:
        runner.stop(5)
        store.stop(5)
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_webhook(tmp_path: Path) -> None:
    """M5: only what speaks of the event sets it aside; redirects are not followed, order is kept."""
    with hooks(tmp_path, [204, 500, 503, 204, 413, 302, 204]) as (store, runner):
        for number in range(6):
            store.put(event(number))
        wait_for(lambda: runner.status().delivered == 5 and store.queued("hook") == 0, 20, "all dealt with")
        assert runner.status().refused == 1
        assert [(code, message) for code, message, _ in Hook.got] == [
            (204, "0"), (500, "1"), (503, "1"), (204, "1"), (413, "2"), (302, "3"), (204, "3"), (204, "4"),
            (204, "5"),
        ]  # fmt: skip
        assert len({key for _, _, key in Hook.got}) == 6


_TAKES_NOTHING = [
    (301, "wrong", "redirects are not followed"),
    (302, "wrong", "redirects are not followed"),
    (304, "wrong", "redirects are not followed"),
    (308, "wrong", "redirects are not followed"),
    (401, "wrong", "the token is not accepted"),
    (403, "wrong", "the token may not do this"),
    (404, "wrong", "nothing at that address"),
    (405, "wrong", "nothing takes a POST"),
    (410, "wrong", "any more"),
    (415, "wrong", "it takes no events there"),
    (408, "retrying", "answers 408"),
    (429, "retrying", "answers 429"),
    (500, "retrying", "answers 500"),
    (507, "retrying", "answers 507"),
]


def test_a_webhook_that_takes_nothing(tmp_path: Path) -> None:
    """The event stays owed, and the sink is not fine, until it takes it; what it refuses is set aside."""
    with hooks(tmp_path, []) as (store, runner):
        for number, (code, state, why) in enumerate(_TAKES_NOTHING):
            Hook.answers = [code]
            store.put(event(number))
            wait_for(lambda: runner.status().state != "fine", 5, f"trouble by {code}")
            found = runner.status()
            assert (found.state, found.delivered, found.refused) == (state, number, 0), code
            assert why in found.message
            wait_for(lambda: runner.status().queued == 1, 5, "counted")
            wait_for(lambda n=number: runner.status().delivered == n + 1, 10, "delivered after all")  # type: ignore[misc]
            assert runner.status().state == "fine"
        for number, code in enumerate((400, 413, 422)):
            Hook.answers = [code]
            store.put(event(100 + number))
            wait_for(lambda n=number: runner.status().refused == n + 1, 5, "refused")  # type: ignore[misc]
            assert runner.status().state == "fine"
        assert runner.status().delivered == len(_TAKES_NOTHING)
        assert store.queued("hook") == 0


def test_what_was_refused_is_sent_again(tmp_path: Path) -> None:
    """By sink and time; once; and what is owed all the time stays as it was."""
    with hooks(tmp_path, [422, 204, 400, 413, 204]) as (store, runner):
        for number in range(5):
            store.put(event(number))
        wait_for(lambda: (runner.status().delivered, runner.status().refused) == (2, 3), 10, "dealt with")
        assert store.redeliver("other", None, None).result(5) == 0
        assert store.redeliver("hook", 1.0, 3.0).result(5) == 1
        wait_for(lambda: (runner.status().delivered, runner.status().refused) == (3, 2), 10, "again")
        assert store.redeliver(None, None, None).result(5) == 2
        wait_for(lambda: (runner.status().delivered, runner.status().refused) == (5, 0), 10, "the others")
        assert [message for code, message, _ in Hook.got if code == 204] == ["1", "4", "2", "0", "3"]
        assert store.redeliver(None, None, None).result(5) == 0


def test_sending_again_by_command(tmp_path: Path) -> None:
    """Where no daemon runs, the command does it; where one holds the store, it says so."""
    (tmp_path / "edge.toml").write_text(
        f'[bundles.a]\npath = "b"\n[cameras.one]\nsource = "http://127.0.0.1:9/"\nbundle = "a"\n'
        f'[web]\nlisten = "127.0.0.1:{free_port()}"\n'
        '[sinks.hook]\nkind = "webhook"\nurl = "http://127.0.0.1:9/"\n'
    )

    def command(*more: str) -> tuple[int, str]:
        arguments = ["redeliver", "--config", str(tmp_path / "edge.toml"), *more]
        result = CliRunner().invoke(group, arguments)
        return result.exit_code, result.output + str(result.exception or "")

    assert "there is no state folder" in command()[1]
    (tmp_path / "state").mkdir()
    store = Store(tmp_path / "state", StoreConfig(), ("hook",))
    store.start()
    for number in range(4):
        store.put(event(number))
    assert store.flush(5)
    for row, _ in store.pending("hook", 0, 10):
        assert store.refuse("hook", row, "answers 413")
    assert "another daemon uses" in command()[1]
    store.stop(5)
    assert command("--until", "1970-01-01T00:00:02+00:00") == (0, "2 events are owed again\n")
    assert command("--sink", "hook", "--json")[1].strip() == '{"schema": 1, "events": 2}'
    assert "expected one of hook" in command("--sink", "x")[1]
    assert "expected a time such as" in command("--since", "yesterday")[1]


def test_single_bits(tmp_path: Path) -> None:
    """Flipped bits in stored events: each of those is set aside, all others arrive, in order."""
    chance, flipped, events = random.Random(22), 1000, 1200
    store = Store(tmp_path, StoreConfig(), ("lines",))
    store.start()
    for number in range(events):
        store.put(event(number))
    assert store.flush(20)
    chosen = chance.sample(range(1, events + 1), flipped)

    def flip(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        for row in chosen:
            data = bytearray(connection.execute("SELECT data FROM events WHERE row=?", (row,)).fetchone()[0])
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            connection.execute("UPDATE events SET data=? WHERE row=?", (bytes(data), row))
        connection.execute("COMMIT")

    store.call(flip).result(20)
    sink = JsonLinesSink("lines", JsonLinesConfig(path="events.jsonl"), str, tmp_path, tmp_path)
    runner = SinkRunner("lines", "jsonl", sink, store)
    runner.start()
    wait_for(lambda: store.queued("lines") == 0, 20, "nothing is owed")
    wait_for(lambda: runner.status().delivered == events - flipped, 5, "delivered")
    status = runner.status()
    assert (status.state, status.quarantined, status.refused) == ("fine", flipped, 0)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [int(line["message"]) for line in lines] == [n for n in range(events) if n + 1 not in set(chosen)]
    assert len(store.events(500, None, None)) <= events - flipped
    assert store.redeliver(None, None, None).result(5) == 0, "what is damaged stays where it is"
    runner.stop(5)
    store.stop(5)


@pytest.mark.parametrize("token", ["two\nlines", "a\rb", "t\u00f6ken", "tab\there", ""])
def test_a_token_that_can_never_be_sent(tmp_path: Path, token: str) -> None:
    """It is said at the start, without its words."""
    config = WebhookConfig(url="https://127.0.0.1/x", token="env:T")
    with pytest.raises(ConfigError, match=r"sinks\.hook\.token: what env:T holds") as caught:
        WebhookSink("hook", config, lambda _: token, tmp_path, tmp_path)
    assert not token or token not in str(caught.value)


def test_authorities_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for ca, why in (("none", "No such file"), ("empty", "it holds no certificates")):
        with pytest.raises(ConfigError, match=why):
            WebhookSink("hook", WebhookConfig(url="https://h/x", ca=ca), str, tmp_path, tmp_path)
        with pytest.raises(ConfigError, match=why):
            MqttSink("mqtt", MqttConfig(host="h", tls=True, ca=ca), str, tmp_path, tmp_path)


def test_triggers_leave_room_for_alarms(tmp_path: Path) -> None:
    """Far more parts than the store may hold: no event goes for them, and the newest parts are known."""
    store = Store(tmp_path, StoreConfig(max_mb=1), ("sink",))
    store.start()
    for number in range(500):
        store.put(event(number))
    ledger = Ledger(store, 1)
    ledger.load(5)
    for number in range(4000):
        part = f"{number}".zfill(100)
        ledger.begin(Trigger(camera="one", part=part, received_s=0.0, deadline_s=1.0))
        ledger.finish(PartDecision(camera="one", part=part, decision="pass", reason="score"))
        if number % 1000 == 999:
            assert store.flush(30)
    store.put(event(500))
    assert store.flush(30)
    status = store.status()
    assert status.dropped.get("room", 0) == 0
    assert status.size_mb <= 1.1
    assert store.queued("sink") == 501
    again = Ledger(store, 1)
    assert again.load(5) == 0
    known = again.earlier(Trigger(camera="one", part=part, received_s=0.0, deadline_s=1.0))
    assert known is not None
    assert known.repeated
    store.stop(5)


def test_a_queue_of_triggers_leaves_room_for_alarms(tmp_path: Path) -> None:
    """While the disk hangs, triggers fill no more than half of what may wait."""
    store = Store(tmp_path, StoreConfig(memory=20_000), ())
    store.start()
    hangs = threading.Event()
    store.call(lambda connection: hangs.wait(30))
    calls = [store.call(lambda connection: None, spare=True) for _ in range(20_000)]
    assert any(call.done() and isinstance(call.exception(), queue.Full) for call in calls)
    for number in range(8000):
        store.put(event(number, kind="camera"))
    for number in range(1000):
        store.put(event(number))
    hangs.set()
    assert store.flush(30)
    status = store.status()
    kept = sum(one.kind == "anomaly" for _, one in store.events(10_000, None, None))
    assert kept == 1000
    assert status.generated == 9000 == status.stored + sum(status.dropped.values())
    store.stop(5)


def test_a_broker_that_refuses(tmp_path: Path, broker: Broker) -> None:
    """A broker that wants a password is wrong, not fine; what is owed goes out when it opens."""
    broker.start(anonymous=False)
    store = Store(tmp_path, StoreConfig(), ("mqtt",))
    store.start()
    store.put(event(0))
    config = MqttConfig(host="127.0.0.1", port=broker.port)
    runner = SinkRunner(
        "mqtt", "mqtt", MqttSink("mqtt", config, lambda reference: "", tmp_path, tmp_path), store
    )
    runner.start()
    wait_for(lambda: runner.status().state == "wrong", 10, "refused")
    found = runner.status()
    assert "the broker refuses: Not authorized" in found.message
    assert (found.queued, found.delivered) == (1, 0)
    broker.kill()
    wait_for(lambda: runner.status().state == "retrying", 10, "not reached")
    broker.start()
    wait_for(lambda: runner.status().delivered == 1, 20, "delivered after all")
    assert runner.status().state == "fine"
    runner.stop(5)
    store.stop(5)


@pytest.mark.parametrize(
    ("path", "why"), [("/dev/full", "No space left"), ("file/events.jsonl", "File exists")]
)
def test_a_file_that_cannot_be_written(tmp_path: Path, path: str, why: str) -> None:
    """A full disk, and a folder that is none: wrong, and the event stays owed."""
    (tmp_path / "file").touch()
    store = Store(tmp_path, StoreConfig(), ("lines",))
    store.start()
    store.put(event(0))
    sink = JsonLinesSink("lines", JsonLinesConfig(path=path), str, tmp_path, tmp_path)
    runner = SinkRunner("lines", "jsonl", sink, store)
    runner.start()
    wait_for(lambda: runner.status().state == "wrong", 5, "wrong")
    for _ in range(20):  # between tries, too
        time.sleep(0.05)
        found = runner.status()
        assert (found.state, found.queued, found.delivered) == ("wrong", 1, 0)
        assert why in found.message
    runner.stop(5)
    store.stop(5)


def test_a_file_that_is_taken_away(tmp_path: Path) -> None:
    """Somebody moves or removes it, or puts a pipe there that nobody reads: no line goes where none looks."""
    store = Store(tmp_path, StoreConfig(), ("lines",))
    store.start()
    path = tmp_path / "events.jsonl"
    sink = JsonLinesSink("lines", JsonLinesConfig(path=path.name), str, tmp_path, tmp_path)
    runner = SinkRunner("lines", "jsonl", sink, store)
    runner.start()
    for number in range(2):
        store.put(event(number))
        wait_for(lambda n=number: runner.status().delivered == n + 1, 10, "written")  # type: ignore[misc]
        assert [json.loads(line)["message"] for line in path.read_text().splitlines()] == [str(number)]
        if number:
            path.unlink()
        else:
            path.rename(tmp_path / "old")
        wait_for(path.exists, 5, "made anew")
    path.unlink()
    os.mkfifo(path)
    wait_for(lambda: runner.status().state == "wrong", 5, "wrong")
    store.put(event(2))
    path.unlink()
    wait_for(lambda: runner.status().delivered == 3, 10, "written")
    assert [json.loads(line)["message"] for line in path.read_text().splitlines()] == ["2"]
    runner.stop(5)
    store.stop(5)


def test_evidence_that_cannot_be_kept(tmp_path: Path) -> None:
    """The event goes on without pictures, and that is said until one can be written again."""
    done: list[Event] = []
    (tmp_path / "evidence").touch()
    keeper = EvidenceKeeper(tmp_path / "evidence", EvidenceConfig(keep=("frame",)))
    keeper.start()
    assert keeper.thread.status().state == "fine"
    for number in range(2):
        one = msgspec.structs.replace(event(number), phase="opened", score=1.0, threshold=0.5)
        keeper.opened(one, np.zeros((32, 32, 3), np.uint8), None, None, done.append)
        wait_for(lambda n=number: len(done) == n + 1, 10, "gone on")  # type: ignore[misc]
        if number == 0:
            assert done[0].evidence is None
            found = keeper.thread.status()
            assert (found.state, found.message[:35]) == ("retrying", "pictures of events cannot be kept: ")
            (tmp_path / "evidence").unlink()
    assert done[1].evidence is not None
    assert keeper.thread.status().state == "fine"
    keeper.stop(5)


def test_lines_of_a_file(tmp_path: Path) -> None:
    """Each event is a line; a full file becomes .1; the disk's refusal is no loss."""
    store = Store(tmp_path, StoreConfig(), ("lines",))
    store.start()
    sink = JsonLinesSink("lines", JsonLinesConfig(path="out/events.jsonl", max_mb=1), str, tmp_path, tmp_path)
    runner = SinkRunner("lines", "jsonl", sink, store)
    runner.start()
    for number in range(500):
        store.put(event(number))
    wait_for(lambda: runner.status().delivered == 500, 20, "all lines written")
    lines = [json.loads(line) for line in (tmp_path / "out/events.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, 501))
    assert os.stat(tmp_path / "out/events.jsonl").st_mode & 0o077 == 0
    runner.stop(5)
    store.stop(5)
