"""One request to an engine: in one call, or in several where the batch is larger than it should be."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

from sspcab_edge.errors import InputError
from sspcab_edge.ports import Array
from sspcab_edge.protocols import Engine, Request

__all__ = ["answer", "batch_limit", "timed_answer"]


@runtime_checkable
class _Timed(Protocol):
    """An engine that knows how long the steps of its latest call took."""

    @property
    def stages_ms(self) -> Mapping[str, float]: ...


def answer(engine: Engine, request: Request) -> Mapping[str, Array]:
    """What the engine gives for a request, by output port.

    Raises:
        InputError: The inputs do not fit the engine's ports.
        EngineError: The engine failed.
    """
    return timed_answer(engine, request)[0]


def timed_answer(engine: Engine, request: Request) -> tuple[Mapping[str, Array], Mapping[str, float]]:
    """As :func:`answer`, with milliseconds by stage, summed over the calls.

    Raises:
        InputError: The inputs do not fit the engine's ports.
        EngineError: The engine failed.
    """
    limit = batch_limit(engine, request.batch)
    total = max((len(array) for array in request.inputs.values()), default=0)
    if limit is None or total <= limit:
        return _call(engine, request.inputs)
    if any(len(array) != total for array in request.inputs.values()):
        raise InputError("inputs of one request disagree on the batch size")
    parts: dict[str, list[Array]] = {}
    stages: dict[str, float] = {}
    for start in range(0, total, limit):
        outputs, spent = _call(
            engine, {name: array[start : start + limit] for name, array in request.inputs.items()}
        )
        for name, array in outputs.items():
            # an engine may give views of its own buffers, which its next call overwrites
            parts.setdefault(name, []).append(np.array(array))
        for stage, milliseconds in spent.items():
            stages[stage] = stages.get(stage, 0.0) + milliseconds
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}, stages


def batch_limit(engine: Engine, wanted: int | None) -> int | None:
    """Most entries of one call: what is wanted, what the engine takes and what its ports are fixed to."""
    fixed = [port.shape[0] for port in engine.inputs if port.shape]
    limits = [wanted, engine.max_batch, *(n for n in fixed if isinstance(n, int))]
    return min((limit for limit in limits if limit is not None), default=None)


def _call(engine: Engine, inputs: Mapping[str, Array]) -> tuple[Mapping[str, Array], Mapping[str, float]]:
    start = time.perf_counter()
    outputs = engine.infer(inputs)
    end = time.perf_counter()
    own = dict(engine.stages_ms) if isinstance(engine, _Timed) else {"infer": (end - start) * 1e3}
    return outputs, own
