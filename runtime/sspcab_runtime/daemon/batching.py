"""How many frames an engine call should take on this device: measured, because often one is best."""

from __future__ import annotations

import time
from statistics import median

import numpy as np

from sspcab_edge.manifest import Artifact, Manifest
from sspcab_edge.ports import Entry
from sspcab_edge.protocols import Engine, Request
from sspcab_runtime.calls import answer, batch_limit
from sspcab_runtime.frontends.table import open_unit

__all__ = ["worthwhile_batch"]

_GAIN = 1.1
"""A batch makes the first of its frames wait for the last: it has to be this much faster per frame."""
_TURNS = 3
_LONGEST_S = 0.25


def worthwhile_batch(
    manifest: Manifest,
    artifact: Artifact,
    engine: Engine,
    entry: Entry,
    most: int,
) -> int:
    """The fastest batch of 1, 2, 4, ... up to ``most``; above 1 only if a tenth faster per frame than that.

    Args:
        manifest: Of the bundle.
        artifact: What runs.
        engine: What it runs on.
        entry: What the graph takes, such as an input of the parity pack.
        most: Frames in a call that are allowed.

    Raises:
        EngineError: The engine failed.
    """
    request = open_unit(manifest, artifact, None).ask(entry)
    limit = batch_limit(engine, most)
    if manifest.front_end.kind in ("tiles", "objects"):
        return 1
    best, best_s, single_s = 1, float("inf"), float("inf")
    size = 1
    while size <= (most if limit is None else limit):
        many = Request({name: np.repeat(array, size, axis=0) for name, array in request.inputs.items()})
        answer(engine, many)
        each_s = median(_seconds(engine, many) for _ in range(_TURNS)) / size
        if size == 1:
            single_s = best_s = each_s
        elif each_s * _GAIN < single_s and each_s < best_s:
            best, best_s = size, each_s
        if each_s * size > _LONGEST_S:
            break
        size *= 2
    return best


def _seconds(engine: Engine, request: Request) -> float:
    start = time.perf_counter()
    answer(engine, request)
    return time.perf_counter() - start
