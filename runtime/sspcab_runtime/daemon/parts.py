"""Parts on a line: what a trigger asks, and the one answer that it gets. No logic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

__all__ = ["Answer", "Decision", "PartDecision", "Reason", "Trigger"]

Decision = Literal["pass", "fail", "no decision"]

Reason = Literal["score", "late", "camera", "engine", "overload", "disarmed", "stopped", "restarted"]


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """A part is in front of the camera.

    Attributes:
        camera: Which one looks at it.
        part: The line's own name of the part, 1 to 128 printable characters; of one camera, no two alike.
        received_s: Monotonic clock when the trigger arrived, in seconds.
        deadline_s: Monotonic clock by which the answer is needed.
    """

    camera: str
    part: str
    received_s: float
    deadline_s: float


class PartDecision(msgspec.Struct, frozen=True, kw_only=True):
    """The answer.

    Attributes:
        decision: ``no decision`` whenever there is no verdict that can be trusted, in time.
        reason: Why.
        score: Of the frame, where there is one. Also ``threshold``, ``bundle`` (digest), ``frame``.
        latency_ms: From trigger to decision.
        repeated: The same part was triggered before: this is the answer it got then.
    """

    camera: str
    part: str
    decision: Decision
    reason: Reason
    message: str = ""
    score: float | None = None
    threshold: float | None = None
    bundle: str | None = None
    frame: int | None = None
    latency_ms: float = 0.0
    repeated: bool = False


Answer = Callable[[PartDecision], None]
"""Called once, from any thread, with the decision of a part."""
