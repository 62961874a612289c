"""The outbox as tables: plain functions on one SQLite connection. Who calls them owns the thread.

One connection only, so that the WAL corruption of SQLite before 3.51.3 (which needs two) cannot happen;
``synchronous=FULL``, so that what was committed outlives a power cut on drives that honour a sync.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sspcab_runtime.daemon.events import Event, decode_event, encode_event

__all__ = [
    "DamagedTextConnection",
    "count",
    "count_dropped",
    "counters",
    "insert",
    "latest",
    "left_open",
    "make_room",
    "open_database",
    "restore",
    "size_bytes",
    "sound_event",
    "transaction",
]

_SCHEMA = 2
_PAGE = 4096
_WAL_PAGES = 200
_COLUMNS = "(camera, seq, event_id, phase, severity, data, crc) VALUES (?, ?, ?, ?, ?, ?, ?)"
_ROOM_ROWS = 64
"""Rows that are removed at a time when there is no more room."""

_TABLES = """
CREATE TABLE IF NOT EXISTS events (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    camera TEXT NOT NULL, seq INTEGER NOT NULL,
    event_id TEXT NOT NULL, phase TEXT NOT NULL, severity INTEGER NOT NULL, data BLOB NOT NULL,
    crc INTEGER NOT NULL,
    UNIQUE (event_id, phase), UNIQUE (camera, seq));
