"""Engines that take the time they are told to: to try a gate, or the pipeline around a fast accelerator."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sspcab_edge.ports import Array
from sspcab_edge.protocols import Engine

__all__ = ["SlowedEngine", "WaitingEngine"]


class _Around:
    """Another engine's facts. Implements :class:`sspcab_edge.protocols.Engine`, but for ``infer``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.backend, self.version, self.device = engine.backend, engine.version, engine.device
        self.inputs, self.outputs, self.max_batch = engine.inputs, engine.outputs, engine.max_batch

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()

    def __exit__(self, *error: object) -> None:
        self.close()


class SlowedEngine(_Around):
    """An engine that takes longer by a share of each call: busy, without Python's lock, as engines are."""

    def __init__(self, engine: Engine, share: float) -> None:
        super().__init__(engine)
        self._share = share

    def infer(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """What the engine gives, later."""
        start = time.perf_counter()
        outputs = self._engine.infer(inputs)
        until = time.perf_counter() + self._share * (time.perf_counter() - start)
        while time.perf_counter() < until:
            time.sleep(0)
        return outputs

    def __enter__(self) -> SlowedEngine:
        return self


class WaitingEngine(_Around):
    """An accelerator beside the CPU: every call sleeps, and gives what the first gave.

    The engine behind it is asked once. Verdicts mean nothing; the time around them does.
    """

    def __init__(self, engine: Engine, milliseconds: float) -> None:
        super().__init__(engine)
        self._seconds = milliseconds / 1e3
        self._outputs: Mapping[str, Array] | None = None

    def infer(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """The first outputs, after the time has passed."""
        until = time.perf_counter() + self._seconds
        if self._outputs is None:
            self._outputs = self._engine.infer(inputs)
        time.sleep(max(0.0, until - time.perf_counter()))
        return self._outputs

    def __enter__(self) -> WaitingEngine:
        return self
