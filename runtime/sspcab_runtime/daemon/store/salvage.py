"""A database that is damaged is put aside, and what can be read of it is carried over."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from sspcab_runtime.daemon.events import Event
from sspcab_runtime.daemon.store.database import DamagedTextConnection, sound_event

__all__ = ["put_aside", "readable_events"]

_SECONDS = 2.0
"""Reading a damaged file takes no longer: the daemon has to start."""


def put_aside(path: Path) -> Path:
    """Rename a database and its companions to ``*.corrupt-UTC``; the new name of the database."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.corrupt-{stamp}")
    number = 0
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.corrupt-{stamp}-{number}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    return aside


def readable_events(path: Path) -> list[tuple[Event, tuple[str, ...]]]:
    """Events of a damaged database that can still be read, with the sinks that each is owed to."""
    found: dict[int, tuple[Event, list[str]]] = {}
    until = time.monotonic() + _SECONDS
    connection = sqlite3.connect(path, isolation_level=None, factory=DamagedTextConnection)
    try:
        connection.set_progress_handler(lambda: int(time.monotonic() > until), 10_000)
        with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
            for row, data, crc in connection.execute("SELECT row, data, crc FROM events ORDER BY row"):
                event = sound_event(data, crc)
                if event is not None:
                    found[row] = (event, [])
        with contextlib.suppress(sqlite3.Error, UnicodeDecodeError):
            for sink, row in connection.execute("SELECT sink, row FROM deliveries"):
                if row in found and isinstance(sink, str):
                    found[row][1].append(sink)
    finally:
        connection.close()
    return [(event, tuple(sinks)) for event, sinks in found.values()]