CREATE TABLE IF NOT EXISTS deliveries (
    sink TEXT NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (sink, row)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_by_severity ON events (severity, row);
CREATE INDEX IF NOT EXISTS deliveries_by_row ON deliveries (row);
CREATE TABLE IF NOT EXISTS sequences (camera TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS refused (sink TEXT NOT NULL, row INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (sink, row)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS refused_by_row ON refused (row);
"""


class DamagedTextConnection(sqlite3.Connection):
    """A connection whose errors are all :class:`sqlite3.Error`.

    Of a damaged schema SQLite's message quotes bytes that are no UTF-8, and Python then raises
    UnicodeDecodeError instead of the error.
    """

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """As the base class."""
        try:
            return super().execute(*arguments)
        except UnicodeDecodeError as error:
            raise sqlite3.DatabaseError("database disk image is malformed: its schema is no text") from error

    def executescript(self, script: str, /) -> sqlite3.Cursor:
        """As the base class."""
        try:
            return super().executescript(script)
        except UnicodeDecodeError as error:
            raise sqlite3.DatabaseError("database disk image is malformed: its schema is no text") from error


def open_database(path: Path) -> sqlite3.Connection:
    """Open or make the database, and check it.

    Raises:
        sqlite3.Error: It cannot be opened, is damaged, or of a later version.
    """
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=1.0, factory=DamagedTextConnection
    )
    try:
        connection.execute(f"PRAGMA page_size={_PAGE}")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA mmap_size=0")
        connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit={_WAL_PAGES * _PAGE}")
        (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if sound != "ok":
            raise sqlite3.DatabaseError(f"quick_check: {sound}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, _SCHEMA):
            raise sqlite3.DatabaseError(f"version {version}, expected {_SCHEMA}")
        connection.executescript(_TABLES)
        connection.execute(f"PRAGMA user_version={_SCHEMA}")
    except BaseException:
        connection.close()
        raise
    return connection


def insert(connection: sqlite3.Connection, events: Iterable[Event], sinks: Sequence[str]) -> list[Event]:
    """Keep events in one transaction, and owe each to every sink; they come back with their ``seq``.

    One that is there already (same ``event_id`` and ``phase``) comes back as it was kept.

    Raises:
        sqlite3.Error: Nothing was kept.
    """
    kept = []
    with transaction(connection):
        for event in events:
            known = connection.execute(
                "SELECT seq, data, crc FROM events WHERE event_id=? AND phase=?",
                (event.event_id, event.phase),
            ).fetchone()
            if known is not None:
                seq, data, crc = known
                kept.append(sound_event(data, crc) or _with_seq(event, seq))
                continue
            (seq,) = connection.execute(
                "INSERT INTO sequences VALUES (?, 1) ON CONFLICT (camera) "
                "DO UPDATE SET seq = seq + 1 RETURNING seq",
                (event.camera,),
            ).fetchone()
            numbered = _with_seq(event, seq)
            cursor = connection.execute(f"INSERT INTO events {_COLUMNS}", _row(numbered))
            connection.executemany(
                "INSERT INTO deliveries VALUES (?, ?)", [(sink, cursor.lastrowid) for sink in sinks]
            )
            count(connection, "generated", 1)
            kept.append(numbered)
    return kept


def restore(
    connection: sqlite3.Connection, saved: Sequence[tuple[Event, Sequence[str]]], sinks: Sequence[str]
) -> None:
    """Carry over events of a damaged database with the numbers that they had; sequences go on behind them."""
    with transaction(connection):
        for event, owed in saved:
            cursor = connection.execute(f"INSERT OR IGNORE INTO events {_COLUMNS}", _row(event))
            if not cursor.rowcount:
                continue
            connection.executemany(
                "INSERT INTO deliveries VALUES (?, ?)",
                [(sink, cursor.lastrowid) for sink in set(owed) if sink in sinks],
            )
            connection.execute(
                "INSERT INTO sequences VALUES (?, ?) ON CONFLICT (camera) "
                "DO UPDATE SET seq = MAX(seq, excluded.seq)",
                (event.camera, event.seq),
            )
            count(connection, "generated", 1)


def latest(
    connection: sqlite3.Connection, limit: int, before: int | None, camera: str | None
) -> list[tuple[int, Event]]:
    """The newest events first, without those that are damaged."""
    rows = connection.execute(
        "SELECT row, data, crc FROM events WHERE row < ? AND (? IS NULL OR camera = ?) "
        "ORDER BY row DESC LIMIT ?",
        (2**62 if before is None else before, camera, camera, limit),
    )
    found = ((row, sound_event(data, crc)) for row, data, crc in rows.fetchall())
    return [(row, event) for row, event in found if event is not None]


def left_open(connection: sqlite3.Connection) -> list[Event]:
    """Events that opened something and were never followed by one that closed it, oldest first."""
    rows = connection.execute(
        "SELECT data, crc FROM events AS o WHERE phase='opened' AND NOT EXISTS "
        "(SELECT 1 FROM events AS c WHERE c.event_id=o.event_id AND c.phase='closed') ORDER BY row"
    )
    found = (sound_event(data, crc) for data, crc in rows.fetchall())
    return [event for event in found if event is not None]


def make_room(connection: sqlite3.Connection, most_bytes: int) -> int:
    """Remove events until the database is within its size; how many were dropped that some sink was owed.

    Those that all sinks have go first, then those that some sink is owed or refused; of either, those of low
    severity first, and the oldest of them.
    """
    dropped = 0
    while size_bytes(connection) > most_bytes:
        delivered = connection.execute(
            "SELECT row FROM events WHERE row NOT IN (SELECT row FROM deliveries) "
            "AND row NOT IN (SELECT row FROM refused) ORDER BY severity, row LIMIT ?",
            (_ROOM_ROWS,),
        ).fetchall()
        rows = (
            delivered
            or connection.execute(
                "SELECT row FROM events ORDER BY severity, row LIMIT ?", (_ROOM_ROWS,)
            ).fetchall()
        )
        if not rows:
            break
        with transaction(connection):
            for table in ("deliveries", "refused", "events"):
                connection.executemany(f"DELETE FROM {table} WHERE row=?", rows)
            if not delivered:
                dropped += len(rows)
                count(connection, "dropped:room", len(rows))
        connection.execute("PRAGMA incremental_vacuum")
    return dropped


def count_dropped(connection: sqlite3.Connection, reason: str, events: int) -> None:
    """Events that were generated and never stored."""
    with transaction(connection):
        count(connection, "generated", events)
        count(connection, f"dropped:{reason}", events)


def counters(connection: sqlite3.Connection) -> dict[str, int]:
    """All that was counted since the database was made."""
    return dict(connection.execute("SELECT name, value FROM counters").fetchall())


def size_bytes(connection: sqlite3.Connection) -> int:
    """Pages in use, in bytes; free pages are used again."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    return int(pages - free) * _PAGE


def count(connection: sqlite3.Connection, name: str, more: int) -> None:
    """Add to one of the counters, within a transaction."""
    if more:
        connection.execute(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) "
            "DO UPDATE SET value = value + excluded.value",
            (name, more),
        )


def sound_event(data: object, crc: object) -> Event | None:
    """The event of a row; None where a bit of it is not as it was written."""
    if not isinstance(data, bytes) or zlib.crc32(data) != crc:
        return None
    try:
        return decode_event(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of what is done within, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _row(event: Event) -> tuple[object, ...]:
    data = encode_event(event)
    crc = zlib.crc32(data)
    return event.camera, event.seq, event.event_id, event.phase, event.severity, data, crc


def _with_seq(event: Event, seq: int) -> Event:
    return msgspec.structs.replace(event, seq=seq)
