"""Fakes on the project's own seams, for tests of whoever builds on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

import numpy as np

from sspcab_edge.ports import Array, Port, check_inputs, whole_frame_ports

__all__ = ["FakeEngine", "brightness"]


def brightness(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """A whole-frame graph one can compute by hand: map = mean of RGB / 255, score = its maximum."""
    frames = inputs["frames"].astype(np.float32)
    maps = frames.mean(axis=3) / np.float32(255)
    return {"score": maps.max(axis=(1, 2)), "map": maps}


class FakeEngine:
    """An engine that runs a Python function, checks inputs like a real one, and counts its calls."""

    backend = "fake"
    version = "1"
    device = "here"
    max_batch = None

    def __init__(
        self,
        height: int,
        width: int,
        function: Callable[[Mapping[str, Array]], Mapping[str, Array]] = brightness,
    ) -> None:
        inputs, outputs = whole_frame_ports(height, width, (height, width))
        self.inputs: Sequence[Port] = inputs
        self.outputs: Sequence[Port] = outputs
        self.calls = 0
        self.closed = False
        self._function = function

    def infer(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Check the inputs and run the function."""
        check_inputs(self.inputs, inputs)
        self.calls += 1
        return self._function(inputs)

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
