"""What sinks are owed, as functions on the store's connection. Who calls them owns the thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from sspcab_runtime.daemon.events import Event
from sspcab_runtime.daemon.store.database import count, sound_event, transaction

__all__ = ["acknowledge", "pending", "queued", "redeliver", "refuse"]

_DAMAGED = "damaged in the store"


def pending(connection: sqlite3.Connection, sink: str, after: int, limit: int) -> list[tuple[int, Event]]:
    """What a sink is owed, in order, beyond a row.

    Rows that are not as they were written are set aside and counted, and the next ones come instead.
    """
    while True:
        rows = connection.execute(
            "SELECT row, data, crc FROM deliveries LEFT JOIN events USING (row) WHERE sink=? AND row>? "
            "ORDER BY row LIMIT ?",
            (sink, after, limit),
        ).fetchall()
        found = [(row, sound_event(data, crc)) for row, data, crc in rows]
        damaged = [row for row, event in found if event is None]
        if damaged:
            with transaction(connection):
                for row in damaged:
                    _set_aside(connection, sink, row, _DAMAGED)
                count(connection, f"quarantined:{sink}", len(damaged))
        if len(damaged) < len(rows) or not rows:
            return [(row, event) for row, event in found if event is not None]


def queued(connection: sqlite3.Connection, sink: str) -> int:
    """How many events a sink is owed."""
    return int(connection.execute("SELECT COUNT(*) FROM deliveries WHERE sink=?", (sink,)).fetchone()[0])


def acknowledge(connection: sqlite3.Connection, sink: str, rows: Sequence[int]) -> None:
    """A sink has these for good."""
    with transaction(connection):
        deleted = 0
        for row in rows:
            deleted += connection.execute(
                "DELETE FROM deliveries WHERE sink=? AND row=?", (sink, row)
            ).rowcount
        count(connection, f"delivered:{sink}", deleted)


def refuse(connection: sqlite3.Connection, sink: str, row: int, reason: str) -> None:
    """A sink will never take this one: it is set aside."""
    with transaction(connection):
        if _set_aside(connection, sink, row, reason):
            count(connection, f"refused:{sink}", 1)


def redeliver(
    connection: sqlite3.Connection, sink: str | None, since_s: float | None, until_s: float | None
) -> int:
    """Owe again what was set aside; how many events.

    Args:
        connection: The store's.
        sink: Of which sink; None: of all.
        since_s: Events of this Unix time and later; None: from the first on.
        until_s: Events before this Unix time; None: to the last.
    """
    rows = connection.execute(
        "SELECT sink, row, data, crc FROM refused JOIN events USING (row) "
        "WHERE reason <> ? AND (? IS NULL OR sink = ?)",
        (_DAMAGED, sink, sink),
    ).fetchall()
    again = []
    for name, row, data, crc in rows:
        event = sound_event(data, crc)
        if event is None or (since_s is not None and event.wall_s < since_s):
            continue
        if until_s is None or event.wall_s < until_s:
            again.append((name, row))
    with transaction(connection):
        for name, row in again:
            connection.execute("DELETE FROM refused WHERE sink=? AND row=?", (name, row))
            connection.execute("INSERT OR IGNORE INTO deliveries VALUES (?, ?)", (name, row))
            count(connection, f"refused:{name}", -1)
    return len(again)


def _set_aside(connection: sqlite3.Connection, sink: str, row: int, reason: str) -> bool:
    if not connection.execute("DELETE FROM deliveries WHERE sink=? AND row=?", (sink, row)).rowcount:
        return False
    connection.execute("INSERT OR REPLACE INTO refused VALUES (?, ?, ?)", (sink, row, reason[:200]))
    return True
