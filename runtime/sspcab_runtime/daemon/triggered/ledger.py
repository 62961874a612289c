"""Which parts were asked about, and what was answered: over restarts too.

A part is written down when it is triggered and when it is decided, by the store's thread; the answer does not
wait for the disk, since it has a deadline. So after a power cut the latest decisions may be unknown: a part
that was triggered and has none is then "no decision: restarted", whatever was answered before.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import OrderedDict

import msgspec

from sspcab_runtime.daemon.parts import PartDecision, Trigger
from sspcab_runtime.daemon.store import Store

__all__ = ["Ledger"]

_KEPT = 20_000
"""Parts of all cameras that are remembered, at most."""
_PART_BYTES = 2048
"""Of the largest part on disk: its name three times, its decision, and what tables need."""
_SHARE = 4
"""Parts take this share of the store at most: the rest is for events, however many triggers there are."""
_TIDY = 100
"""Parts between looks at how many there are."""

_TABLE = """
CREATE TABLE IF NOT EXISTS parts (
    row INTEGER PRIMARY KEY AUTOINCREMENT, camera TEXT NOT NULL, part TEXT NOT NULL, decision BLOB,
    UNIQUE (camera, part))
"""


class Ledger:
    """Remembers parts. One thread uses it; disk is the store's.

    Args:
        store: Started.
        max_mb: Of all that the store keeps.
    """

    def __init__(self, store: Store, max_mb: int) -> None:
        self._store = store
        self._kept = min(_KEPT, max_mb * 2**20 // _SHARE // _PART_BYTES)
        self._answers: OrderedDict[tuple[str, str], PartDecision] = OrderedDict()

    def load(self, seconds: float) -> int:
        """Read what an earlier run left, for so long at most; how many parts it left undecided.

        Raises:
            sqlite3.Error: The disk fails.
            TimeoutError: It is too slow.
        """
        decisions, undecided = self._store.call(_load).result(seconds)
        for decision in decisions:
            self._keep(decision)
        return undecided

    def earlier(self, trigger: Trigger) -> PartDecision | None:
        """What was answered for that part before, marked as repeated; None for a new one."""
        found = self._answers.get((trigger.camera, trigger.part))
        return None if found is None else msgspec.structs.replace(found, repeated=True)

    def begin(self, trigger: Trigger) -> None:
        """A new part is there."""
        self._store.call(lambda connection: _begin(connection, trigger, self._kept), spare=True)

    def finish(self, decision: PartDecision) -> None:
        """It is decided."""
        self._keep(decision)
        self._store.call(lambda connection: _finish(connection, decision), spare=True)

    def _keep(self, decision: PartDecision) -> None:
        self._answers[decision.camera, decision.part] = decision
        while len(self._answers) > _KEPT:
            self._answers.popitem(last=False)


def _load(connection: sqlite3.Connection) -> tuple[list[PartDecision], int]:
    connection.execute(_TABLE)
    undecided = connection.execute("SELECT camera, part FROM parts WHERE decision IS NULL").fetchall()
    for camera, part in undecided:
        _finish(
            connection,
            PartDecision(camera=camera, part=part, decision="no decision", reason="restarted"),
        )
    rows = connection.execute(
        "SELECT decision FROM (SELECT row, decision FROM parts ORDER BY row DESC LIMIT ?) ORDER BY row",
        (_KEPT,),
    )
    decisions = []
    for (data,) in rows.fetchall():
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, TypeError):
            decisions.append(msgspec.json.decode(data, type=PartDecision))  # a damaged one is unknown
    return decisions, len(undecided)


def _begin(connection: sqlite3.Connection, trigger: Trigger, kept: int) -> None:
    row = connection.execute(
        "INSERT INTO parts (camera, part) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (trigger.camera, trigger.part),
    ).lastrowid
    if row is not None and row % _TIDY == 0:
        connection.execute("DELETE FROM parts WHERE row <= ?", (row - kept,))


def _finish(connection: sqlite3.Connection, decision: PartDecision) -> None:
    connection.execute(
        "UPDATE parts SET decision=? WHERE camera=? AND part=?",
        (msgspec.json.encode(decision), decision.camera, decision.part),
    )
