"""Which layers hurt: each one lowered alone, everything else in float32, judged by scores and verdicts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_edge.decision import is_anomalous
from sspcab_edge.ports import Entry
from sspcab_export.running import GraphRunner

__all__ = ["LayerEffect", "measure_sensitivity", "rank"]


class LayerEffect(msgspec.Struct, frozen=True, kw_only=True):
    """What lowering one layer alone does to the scores of some frames.

    ``mean_abs_score_diff`` and ``max_abs_score_diff`` are on the source's scale (infinite where a score is
    not finite); ``flips`` counts changed labels, None without a threshold.
    """

    layer: str
    mean_abs_score_diff: float
    max_abs_score_diff: float
    flips: int | None


def measure_sensitivity(
    lower: Callable[[Collection[str]], ir.Model],
    layers: Sequence[str],
    frames: Sequence[Entry | npt.NDArray[np.uint8]],
    scores: Sequence[float],
    threshold: float | None,
    progress: Callable[[int], None],
) -> tuple[LayerEffect, ...]:
    """Lower one layer after the other.

    Args:
        lower: Gives the graph in the lower precision, but for the layers named to it, which stay float.
        layers: Names of the layers that can be lowered.
        frames: What the graph takes, an entry each; none of them may be judged on later.
        scores: The source's score of each frame.
        threshold: On the same scale, or None.
        progress: Called with the number of layers done.

    Returns:
        One effect a layer, the worst first.

    Raises:
        EngineError: ONNX Runtime refuses a graph.
    """
    expected = np.asarray(scores, dtype=np.float64)
    effects = []
    for number, name in enumerate(layers, 1):
        runner = GraphRunner(lower([other for other in layers if other != name]))
        got = np.asarray([float(runner(frame)["score"][0]) for frame in frames])
        effects.append(_effect(name, expected, got, threshold))
        progress(number)
    return rank(effects)


def rank(effects: Sequence[LayerEffect]) -> tuple[LayerEffect, ...]:
    """Layers by how much they hurt: the mean change of the score, times one more than the verdicts changed.

    Flips alone would put a layer first that happens to move one picture from just below the threshold to just
    above it.
    """
    return tuple(sorted(effects, key=lambda e: (-e.mean_abs_score_diff * (1 + (e.flips or 0)), e.layer)))


def _effect(
    name: str, expected: npt.NDArray[np.float64], got: npt.NDArray[np.float64], threshold: float | None
) -> LayerEffect:
    differences = np.where(np.isfinite(got), np.abs(got - expected), np.inf)
    flips = None
    if threshold is not None:
        pairs = zip(expected, got, strict=True)
        flips = sum(is_anomalous(float(a), threshold) != is_anomalous(float(b), threshold) for a, b in pairs)
    return LayerEffect(
        layer=name,
        mean_abs_score_diff=float(differences.mean()),
        max_abs_score_diff=float(differences.max()),
        flips=flips,
    )
