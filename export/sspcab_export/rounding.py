"""How repeatable the reference model is, and how far rounding alone moves its answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch

from sspcab_edge.errors import HostError
from sspcab_edge.manifest import Decision, Rounding
from sspcab_edge.parity import map_differences
from sspcab_edge.ports import Array, Entry
from sspcab_edge.preprocess import decode_picture, prepare
from sspcab_export.asking import spread
from sspcab_export.gates import is_trusted, map_rounding
from sspcab_export.hosts.base import LoadedHost, Scored, SourceModel
from sspcab_export.pictures import builtin_samples
from sspcab_export.synthetic import builtin_entries

if TYPE_CHECKING:
    from sspcab_export.verify import Judged

__all__ = ["check_repeatable", "measure_rounding", "probe", "rounding_notes"]

_INPUTS = 5
"""Judged inputs that rounding is measured on. On DRAEM networks of random weights the largest difference over
44 inputs was 1.3 to 1.9 times that over 5, and an artifact's 2.4 to 2.9 times."""

_SCORE_SHARE = 1e-4
_MAP_SHARE = 1e-3
"""Shares of scores and maps by which answers have to differ before randomness is looked for."""

_SHRINKS = 100.0
"""Rounding that differs from call to call shrinks by much more than this in float64; randomness does not."""

_AGAIN = 4
"""How often it is asked again in float64: one of ten random crops may come twice in a row."""


def probe(host: LoadedHost) -> Entry:
    """An input that any host of this shape takes: of a built-in image."""
    if host.video is not None:
        return builtin_entries(host.video.inputs)[0]
    return {"frames": prepare(decode_picture(builtin_samples()[0].path).pixels, host.preprocess)}


def check_repeatable(source: SourceModel, entry: Entry) -> None:
    """Ask the reference model twice about the same input.

    Raises:
        HostError: Its answers differ by more than rounding explains; or it fails.
    """
    inputs = {name: array[None] for name, array in entry.items()}
    before = _generators()
    one, two = source.infer(inputs), source.infer(inputs)
    moved = [name for name, state in _generators().items() if state != before[name]]
    scores, maps = _differences(one, two)
    far = scores > _SCORE_SHARE * _largest(one[0]) or maps > _MAP_SHARE * _largest(one[1])
    if not far or _is_rounding(source, inputs, scores, maps):
        return
    differ = f"its scores are {one[0][0]:.6g} and {two[0][0]:.6g}"
    if one[1] is not None:
        differ += f", its maps differ by up to {maps:.3g}"
    cause = (
        f"it draws {' and '.join(moved)} while it runs (dropout that is always on, noise, random crops)"
        if moved
        else "it is random (dropout that is always on, noise, random crops) or changes while it runs "
        "(BatchNorm in training mode, a counter, the time)"
    )
    raise HostError(
        f"the network is not repeatable: asked twice about the same image, {differ}; {cause}: no artifact "
        "can give its verdicts; make it give one answer in evaluation, as torch's layers do"
    )


def measure_rounding(source: SourceModel, judged: Sequence[Judged], decision: Decision) -> Rounding | None:
    """How far rounding alone moves the reference model on some judged inputs, spread over its scores.

    None where nothing was judged that has an input of its own.

    Raises:
        HostError: It is not repeatable on one of them; or it fails.
    """
    items = sorted((one.item for one in judged if one.item is not None), key=lambda item: item.score)
    if not items:
        return None
    chosen = [items[number] for number in spread(len(items), _INPUTS)]
    check_repeatable(source, chosen[-1].entry)
    inputs: dict[str, Array] = {
        name: np.stack([item.entry[name] for item in chosen]) for name in chosen[0].entry
    }
    expected = np.array([item.score for item in chosen])
    (scores, maps), method = source.infer_otherwise(inputs)
    own = [item.map for item in chosen if item.map is not None]
    has_map = maps is not None and len(own) == len(chosen)
    ranged = np.stack(own) if has_map else None
    score, heat = _differences((expected, ranged), (scores, maps if has_map else None))
    map_range = None if ranged is None else float(ranged.max() - ranged.min())
    mean = None
    if ranged is not None and maps is not None and has_map:
        mean = max(map_differences(a, b)[1] for a, b in zip(ranged, maps, strict=True))
    found = Rounding(
        method=method,
        inputs=len(chosen),
        score=score,
        map=heat if has_map else None,
        map_range=map_range,
        trusted=True,
        map_mean=mean,
    )
    return msgspec.structs.replace(found, trusted=is_trusted(found, decision))


def rounding_notes(rounding: Rounding | None) -> list[str]:
    """What should be said of rounding that moves the reference model by more than the default gate allows."""
    if rounding is None:
        return []
    moved = f"rounding alone moves the model's own scores by up to {rounding.score:.2g}"
    if rounding.map is not None:
        moved += f", its maps by up to {rounding.map:.2g}"
    if not rounding.trusted:
        return [
            f"{moved}, more than a gate can allow: its verdicts depend on the machine that computes them; "
            "look for weights or values that grew out of bounds"
        ]
    if map_rounding(rounding) > map_rounding(None):
        return [f"{moved}: maps of artifacts may differ by {map_rounding(rounding):.2g} from its own"]
    return []


def _is_rounding(source: SourceModel, inputs: dict[str, Array], scores: float, maps: float) -> bool:
    """Whether answers that differ come nearer to each other in float64."""
    one, method = source.infer_otherwise(inputs)
    if method != "float64":
        return False
    for _ in range(_AGAIN):
        finer = _differences(one, source.infer_otherwise(inputs)[0])
        if finer[0] > scores / _SHRINKS or finer[1] > maps / _SHRINKS:
            return False
    return True


def _differences(one: Scored, two: Scored) -> tuple[float, float]:
    """The largest differences of scores and of maps; without bound where one of them is not finite."""
    found = [0.0, 0.0]
    for number, (a, b) in enumerate(zip(one, two, strict=True)):
        if a is not None and b is not None:
            difference = np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))
            found[number] = float(np.where(np.isfinite(difference), difference, np.inf).max(initial=0.0))
    return found[0], found[1]


def _largest(values: np.ndarray[Any, Any] | None) -> float:
    return 0.0 if values is None else float(np.abs(values).max(initial=0.0))


def _generators() -> dict[str, object]:
    """States of the random generators that a network in this process may draw from."""
    numbers = np.random.get_state(legacy=False)
    assert isinstance(numbers, dict)
    return {
        "torch's random numbers": torch.get_rng_state().numpy().tobytes(),
        "NumPy's random numbers": repr(numbers["state"]["key"].tolist()) + repr(numbers["state"]["pos"]),
        "Python's random numbers": random.getstate(),
    }
