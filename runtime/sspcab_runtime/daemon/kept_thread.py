"""The one kind of thread that the daemon has: begun again where an error ends it, which is never silent."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from sspcab_runtime.daemon.status import ThreadStatus
from sspcab_runtime.daemon.waits import Waits

__all__ = ["KeptThread"]

_LOG = logging.getLogger(__name__)

_STEPS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_WELL_S = 3.0
"""So long after it was begun again, it is fine."""


class KeptThread:
    """Does its work until it is told to end.

    Args:
        name: What it does, for people.
        work: Returns when ``ending`` is set, soon; is called again where it raises, or returns before.

    Attributes:
        ending: Set when it is to end.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.name, self._work = name, work
        self.ending = threading.Event()
        self._failed = self._said = ""
        self._begun_s: float | None = None
        self._restarts = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Set ``ending``, and wait for so long at most."""
        self.ending.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def is_alive(self) -> bool:
        """Whether it was begun and has not ended."""
        return self._thread.is_alive()

    def say(self, trouble: str) -> None:
        """From its work: what it cannot do for now, one line; empty: nothing."""
        self._said = trouble

    def status(self) -> ThreadStatus:
        """From any thread."""
        failed, said, begun_s = self._failed, self._said, self._begun_s
        if failed and begun_s is not None and time.monotonic() - begun_s > _WELL_S:
            failed = ""
        return ThreadStatus(
            name=self.name,
            state="failed" if failed else "retrying" if said else "fine",
            message=failed or said,
            restarts=self._restarts,
        )

    def _run(self) -> None:
        waits = Waits(_STEPS_S, random.Random())
        while True:
            begun_s = self._begun_s = time.monotonic()
            try:
                self._work()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is: it becomes trouble
                what = f"{type(error).__name__}: {error}".replace("\n", " ")
                _LOG.error("thread %s failed, and is begun again: %s", self.name, what, exc_info=error)
            else:
                what = "it ended by itself"
                if not self.ending.is_set():
                    _LOG.error("thread %s ended by itself, and is begun again", self.name)
            if self.ending.is_set():
                return
            self._failed, self._begun_s = what, None
            if time.monotonic() - begun_s > _STEPS_S[-1]:
                waits.reset()
            if self.ending.wait(waits.next()):
                return
            self._restarts += 1
