"""A thread per sink: what is owed goes out in order, and is deleted when it is acknowledged."""

from __future__ import annotations

import logging
import random
import time

from sspcab_runtime.daemon.kept_thread import KeptThread
from sspcab_runtime.daemon.sinks.base import Refused, Sink, SinkDown, SinkWrong
from sspcab_runtime.daemon.status import SinkStatus
from sspcab_runtime.daemon.store import Store
from sspcab_runtime.daemon.waits import Waits

__all__ = ["SinkRunner"]

_LOG = logging.getLogger(__name__)

_STEPS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0)
_LOOK_S = 1.0
_STUCK_S = 45.0
"""A try that takes longer is trouble before it ends."""


class SinkRunner:
    """Keeps one sink supplied.

    Args:
        name: Of the sink.
        kind: Of the sink, for status.
        sink: It.
        store: Where the events are.
    """

    def __init__(self, name: str, kind: str, sink: Sink, store: Store) -> None:
        self.name, self._kind, self._sink, self._store = name, kind, sink, store
        self._waits = Waits(_STEPS_S, random.Random())
        self._trouble, self._wrong = "", False
        self._connecting = False
        self._trying_s: float | None = None
        self._queued = 0
        self.thread = KeptThread(f"sink {name}", self._run)

    def start(self) -> None:
        """Begin to deliver."""
        self.thread.start()

    def stop(self, seconds: float) -> None:
        """End; what is owed is delivered after the next start."""
        self.thread.join(seconds)

    def status(self) -> SinkStatus:
        """As of the latest try, and of one that does not end."""
        trouble, wrong, since = self._trouble, self._wrong, self._trying_s
        trouble = trouble or self.thread.status().message
        trying_s = 0.0 if since is None else time.monotonic() - since
        if not trouble and trying_s > _STUCK_S:
            trouble = f"it takes nothing for {trying_s:.0f} s"
        return SinkStatus(
            name=self.name,
            kind=self._kind,
            state="wrong" if wrong else "retrying" if trouble else "fine",
            message=trouble,
            delivered=self._store.counter(f"delivered:{self.name}"),
            queued=self._queued,
            refused=self._store.counter(f"refused:{self.name}"),
            quarantined=self._store.counter(f"quarantined:{self.name}"),
        )

    def _run(self) -> None:
        self._trying_s = None
        self._sink.close()  # what an error left of it
        while not self.thread.ending.is_set():
            try:
                self._connect()
                if self._once():
                    self._waits.reset()
            except SinkDown as error:
                self._trying_s = None
                if str(error) != self._trouble:
                    _LOG.warning("sink %s: %s; it is tried again", self.name, error)
                self._trouble, self._wrong = str(error), isinstance(error, SinkWrong)
                self._queued = self._store.queued(self.name)
                self.thread.ending.wait(self._waits.next())
        self._sink.close()

    def _connect(self) -> None:
        before, self._connecting, self._trying_s = self._connecting, True, time.monotonic()
        self._sink.connect()
        self._connecting, self._trying_s = False, None
        if before:
            self._well()

    def _once(self) -> bool:
        """Deliver what is owed; whether anything was. Only what is taken shows that a sink takes anything."""
        owed = self._store.pending(self.name, 0, self._sink.window)
        if not owed:
            self._queued = self._store.queued(self.name)
            self._store.wait(_LOOK_S)
            return False
        self._trying_s = time.monotonic()
        try:
            rows = self._sink.deliver(owed)
        except Refused as error:
            self._trying_s = None
            self._well()
            _LOG.warning("sink %s refuses event %d: %s", self.name, owed[0][0], error)
            self._store.refuse(self.name, owed[0][0], str(error))
            return True
        self._trying_s = None
        self._well()
        if rows:
            self._store.acknowledge(self.name, rows)
        self._queued = self._store.queued(self.name)
        return True

    def _well(self) -> None:
        if self._trouble:
            _LOG.info("sink %s works again", self.name)
        self._trouble, self._wrong = "", False
