"""Which threshold a bundle gets: given, fitted to pictures, from the checkpoint, or none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sspcab_edge.decision import (
    DEFAULT_FALSE_ALARM_RATE,
    quantiles,
    threshold_from_labels,
    threshold_from_quantile,
    threshold_from_rate,
)
from sspcab_edge.errors import OptionError
from sspcab_edge.manifest import Decision

__all__ = ["ThresholdOptions", "decide_threshold"]


@dataclass(frozen=True, slots=True)
class ThresholdOptions:
    """At most one of these may be given.

    Attributes:
        threshold: The threshold itself, on the source's score scale.
        false_alarm_rate: Share of normal frames that may be flagged, 0 to 1.
        quantile: Quantile of the normal scores, 0 to 1.
    """

    threshold: float | None = None
    false_alarm_rate: float | None = None
    quantile: float | None = None

    def __post_init__(self) -> None:
        given = [name for name in self.__slots__ if getattr(self, name) is not None]
        if len(given) > 1:
            options = " and ".join("--" + name.replace("_", "-") for name in given)
            raise OptionError(f"{options} contradict each other: give one of them")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise OptionError(f"threshold is {self.threshold}, expected a finite number")

    @property
    def wants_normal_scores(self) -> bool:
        """Whether the threshold has to be fitted to normal pictures."""
        return self.false_alarm_rate is not None or self.quantile is not None


def decide_threshold(
    options: ThresholdOptions,
    normal: Sequence[float],
    labelled: Sequence[tuple[float, bool]],
    from_checkpoint: float | None,
) -> Decision:
    """The decision of a bundle, in this order: given, normal pictures, labelled ones, checkpoint, none.

    Args:
        options: What the user asked for.
        normal: Source scores of the normal fit pictures (``--calibration``).
        labelled: Source scores and labels of labelled fit pictures (``--validation``).
        from_checkpoint: The threshold that the checkpoint holds.

    Raises:
        OptionError: A rate or quantile was asked for without normal pictures, or is out of range.
    """
    good = [*normal, *(score for score, anomalous in labelled if not anomalous)]
    spread = quantiles(good) if good else None
    if options.wants_normal_scores and not normal:
        raise OptionError("a false-alarm rate or quantile needs normal pictures: give --calibration DIR")
    if options.threshold is not None:
        return Decision(threshold=options.threshold, policy="given", normal=spread)
    if options.quantile is not None:
        return threshold_from_quantile(normal, options.quantile)
    if normal:
        return threshold_from_rate(normal, options.false_alarm_rate or DEFAULT_FALSE_ALARM_RATE)
    if labelled:
        return threshold_from_labels([score for score, _ in labelled], [label for _, label in labelled])
    if from_checkpoint is not None:
        return Decision(threshold=from_checkpoint, policy="checkpoint", normal=spread)
    return Decision(
        threshold=None,
        policy="none",
        normal=spread,
        note="no threshold: scores come without labels; fit one with: sspcab-edge fit BUNDLE DIR",
    )
