"""Parts in front of one camera: which frame shows which, and what becomes of each. No clock, no threads.

Each part gets exactly one decision, before its deadline. It is ``pass`` or ``fail`` only by a frame that was
taken after the trigger and its delay. A verdict that comes too late is nobody's.
"""

from __future__ import annotations

from dataclasses import dataclass

from sspcab_runtime.daemon.config import TriggerConfig
from sspcab_runtime.daemon.parts import Decision, PartDecision, Reason, Trigger

__all__ = ["PartQueue"]

_MARGIN_S, _MARGIN_SHARE = 0.02, 0.1
"""An answer leaves so much before the deadline, or such a share of the time, if that is less."""


@dataclass
class _Part:
    trigger: Trigger
    frame: int | None = None

    @property
    def last_s(self) -> float:
        """When it has to be decided at the latest."""
        time_s = self.trigger.deadline_s - self.trigger.received_s
        return self.trigger.deadline_s - min(_MARGIN_S, _MARGIN_SHARE * time_s)


class PartQueue:
    """The parts of one camera that wait.

    Args:
        camera: Its name.
        config: Its trigger table.
    """

    def __init__(self, camera: str, config: TriggerConfig) -> None:
        self._camera, self._config = camera, config
        self._parts: dict[str, _Part] = {}
        self._camera_down: str | None = "it gave no frame yet"
        self._engine_down: str | None = "it is not ready yet"

    def __len__(self) -> int:
        """How many wait."""
        return len(self._parts)

    def waits(self, part: str) -> bool:
        """Whether that part waits already."""
        return part in self._parts

    def next_deadline(self) -> float | None:
        """When the next one has to be decided; None where none waits."""
        return min((part.last_s for part in self._parts.values()), default=None)

    def trigger(self, trigger: Trigger, now: float) -> list[PartDecision]:
        """A part is there, whose name is none that waits. It may be decided at once."""
        part = self._parts[trigger.part] = _Part(trigger)
        if self._camera_down is not None:
            return [self._decide(part, "no decision", "camera", now, message=self._camera_down)]
        if self._engine_down is not None:
            return [self._decide(part, "no decision", "engine", now, message=self._engine_down)]
        if len(self._parts) > self._config.waiting:
            return [self._decide(part, "no decision", "overload", now)]
        return self.tick(now)

    def frame(self, taken_s: float, number: int) -> bool:
        """A good frame was taken at monotonic time ``taken_s``; whether any part is to be judged by it."""
        self._camera_down = None
        wanted = False
        for part in self._parts.values():
            if part.frame is None and taken_s >= part.trigger.received_s + self._config.delay_s:
                part.frame, wanted = number, True
        return wanted

    def judged(
        self,
        number: int,
        score: float,
        threshold: float | None,
        anomalous: bool | None,
        now: float,
        bundle: str | None = None,
    ) -> list[PartDecision]:
        """The verdict of a frame."""
        decisions = self.tick(now)
        for part in self._of(number):
            decision: Decision = "no decision" if anomalous is None else "fail" if anomalous else "pass"
            reason: Reason = "disarmed" if anomalous is None else "score"
            decisions.append(
                self._decide(
                    part, decision, reason, now, score=score, threshold=threshold, frame=number, bundle=bundle
                )
            )
        return decisions

    def failed(self, number: int, reason: Reason, message: str, now: float) -> list[PartDecision]:
        """There will be no verdict of a frame."""
        return [
            self._decide(part, "no decision", reason, now, message=message, frame=number)
            for part in self._of(number)
        ]

    def camera_fault(self, message: str, now: float) -> list[PartDecision]:
        """No frame can be trusted, until the next good one."""
        self._camera_down = message or "it is at fault"
        return self._all("camera", self._camera_down, now)

    def engine_fault(self, message: str, now: float) -> list[PartDecision]:
        """Nothing is judged, until :meth:`engine_ready`."""
        self._engine_down = message or "it failed"
        return self._all("engine", self._engine_down, now)

    def engine_ready(self) -> None:
        """Frames are judged again."""
        self._engine_down = None

    def tick(self, now: float) -> list[PartDecision]:
        """Those whose time is over."""
        late = [part for part in self._parts.values() if now >= part.last_s]
        return [self._decide(part, "no decision", "late", now) for part in late]

    def close(self, reason: Reason, now: float) -> list[PartDecision]:
        """The end: everything that waits is undecided."""
        return self._all(reason, "", now)

    def _of(self, number: int) -> list[_Part]:
        return [part for part in self._parts.values() if part.frame == number]

    def _all(self, reason: Reason, message: str, now: float) -> list[PartDecision]:
        return [
            self._decide(part, "no decision", reason, now, message=message)
            for part in tuple(self._parts.values())
        ]

    def _decide(
        self,
        part: _Part,
        decision: Decision,
        reason: Reason,
        now: float,
        *,
        message: str = "",
        score: float | None = None,
        threshold: float | None = None,
        frame: int | None = None,
        bundle: str | None = None,
    ) -> PartDecision:
        del self._parts[part.trigger.part]
        return PartDecision(
            camera=self._camera,
            part=part.trigger.part,
            decision=decision,
            reason=reason,
            message=message,
            score=score,
            threshold=threshold,
            bundle=bundle,
            frame=frame,
            latency_ms=(now - part.trigger.received_s) * 1e3,
        )
