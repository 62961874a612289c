"""The store: one thread, one connection, a queue in and answers out. Nobody who puts an event ever waits."""

from __future__ import annotations

import fcntl
import logging
import os
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from sspcab_edge.errors import OutputError
from sspcab_runtime.daemon.clock import boot_id
from sspcab_runtime.daemon.config import StoreConfig
from sspcab_runtime.daemon.events import SYSTEM, Event
from sspcab_runtime.daemon.kept_thread import KeptThread
from sspcab_runtime.daemon.status import StoreStatus
from sspcab_runtime.daemon.store import database, deliveries
from sspcab_runtime.daemon.store.salvage import put_aside, readable_events

__all__ = ["Store"]

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

_FILE, _LOCK = "events.db", "lock"
_GROUP = 100
"""Events of one transaction, at most."""
_RETRY_S = 2.0
_CALL_S = 5.0
_WAITING = 10_000
"""Events that may wait for the thread; it can only fall behind so far where the disk hangs."""


@dataclass(frozen=True)
class _Put:
    event: Event
    stored: Callable[[Event], None] | None


@dataclass(frozen=True)
class _Call:
    function: Callable[[sqlite3.Connection], object]
    future: Future[object] = field(default_factory=Future)


class Store:
    """Events on disk, in order.

    Args:
        folder: The state folder. One daemon at a time may use it.
        config: The store's table.
        sinks: Names of all sinks; events are kept for each until it has them.

    Raises:
        OutputError: Another daemon uses the folder, or it cannot be written to at start.
    """

    def __init__(self, folder: Path, config: StoreConfig, sinks: Sequence[str]) -> None:
        self._path, self._config, self._sinks = folder / _FILE, config, tuple(sinks)
        self._lock = _lock(folder / _LOCK)
        self._queue: queue.Queue[_Put | _Call | None] = queue.Queue(_WAITING)
        self._ring: deque[_Put] = deque()
        self._unwritten: dict[str, int] = {}
        self._overflow = 0
        self._overflow_lock = threading.Lock()
        self._trouble = ""
        self._retry_s = 0.0
        self._counters: dict[str, int] = {}
        self._size_mb = 0.0
        self._connection: sqlite3.Connection | None = None
        self._news = threading.Condition()
        self.thread = KeptThread("store", self._run)

    def start(self) -> None:
        """Open the database, putting a damaged one aside, and begin."""
        try:
            self._open()
        except (sqlite3.Error, OSError) as error:
            self._degrade(error)
        self.thread.start()

    def put(self, event: Event, stored: Callable[[Event], None] | None = None) -> None:
        """Keep an event; ``stored`` is called with it, numbered, by the store's thread once it is on disk.

        Where the thread is far behind, the last quarter of the queue is for alarms.
        """
        try:
            if event.kind != "anomaly" and self._queue.qsize() >= _WAITING * 3 // 4:
                raise queue.Full
            self._queue.put_nowait(_Put(event, stored))
        except queue.Full:
            with self._overflow_lock:
                self._overflow += 1

    def call(self, function: Callable[[sqlite3.Connection], _T], *, spare: bool = False) -> Future[_T]:
        """Have the store's thread call ``function`` with its connection, in order with everything else.

        The future fails with sqlite3.Error where the disk does, and with ``queue.Full`` at once where the
        thread is far behind; ``spare`` calls, of which there may be many, leave half of the queue to events.
        """
        call = _Call(function)
        try:
            if spare and self._queue.qsize() >= _WAITING // 2:
                raise queue.Full
            self._queue.put_nowait(call)
        except queue.Full as error:
            call.future.set_exception(error)
        return call.future  # type: ignore[return-value]

    def pending(self, sink: str, after: int, limit: int) -> list[tuple[int, Event]]:
        """What a sink is owed, in order, beyond a row; nothing while the disk fails."""
        return self._ask(lambda connection: deliveries.pending(connection, sink, after, limit), [])

    def acknowledge(self, sink: str, rows: Sequence[int]) -> bool:
        """A sink has these for good; False where that could not be noted."""

        def note(connection: sqlite3.Connection) -> bool:
            deliveries.acknowledge(connection, sink, rows)
            return True

        return self._ask(note, False)

    def refuse(self, sink: str, row: int, reason: str) -> bool:
        """A sink will never take this one; False where that could not be noted."""

        def note(connection: sqlite3.Connection) -> bool:
            deliveries.refuse(connection, sink, row, reason)
            return True

        return self._ask(note, False)

    def redeliver(self, sink: str | None, since_s: float | None, until_s: float | None) -> Future[int]:
        """Owe again what a sink (None: any) refused, of that time (Unix seconds); how many events.

        The future fails as that of :meth:`call`.
        """

        def again(connection: sqlite3.Connection) -> int:
            found = deliveries.redeliver(connection, sink, since_s, until_s)
            with self._news:
                self._news.notify_all()
            return found

        return self.call(again)

    def queued(self, sink: str) -> int:
        """How many events a sink is owed."""
        return self._ask(lambda connection: deliveries.queued(connection, sink), 0)

    def events(self, limit: int, before: int | None, camera: str | None) -> list[tuple[int, Event]]:
        """The newest events first; none while the disk fails."""
        return self._ask(lambda connection: database.latest(connection, limit, before, camera), [])

    def wait(self, seconds: float) -> None:
        """Wait until something was stored, for so long at most."""
        with self._news:
            self._news.wait(seconds)

    def counter(self, name: str) -> int:
        """One of the counters, as of the latest write."""
        return self._counters.get(name, 0)

    def status(self) -> StoreStatus:
        """As of the latest write."""
        counted = self._counters
        dropped = {name[8:]: value for name, value in counted.items() if name.startswith("dropped:")}
        with self._overflow_lock:
            overflow = self._overflow
        unwritten = {**self._unwritten, "overflow": overflow}
        for reason, events in unwritten.items():
            if events:
                dropped[reason] = dropped.get(reason, 0) + events
        held, late = len(self._ring), sum(unwritten.values())
        return StoreStatus(
            state="degraded" if self._trouble else "fine",
            message=self._trouble,
            generated=counted.get("generated", 0) + held + late,
            stored=counted.get("generated", 0)
            - sum(value for name, value in counted.items() if name.startswith("dropped:")),
            memory=held,
            dropped=dropped,
            size_mb=self._size_mb,
        )

    def flush(self, seconds: float) -> bool:
        """Wait until all that was put before is on disk; whether it is."""
        future = self.call(lambda connection: None)
        try:
            future.result(seconds)
        except (LateError, sqlite3.Error, queue.Full):
            return False
        return not self._ring

    def stop(self, seconds: float) -> None:
        """Write what can be written within so many seconds, and close."""
        self.thread.ending.set()
        self._queue.put(None)
        self.thread.join(seconds)
        os.close(self._lock)

    # the thread

    def _run(self) -> None:
        while True:
            timeout = _RETRY_S if self._trouble or self._ring else 30.0
            try:
                first = self._queue.get(timeout=timeout)
            except queue.Empty:
                self._write([])
                continue
            batch, call, stop = self._group(first)
            self._write(batch)
            if call is not None:
                self._answer(call)
            if stop:
                break
        self._write([])
        if self._connection is not None:
            self._connection.close()

    def _group(self, first: _Put | _Call | None) -> tuple[list[_Put], _Call | None, bool]:
        """Events that wait, up to the next that is something else."""
        batch: list[_Put] = []
        item = first
        while True:
            if item is None:
                return batch, None, True
            if isinstance(item, _Call):
                return batch, item, False
            batch.append(item)
            if len(batch) >= _GROUP:
                return batch, None, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, None, False

    def _write(self, batch: list[_Put]) -> None:
        self._ring.extend(batch)
        if self._trouble and time.monotonic() < self._retry_s:
            self._shorten()
            return
        with self._overflow_lock:
            overflow, self._overflow = self._overflow, 0
        if overflow:
            self._unwritten["overflow"] = self._unwritten.get("overflow", 0) + overflow
        try:
            if self._connection is None:
                self._open()
            assert self._connection is not None
            try:
                self._store(self._connection)
            except sqlite3.DatabaseError as error:
                if not _damaged(error):
                    raise
                self._connection.close()
                self._connection = None
                self._replace(error)
                assert self._connection is not None
                self._store(self._connection)
        except (sqlite3.Error, OSError) as error:
            self._degrade(error)
            self._shorten()
        else:
            if self._trouble:
                _LOG.warning("storage works again")
                self._trouble = ""

    def _store(self, connection: sqlite3.Connection) -> None:
        while self._ring:
            group = [self._ring[i] for i in range(min(_GROUP, len(self._ring)))]
            kept = database.insert(connection, [put.event for put in group], self._sinks)
            for put, event in zip(group, kept, strict=True):
                self._ring.popleft()
                if put.stored is not None:
                    put.stored(event)
            database.make_room(connection, self._config.max_mb * 2**20)
        for reason in tuple(self._unwritten):
            database.count_dropped(connection, reason, self._unwritten[reason])
            del self._unwritten[reason]
        self._counters = database.counters(connection)
        self._size_mb = database.size_bytes(connection) / 2**20
        with self._news:
            self._news.notify_all()

    def _shorten(self) -> None:
        """Memory is bounded: the oldest of low severity go, and are counted."""
        while len(self._ring) > self._config.memory:
            lowest = min(put.event.severity for put in self._ring)
            for number, put in enumerate(self._ring):
                if put.event.severity == lowest:
                    del self._ring[number]
                    break
            self._unwritten["storage"] = self._unwritten.get("storage", 0) + 1

    def _degrade(self, error: Exception) -> None:
        if not self._trouble:
            _LOG.error("events cannot be stored: %s; they are held in memory", error)
        self._trouble = f"events cannot be stored: {error}"
        self._retry_s = time.monotonic() + _RETRY_S

    def _answer(self, call: _Call) -> None:
        try:
            if self._connection is None:
                raise sqlite3.OperationalError(self._trouble or "the database is not open")
            result = call.function(self._connection)
            self._counters = database.counters(self._connection)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the answer
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            call.future.set_exception(error)
        else:
            call.future.set_result(result)

    def _ask(self, function: Callable[[sqlite3.Connection], _T], otherwise: _T) -> _T:
        try:
            return self.call(function).result(_CALL_S)
        except (LateError, sqlite3.Error, queue.Full):
            return otherwise

    def _open(self) -> None:
        try:
            self._connection = database.open_database(self._path)
        except sqlite3.DatabaseError as error:
            if not _damaged(error):
                raise
            self._replace(error)
        assert self._connection is not None
        _LOG.info("events are kept in %s (SQLite %s)", self._path.name, sqlite3.sqlite_version)
        self._counters = database.counters(self._connection)

    def _replace(self, error: Exception) -> None:
        aside = put_aside(self._path)
        saved = readable_events(aside)
        self._connection = database.open_database(self._path)
        database.restore(self._connection, saved, self._sinks)
        message = (
            f"the event database was damaged ({error}) and now {aside.name}; {len(saved)} events were saved"
        )
        _LOG.error("%s", message)
        note = Event(
            kind="system",
            phase="noted",
            event_id=uuid4().hex,
            camera=SYSTEM,
            reason="database",
            message=message,
            boot_id=boot_id(),
            wall_s=time.time(),
            monotonic_s=time.monotonic(),
        )
        database.insert(self._connection, [note], self._sinks)


def _lock(path: Path) -> int:
    """Hold the folder for this process, for as long as it lives."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise OutputError(f"the state folder {path.parent} cannot be written to: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise OutputError(f"another daemon uses {path.parent}: stop it first") from error
    return fd


def _damaged(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is at fault: not where there is no room, no right, or it is busy.

    What is inserted is never there before, so a constraint fails only where the file's own numbers are wrong.
    """
    return not isinstance(error, sqlite3.OperationalError) or "malformed" in str(error)
