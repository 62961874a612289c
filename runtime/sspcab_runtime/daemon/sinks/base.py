"""What a sink is: something that takes events in order, or says that it cannot now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sspcab_runtime.daemon.events import Event

__all__ = ["Refused", "Sink", "SinkDown"]


class SinkDown(Exception):
    """It cannot take anything now; try again later."""


class Refused(Exception):
    """It will never take this event."""


class Sink(Protocol):
    """One receiver. Its thread alone calls it."""

    @property
    def window(self) -> int:
        """How many events may be on their way at a time."""

    def connect(self) -> None:
        """Make ready to deliver, if it is not.

        Raises:
            SinkDown: It cannot now.
        """

    def deliver(self, events: Sequence[tuple[int, Event]]) -> list[int]:
        """Deliver events with their rows, in this order; the rows that were acknowledged, the first ones.

        Raises:
            SinkDown: It cannot now; none of these is acknowledged.
            Refused: The first of these will never be taken.
        """

    def close(self) -> None:
        """Hang up, saying goodbye."""
