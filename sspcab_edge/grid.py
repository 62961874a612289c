"""Where tiles lie along one axis: one formula for the manifest's check, the device and the workstation."""

from __future__ import annotations

__all__ = ["grid"]


def grid(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    """First pixel of each tile along an axis of ``length`` pixels.

    As few tiles as cover it with neighbours that overlap by ``overlap`` pixels or more, spread evenly: the
    first starts at 0, the last ends at ``length``.

    Args:
        length: Pixels to cover.
        tile: Pixels of one tile, at most ``length``.
        overlap: Pixels that neighbours share at least, 0 to ``tile - 1``.

    Raises:
        ValueError: A tile is longer than the axis, or the overlap is none that lets tiles move on.
    """
    if not 0 < tile <= length:
        raise ValueError(f"a tile has {tile} pixels, expected 1 to {length}")
    if not 0 <= overlap < tile:
        raise ValueError(f"the overlap is {overlap}, expected 0 to {tile - 1}")
    rest = length - tile
    steps = -(-rest // (tile - overlap))
    return tuple(number * rest // max(1, steps) for number in range(steps + 1))
