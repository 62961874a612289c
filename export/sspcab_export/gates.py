"""What an artifact has to reach, by precision; and what of it a device has to show again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from sspcab_edge.decision import CLEARANCE, score_scale
from sspcab_edge.errors import GateError, OptionError
from sspcab_edge.manifest import Artifact, Decision, Gate, Parity, Precision, Rounding
from sspcab_edge.parity import shortfalls

__all__ = [
    "LIMITS",
    "MEAN_ROUNDING_MULTIPLE",
    "GateLimits",
    "advice",
    "clearance",
    "gate_for",
    "is_trusted",
    "map_rounding",
    "mean_map_rounding",
    "parse_gates",
    "passing_gates",
    "refusal",
    "replay_gate",
    "require",
    "score_rounding",
]

GateLimits = Mapping[Precision, Mapping[str, float]]
"""Limits that a user set, by precision and name."""

LIMITS = ("flips", "rate", "auroc", "score", "map", "map-mean")
"""``flips``: labels that may change; ``rate``: 95 % upper bound of the flip rate on pictures; ``auroc``:
drop; ``score``: largest difference, times max(1, IQR of normal scores); ``map``: largest difference;
``map-mean``: largest mean difference of a map."""

_SCORE_TOLERANCE = 1e-4
_SCORE_RELATIVE = 1e-5
"""Share of a score that rounding to float32 explains, in whatever order a distance is summed up."""

_MAP_TOLERANCE = 1e-3
_MEAN_MAP_TOLERANCE = 5e-5
_DEFAULTS: dict[Precision, dict[str, float]] = {
    "fp32": {"flips": 0, "score": _SCORE_TOLERANCE, "map": _MAP_TOLERANCE, "map-mean": _MEAN_MAP_TOLERANCE},
    "fp16": {"rate": 0.01, "auroc": 0.005},
    "int8": {"rate": 0.02, "auroc": 0.005},
}
_WITHOUT_SCENE: dict[str, float] = {"flips": 0, "score": 0.01}
"""For fp16 on built-in pictures: they are too few and too foreign for a rate."""

ROUNDING_MULTIPLE = 6.0
"""How many times the reference model's own rounding an artifact may differ from it. An artifact rounds as
well, another way, often further, which makes two to three; and the largest difference over all judged
inputs is one and a half to twice that over the few that rounding is measured on. Up to 4.3 was seen."""

MEAN_ROUNDING_MULTIPLE = 4.0
"""The same of the mean difference of a map, which depends less on single values: 2.1 was seen. It tells a
late weight that is off by 1 % where the largest difference does not."""

_MOST_SCORE_ROUNDING = 1e-3
_MOST_MAP_ROUNDING = 1e-2
_MOST_MEAN_MAP_ROUNDING = 1e-3
"""Most that is allowed for rounding, of max(1, IQR of normal scores) and of the map's range: a model whose
own rounding needs more cannot be told from one that is wrong."""

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
    precision: Precision,
    decision: Decision,
    scene: Literal["given", "built-in"],
    limits: GateLimits,
    rounding: Rounding | None = None,
) -> Gate:
    """The gate of one precision on the scale of the reference model's scores.

    Defaults are widened to what rounding explains; a user's limits replace them as they are.
    """
    defaults = _DEFAULTS[precision]
    if scene == "built-in" and precision != "fp32":
        defaults = _WITHOUT_SCENE
    own = limits.get(precision, {})
    chosen = {**defaults, **own}
    flips = chosen.get("flips")
    score, heat, mean = chosen.get("score"), chosen.get("map"), chosen.get("map-mean")
    if score is not None:
        score *= _scale(decision)
        if "score" not in own:
            score = max(score, score_rounding(decision, rounding))
    if heat is not None and "map" not in own:
        heat = max(heat, map_rounding(rounding))
    if mean is not None and "map-mean" not in own:
        mean = max(mean, mean_map_rounding(rounding))
    return Gate(
        max_flips=None if flips is None else int(flips),
        max_flips_upper95=chosen.get("rate"),
        max_auroc_drop=chosen.get("auroc"),
        score_tolerance=score,
        score_relative=_SCORE_RELATIVE if precision == "fp32" else 0.0,
        map_tolerance=heat,
        mean_map_tolerance=mean,
    )


def score_rounding(decision: Decision, rounding: Rounding | None) -> float:
    """Score difference that rounding explains: 1e-4 of the scale of normal scores, or
    :data:`ROUNDING_MULTIPLE` times the reference model's own, which is cut off where it is too much."""
    own = 0.0 if rounding is None else ROUNDING_MULTIPLE * rounding.score
    return max(_SCORE_TOLERANCE * _scale(decision), min(own, _MOST_SCORE_ROUNDING * _scale(decision)))


def clearance(decision: Decision, rounding: Rounding | None) -> float:
    """Score difference below which rounding alone decides: 1e-4 of :func:`~sspcab_edge.decision.score_scale`,
    or :data:`ROUNDING_MULTIPLE` times the reference model's own."""
    own = 0.0 if rounding is None else ROUNDING_MULTIPLE * rounding.score
    return min(max(CLEARANCE * score_scale(decision.normal), own), score_rounding(decision, rounding))


def map_rounding(rounding: Rounding | None) -> float:
    """Map difference that rounding explains: 1e-3 or, likewise, the multiple of the model's own."""
    if rounding is None or rounding.map is None or rounding.map_range is None:
        return _MAP_TOLERANCE
    own = ROUNDING_MULTIPLE * rounding.map
    return max(_MAP_TOLERANCE, min(own, _MOST_MAP_ROUNDING * rounding.map_range))


