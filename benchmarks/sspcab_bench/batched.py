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

    Frames that wait for others get no request, as while warming up. The verdict of a call is that of its last
    frame; the others are made too, as they have to be, and put aside.

    Args:
        front_end: What prepares and judges single frames.
        batch: Frames of one call.
    """

    def __init__(self, front_end: FrontEnd, batch: int) -> None:
        self._front_end, self._batch = front_end, batch
        self._waiting: list[Request] = []

    def push(self, frame: Frame) -> Request | None:
        """The request of as many frames as belong together, with their last."""
        request = self._front_end.push(frame)
        if request is not None:
            self._waiting.append(request)
        if len(self._waiting) < self._batch:
            return None
        waiting, self._waiting = self._waiting, []
        inputs = {name: np.concatenate([one.inputs[name] for one in waiting]) for name in waiting[0].inputs}
        shares: list[_Share] = [(len(next(iter(one.inputs.values()))), one.context) for one in waiting]
        return Request(inputs, waiting[0].batch, shares)

    def merge(self, outputs: Mapping[str, Array], context: object) -> Verdict:
        """The verdict of the last frame."""
        assert isinstance(context, list)
        shares: list[_Share] = context
        verdict: Verdict | None = None
        start = 0
        for entries, own in shares:
            part = {name: values[start : start + entries] for name, values in outputs.items()}
            verdict = self._front_end.merge(part, own)
            start += entries
        assert verdict is not None
        return verdict

    def reset(self) -> None:
        """Forget the frames that wait."""
        self._waiting = []
        self._front_end.reset()
