"""How long to wait before a process is started again: quick at first, bounded in the long run."""

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["CAMERA_STEPS_S", "WORKER_STEPS_S", "Waits"]

CAMERA_STEPS_S = (1.0, 2.0, 2.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""A camera that was off for a moment is found within seconds; one that is gone is asked twice a minute."""

WORKER_STEPS_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0)
"""The first restart is at once; what fails again and again takes little of the machine."""


class Waits:
    """The next wait is half to all of the next step, by chance, so that many do not come back at one time.

    Args:
        steps_s: Waits in seconds; the last repeats.
        chance: Random numbers.
    """

    def __init__(self, steps_s: Sequence[float], chance: random.Random) -> None:
        self._steps_s = tuple(steps_s)
        self._chance = chance
        self._number = 0

    def next(self) -> float:
        """Seconds to wait now."""
        step = self._steps_s[min(self._number, len(self._steps_s) - 1)]
        self._number += 1
        return step * self._chance.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It went well for a while: begin anew."""
        self._number = 0