def mean_map_rounding(rounding: Rounding | None) -> float:
    """Mean difference of a map that rounding explains: 5e-5 or, likewise, a multiple of the model's own."""
    if rounding is None or rounding.map_mean is None or rounding.map_range is None:
        return _MEAN_MAP_TOLERANCE
    own = MEAN_ROUNDING_MULTIPLE * rounding.map_mean
    return max(_MEAN_MAP_TOLERANCE, min(own, _MOST_MEAN_MAP_ROUNDING * rounding.map_range))


def is_trusted(rounding: Rounding, decision: Decision) -> bool:
    """Whether what the reference model's own rounding needs is allowed in full."""
    needed = ROUNDING_MULTIPLE * rounding.score, ROUNDING_MULTIPLE * (rounding.map or 0.0)
    return needed[0] <= score_rounding(decision, rounding) and needed[1] <= map_rounding(rounding)


def replay_gate(
    precision: Precision,
    parity: Parity,
    decision: Decision,
    inputs: int,
    rounding: Rounding | None = None,
) -> Gate:
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
    worst_map, least = parity.max_abs_map_diff, score_rounding(decision, rounding)
    return Gate(
        max_flips=allowed,
        score_tolerance=max(least, _REPLAY_SLACK * parity.max_abs_score_diff),
        mean_score_tolerance=max(least, _REPLAY_MEAN_SLACK * parity.mean_abs_score_diff),
        map_tolerance=None if worst_map is None else max(map_rounding(rounding), _REPLAY_SLACK * worst_map),
    )


def require(artifacts: Iterable[Artifact]) -> None:
    """Refuse artifacts that did not pass.

    Raises:
        GateError: Which did not, and by how much.
    """
    text = refusal(artifacts)
    if text:
        raise GateError(text)


def refusal(artifacts: Iterable[Artifact]) -> str:
    """Which artifacts did not pass, and by how much; empty where all did."""
    return "; ".join(
        f"{artifact.name}{_kept(artifact)} does not give the source's verdicts on {artifact.parity.pictures} "
        f"inputs ({artifact.parity.engine}): {'; '.join(shortfalls(artifact.parity))}"
        for artifact in artifacts
        if not artifact.parity.passed
    )


def _kept(artifact: Artifact) -> str:
    return f" with {len(artifact.float_layers)} layers in float" if artifact.float_layers else ""


def advice(artifacts: Iterable[Artifact], decision: Decision, rounding: Rounding | None) -> str:
    """What lies behind artifacts that did not pass and what would let them, to follow their refusal."""
    text = ""
    if rounding is not None and not rounding.trusted:
        text += "; rounding alone moves the model's own answers by more than a gate can allow"
    options = passing_gates([one for one in artifacts if not one.parity.passed], decision)
    if options:
        text += f"; what was found would pass with {' '.join(f'--gate {option}' for option in options)}"
    return text


def passing_gates(failed: Sequence[Artifact], decision: Decision) -> list[str]:
    """The least limits that artifacts which failed would pass, as ``--gate`` takes them, one a precision.

    Empty where none would: something is not finite, or the rate cannot be bounded at all.
    """
    wanted: dict[Precision, dict[str, float]] = {}
    for artifact in failed:
        least = _least(artifact.parity, decision)
        if not all(math.isfinite(value) for value in least.values()) or least.get("rate", 0) >= 1:
            return []
        own = wanted.setdefault(artifact.precision, {})
        for name, value in least.items():
            own[name] = max(value, own.get(name, 0.0))
    return [
        f"{precision}:{','.join(f'{name}={_upwards(value)}' for name, value in limits.items())}"
        for precision, limits in wanted.items()
        if limits
    ]


def _least(parity: Parity, decision: Decision) -> dict[str, float]:
    """For every limit that a comparison exceeds, what it would have to be."""
    gate, least = parity.gate, {}
    heat, flips, bound = parity.max_abs_map_diff, parity.flips, parity.flips_upper95
    if not math.isfinite(parity.max_abs_score_diff) or (heat is not None and not math.isfinite(heat)):
        return {"score": math.inf}
    if gate.score_tolerance is not None and parity.score_excess > gate.score_tolerance:
        least["score"] = parity.score_excess / _scale(decision)
    if gate.map_tolerance is not None and heat is not None and heat > gate.map_tolerance:
        least["map"] = heat
    mean = parity.mean_abs_map_diff
    if gate.mean_map_tolerance is not None and mean is not None and mean > gate.mean_map_tolerance:
        least["map-mean"] = mean
    if gate.max_flips is not None and flips is not None and flips > gate.max_flips:
        least["flips"] = flips
    if gate.max_flips_upper95 is not None and bound is not None and bound > gate.max_flips_upper95:
        least["rate"] = bound
    if None not in (gate.max_auroc_drop, parity.auroc_source, parity.auroc_artifact):
        drop = (parity.auroc_source or 0.0) - (parity.auroc_artifact or 0.0)
        if drop > (gate.max_auroc_drop or 0.0):
            least["auroc"] = drop
    return least


def _upwards(value: float) -> str:
    """A number with two digits that is not below ``value``; whole numbers as they are."""
    if value == int(value):
        return str(int(value))
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(value * (1 + 1e-9) / step) * step:.2g}"


def _scale(decision: Decision) -> float:
    return max(1.0, decision.normal.iqr if decision.normal is not None else 0.0)
