"""Several frames in one engine call: for throughput, where no camera waits for its frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sspcab_edge.ports import Array
from sspcab_edge.protocols import Frame, FrontEnd, Request, Verdict

__all__ = ["Batched"]

_Share = tuple[int, object]
"""How many entries of a batch one frame has, and the context of its request."""


class Batched:
    """A front-end that asks once for so many frames. Implements :class:`sspcab_edge.protocols.FrontEnd`.

    Frames that wait for others ask nothing, as while warming up. The verdict of a call is that of its last
    frame; the others are made too, as they have to be, and put aside.

    Args:
        front_end: What prepares and judges single frames.
        batch: Frames of one call.
    """

    remembers = True

    def __init__(self, front_end: FrontEnd, batch: int) -> None:
        self._front_end, self._batch = front_end, batch
        self._waiting: list[Request] = []

    def push(self, frame: Frame) -> Request | None:
        """The request of as many frames as belong together, with their last."""
        request = self._front_end.push(frame)
        if request is not None:
            self._waiting.append(request)
        if len(self._waiting) < self._batch:
            return Request({})
        waiting, self._waiting = self._waiting, []
        asking = [one.inputs for one in waiting if one.inputs]
        names = asking[0] if asking else ()
        inputs = {name: np.concatenate([own[name] for own in asking]) for name in names}
        shares: list[_Share] = [
            (max((len(array) for array in one.inputs.values()), default=0), one.context) for one in waiting
        ]
        return Request(inputs, waiting[0].batch, shares)

    def merge(self, outputs: Mapping[str, Array], context: object) -> Verdict:
        """The verdict of the last frame; one without score, where frames wait."""
        if context is None:
            return Verdict(score=None, threshold=None, anomalous=None)
        assert isinstance(context, list)
        shares: list[_Share] = context
        verdict: Verdict | None = None
        start = 0
        for entries, own in shares:
            part = {name: values[start : start + entries] for name, values in outputs.items() if entries}
            verdict = self._front_end.merge(part, own)
            start += entries
        assert verdict is not None
        return verdict

    def reset(self) -> None:
        """Forget the frames that wait."""
        self._waiting = []
        self._front_end.reset()
