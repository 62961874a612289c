"""Whether a camera is at fault, from facts: a state machine without a clock of its own."""

from __future__ import annotations

from collections import deque
from statistics import median

from sspcab_runtime.daemon.config import IntegrityConfig
from sspcab_runtime.daemon.messages import Facts

__all__ = ["CameraJudge"]

_FLAT = 6.0
"""Standard deviation of the luma (levels) below which a dark picture is black."""
_STILL = 0.1
"""Mean change (levels) between grey copies below which a picture is the same again.

A repeated picture in H.264 changes by 0.00 to 0.06 levels, and by up to 1.5 at key frames, one at a time; the
noise of a sensor (standard deviation of half a level and more) by 0.27 and more with every frame. A camera
whose encoder removes all noise of a quiet scene looks frozen: for that one the check has to be off."""
_LIVELY = 2
"""So many frames in a row that do change are not a frozen camera's."""
_NORMAL_FRAMES = 30
"""Frames of the camera's own normal sharpness."""
_LEARN_EVERY_S = 2.0
_BLURRED_FRAMES = 5
_MOVED_TIMES = 3


class CameraJudge:
    """Faults of one camera: ``black``, ``saturated``, ``blurred``, ``moved``, ``frozen``.

    That no frames come at all is seen by whoever waits for them.

    Frames of the first ``frozen_s`` of a still picture are fine: only time tells a frozen camera from a quiet
    scene. After that none is.
    """

    def __init__(self, config: IntegrityConfig) -> None:
        self._config = config
        self._normal: deque[float] = deque(maxlen=_NORMAL_FRAMES)
        self._open: set[str] = set()
        self._said: set[str] = set()
        self.reset()

    def reset(self) -> None:
        """A new connection: what was still or far is not known any more. Open faults stay until disproved."""
        self._still_since: float | None = None
        self._lively = 0
        self._blurred = 0
        self._moved = 0
        self._learned_s = float("-inf")
        self._found_s: dict[str, float] = {}

    @property
    def faults(self) -> frozenset[str]:
        """Those that are open."""
        return frozenset(self._open)

    def frame(self, facts: Facts, now: float) -> frozenset[str]:
        """Look at a frame's facts, at monotonic time ``now``; the faults that keep it from being scored."""
        found = self._find(facts, now)
        for fault in found:
            self._found_s[fault] = now
        self._open |= found
        hold_s = self._config.hold_s
        for fault in tuple(self._open - found):
            measured = fault != "moved" or facts.shift is not None
            if measured and now - self._found_s.get(fault, float("-inf")) >= hold_s:
                self._open.discard(fault)
        return self.faults

    def changes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Faults that were opened, and closed, since this was asked last."""
        opened, closed = sorted(self._open - self._said), sorted(self._said - self._open)
        self._said = set(self._open)
        return tuple(opened), tuple(closed)

    def _find(self, facts: Facts, now: float) -> set[str]:
        config = self._config
        found = set()
        if config.black and facts.luma < config.black and facts.contrast < _FLAT:
            found.add("black")
        if config.saturated and facts.clipped > config.saturated:
            found.add("saturated")
        if self._is_frozen(facts, now):
            found.add("frozen")
        if not found and self._is_blurred(facts, now):
            found.add("blurred")
        if self._is_moved(facts):
            found.add("moved")
        return found

    def _is_frozen(self, facts: Facts, now: float) -> bool:
        self._lively = self._lively + 1 if facts.change is None or facts.change > _STILL else 0
        if facts.change is None or self._lively >= _LIVELY:
            self._still_since = None
            return False
        if self._still_since is None:
            self._still_since = now
        return bool(self._config.frozen_s) and now - self._still_since >= self._config.frozen_s

    def _is_blurred(self, facts: Facts, now: float) -> bool:
        """A sharpness far below the median of the camera's own frames, which a blurred one is not among."""
        if not self._config.blurred:
            return False
        if len(self._normal) == _NORMAL_FRAMES:
            if facts.sharpness < self._config.blurred * median(self._normal):
                self._blurred += 1
                return self._blurred >= _BLURRED_FRAMES
            self._blurred = 0
            if now - self._learned_s < _LEARN_EVERY_S:
                return False
        self._learned_s = now
        self._normal.append(facts.sharpness)
        return False

    def _is_moved(self, facts: Facts) -> bool:
        """Far from the reference view, several times in a row: not just something large that passes."""
        if not self._config.moved:
            return False
        if facts.shift is not None:
            self._moved = self._moved + 1 if facts.shift > self._config.moved else 0
        return self._moved >= _MOVED_TIMES
