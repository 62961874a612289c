"""Asking the source: a picture goes through the same front-end as on a device, into the source of truth.

A *unit* is what one entry of the graph's batch holds: the whole region, one tile, one clip or one object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import HostError, PictureError
from sspcab_edge.ports import Array, Entry, as_batch
from sspcab_edge.protocols import Frame, FrontEnd, Request, Verdict
from sspcab_export.hosts.base import SourceModel

__all__ = ["Asked", "Unit", "answered", "ask", "ask_unit", "entry_of", "frame_of", "spread", "units_of"]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Unit:
    """One entry of the graph's batch, with the source's answer.

    Attributes:
        entry: What the graph takes.
        score: The source's.
        map: The source's, (h, w) float32, or None.
    """

    entry: Entry
    score: float
    map: npt.NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Asked:
    """One picture, with the source's answer.

    Attributes:
        verdict: Through the front-end.
        units: Some of its units, the highest score first.
        scores: Of all units, in the front-end's order.
    """

    verdict: Verdict
    units: tuple[Unit, ...]
    scores: npt.NDArray[np.float64]


def ask(source: SourceModel, front_end: FrontEnd, pixels: Pixels, keep: int, name: str = "") -> Asked:
    """The source's verdict of one picture.

    Args:
        source: The source of truth.
        front_end: Opened for the source: no score map, no threshold.
        pixels: (H, W, 3) uint8 RGB.
        keep: Most units to keep: the one that scores highest, the others spread evenly over the picture.
        name: Of the picture, for messages.

    Raises:
        HostError: A score is not finite, or the source fails.
        PictureError: The picture does not show what the front-end was set up for.
    """
    request = front_end.push(frame_of(pixels, name))
    if request is None or not request.inputs:
        raise PictureError(f"{name or 'a picture'} gets no verdict: the front-end wants several frames")
    return answered(source, front_end, request, keep)


def answered(source: SourceModel, front_end: FrontEnd, request: Request, keep: int) -> Asked:
    """The source's verdict of what a front-end asks; see :func:`ask`. Nothing is asked for without inputs.

    Raises:
        HostError: A score is not finite, or the source fails.
    """
    if not request.inputs:
        return Asked(front_end.merge({}, request.context), (), np.empty(0, np.float64))
    scores, maps = source.infer(request.inputs)
    if not np.isfinite(scores).all():
        worst = scores[~np.isfinite(scores)][0]
        raise HostError(f"the model gives the score {worst} on a picture: the training went wrong")
    outputs: dict[str, Array] = {"score": scores} if maps is None else {"score": scores, "map": maps}
    verdict = front_end.merge(outputs, request.context)
    top = int(np.argmax(scores))
    chosen = [top, *(n for n in spread(len(scores), keep) if n != top)][:keep]
    units = tuple(
        Unit(entry_of(request, n), float(scores[n]), None if maps is None else maps[n]) for n in chosen
    )
    return Asked(verdict, units, scores.astype(np.float64))


def entry_of(request: Request, number: int) -> Entry:
    """A copy of one entry of what is asked."""
    return {name: np.array(array[number]) for name, array in request.inputs.items()}


def ask_unit(source: SourceModel, entry: Entry) -> Unit:
    """The source's answer to one unit.

    Raises:
        HostError: The score is not finite.
    """
    scores, maps = source.infer(as_batch(entry))
    score = float(scores[0])
    if not np.isfinite(score):
        raise HostError(f"the model gives the score {score} on a picture: the training went wrong")
    return Unit(entry, score, None if maps is None else maps[0])


def units_of(front_end: FrontEnd, pixels: Pixels, keep: int, name: str = "") -> list[Entry]:
    """Some units of a picture, spread evenly over it, without asking anybody."""
    request = front_end.push(frame_of(pixels, name))
    if request is None or not request.inputs:
        return []
    count = max(len(array) for array in request.inputs.values())
    return [entry_of(request, n) for n in spread(count, keep)]


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` positions, evenly."""
    if count <= most:
        return list(range(count))
    return [int(n) for n in np.linspace(0, count - 1, most).round()]


def frame_of(pixels: Pixels, name: str = "") -> Frame:
    """Pixels as a frame that came from nowhere in particular."""
    return Frame(pixels, 0, "", 0.0, 0.0, path=name or None)
