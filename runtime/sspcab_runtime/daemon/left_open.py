"""What an earlier run of the daemon opened and never closed, since it was killed or lost its power."""

from __future__ import annotations

import logging
import queue
import sqlite3
import time
from concurrent.futures import TimeoutError as LateError

import msgspec

from sspcab_runtime.daemon.clock import boot_id, clock_synchronised
from sspcab_runtime.daemon.events import Event
from sspcab_runtime.daemon.store import Store, left_open

__all__ = ["close_left_open"]

_LOG = logging.getLogger(__name__)


def close_left_open(store: Store, seconds: float) -> int:
    """Close every alarm and fault that is still open, with the reason ``restarted``; how many.

    Before anything else opens one. How long they went on is not known, so that they have no duration.

    Args:
        store: Started.
        seconds: To wait for it, at most.
    """
    try:
        opened = store.call(left_open).result(seconds)
    except (sqlite3.Error, LateError, queue.Full) as error:
        _LOG.error("what an earlier run left open is not known: %s", error)
        return 0
    for event in opened:
        store.put(_closed(event))
    if opened:
        _LOG.warning("%d alarms and faults of an earlier run were open, and are closed", len(opened))
    return len(opened)


def _closed(event: Event) -> Event:
    return msgspec.structs.replace(
        event,
        phase="closed",
        seq=0,
        reason="restarted",
        message=f"the daemon ended while this was open ({event.reason}): how it went on is not known",
        boot_id=boot_id(),
        wall_s=time.time(),
        monotonic_s=time.monotonic(),
        clock_synchronised=clock_synchronised(),
        score=None,
        frame=None,
        evidence=None,
        objects=None,
    )
