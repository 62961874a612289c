"""What an artifact has to reach, by precision; and what of it a device has to show again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from sspcab_edge.errors import GateError, OptionError
from sspcab_edge.manifest import Artifact, Decision, Gate, Parity, Precision
from sspcab_edge.parity import shortfalls

__all__ = [
    "LIMITS",
    "GateLimits",
    "gate_for",
    "parse_gates",
    "replay_gate",
    "require",
    "rounding_tolerance",
]

GateLimits = Mapping[Precision, Mapping[str, float]]
"""Limits that a user set, by precision and name."""

LIMITS = ("flips", "rate", "auroc", "score", "map")
"""``flips``: labels that may change; ``rate``: 95 % upper bound of the flip rate on pictures; ``auroc``:
drop; ``score``: largest difference, times max(1, IQR of normal scores); ``map``: largest difference."""

_SCORE_TOLERANCE = 1e-4
_SCORE_RELATIVE = 1e-5
"""Share of a score that rounding to float32 explains, in whatever order a distance is summed up."""

_MAP_TOLERANCE = 1e-3
_DEFAULTS: dict[Precision, dict[str, float]] = {
    "fp32": {"flips": 0, "score": _SCORE_TOLERANCE, "map": _MAP_TOLERANCE},
    "fp16": {"rate": 0.01, "auroc": 0.005},
    "int8": {"rate": 0.02, "auroc": 0.005},
}
_WITHOUT_SCENE: dict[str, float] = {"flips": 0, "score": 0.01}
"""For fp16 on built-in pictures: they are too few and too foreign for a rate."""

_REPLAY_SLACK = 2.0
"""How many times the error that the export showed a device may show: rounding differs, arithmetic may not."""

_REPLAY_MEAN_SLACK = 4.0
"""The same for the mean error. It is the sharper of the two, since the largest error is that of one blend; a
pack that is thinned out holds more blends than the export judged, so it has more room."""


def parse_gates(texts: Sequence[str]) -> dict[Precision, dict[str, float]]:
    """``PRECISION:NAME=VALUE[,NAME=VALUE]`` as on the command line.

    Raises:
        OptionError: An unknown precision or name, or a value that is no number of at least 0.
    """
    found: dict[Precision, dict[str, float]] = {}
    for text in texts:
        precision, colon, rest = text.partition(":")
        known: tuple[Precision, ...] = get_args(Precision)
        match = next((one for one in known if one == precision), None)
        if match is None or not colon:
            raise OptionError(
                f"gate {text!r} is not understood: expected PRECISION:NAME=VALUE with one of "
                f"{', '.join(known)} and {', '.join(LIMITS)}, as in int8:rate=0.03"
            )
        for part in rest.split(","):
            name, _, value = part.partition("=")
            if name not in LIMITS:
                raise OptionError(f"gate {text!r} has no limit {name!r}: expected one of {', '.join(LIMITS)}")
            found.setdefault(match, {})[name] = _number(text, name, value)
    return found


def _number(text: str, name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    fits, expected = {
        "flips": (number >= 0 and number.is_integer(), "a whole number from 0"),
        "rate": (0 < number < 1, "a number between 0 and 1"),
        "auroc": (0 <= number <= 1, "a number from 0 to 1"),
    }.get(name, (0 <= number < math.inf, "a number from 0"))
    if not fits:
        raise OptionError(f"gate {text!r} sets {name} to {value!r}: expected {expected}")
    return number


def gate_for(
    precision: Precision, decision: Decision, scene: Literal["given", "built-in"], limits: GateLimits
) -> Gate:
    """The gate of one precision on this source's score scale; a user's limits replace the defaults."""
    defaults = _DEFAULTS[precision]
    if scene == "built-in" and precision != "fp32":
        defaults = _WITHOUT_SCENE
    chosen = {**defaults, **limits.get(precision, {})}
    flips = chosen.get("flips")
    return Gate(
        max_flips=None if flips is None else int(flips),
        max_flips_upper95=chosen.get("rate"),
        max_auroc_drop=chosen.get("auroc"),
        score_tolerance=chosen["score"] * _scale(decision) if "score" in chosen else None,
        score_relative=_SCORE_RELATIVE if precision == "fp32" else 0.0,
        map_tolerance=chosen.get("map"),
    )


def rounding_tolerance(decision: Decision) -> float:
    """Score difference that float32 rounding explains, on this source's scale."""
    return _SCORE_TOLERANCE * _scale(decision)


def replay_gate(precision: Precision, parity: Parity, decision: Decision, inputs: int) -> Gate:
    """What the parity pack has to show on a device.

    At fp32 the export's own gate. Below, a pack of at most 100 inputs cannot bound a rate again: what it can
    show is that the device computes what was judged. Differences to the source may be twice the export's, and
    four times on average; as many labels may flip as did then, and those that the rate allows.
    """
    gate = parity.gate
    if precision == "fp32":
        return gate
    allowed = None
    if parity.flips is not None:
        allowed = max(
            gate.max_flips or 0, parity.flips + math.floor((gate.max_flips_upper95 or 0.0) * inputs)
        )
    worst_map = parity.max_abs_map_diff
    return Gate(
        max_flips=allowed,
        score_tolerance=max(rounding_tolerance(decision), _REPLAY_SLACK * parity.max_abs_score_diff),
        mean_score_tolerance=max(
            rounding_tolerance(decision), _REPLAY_MEAN_SLACK * parity.mean_abs_score_diff
        ),
        map_tolerance=None if worst_map is None else max(_MAP_TOLERANCE, _REPLAY_SLACK * worst_map),
    )


def require(artifacts: Iterable[Artifact]) -> None:
    """Refuse a bundle with an artifact that did not pass.

    Raises:
        GateError: Which artifact, by how much, and what can be done.
    """
    for artifact in artifacts:
        parity = artifact.parity
        if not parity.passed:
            kept = f" with {len(artifact.float_layers)} layers in float" if artifact.float_layers else ""
            raise GateError(
                f"{artifact.name}{kept} does not give the source's verdicts on {parity.pictures} inputs "
                f"({parity.engine}): {'; '.join(shortfalls(parity))}"
            )


def _scale(decision: Decision) -> float:
    return max(1.0, decision.normal.iqr if decision.normal is not None else 0.0)
