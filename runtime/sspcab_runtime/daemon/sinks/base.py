"""What a sink is: something that takes events in order, or says that it cannot now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sspcab_runtime.daemon.events import Event

__all__ = ["Refused", "Sink", "SinkDown", "SinkWrong"]


class SinkDown(Exception):
    """It cannot take anything now; try again later."""


class SinkWrong(SinkDown):
    """It is there and takes nothing: somebody has to mend an address, a right or a disk."""


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
            SinkDown: It cannot now; SinkWrong where waiting alone will not help.
        """

    def deliver(self, events: Sequence[tuple[int, Event]]) -> list[int]:
        """Deliver events with their rows, in this order; the rows that were acknowledged, the first ones.

        Raises:
            SinkDown: It cannot now; none of these is acknowledged. SinkWrong as above.
            Refused: The first of these will never be taken, for what it says.
        """

    def close(self) -> None:
        """Hang up, saying goodbye."""
