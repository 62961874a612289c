"""Mixing two entries of a graph's batch: between a normal one and an anomaly lies the threshold."""

from __future__ import annotations

import numpy as np

from sspcab_edge.ports import Array, Entry

__all__ = ["mix"]


def mix(one: Entry, other: Entry, share: float) -> Entry:
    """``share`` of ``other`` in ``one``, port by port; pixels are rounded to whole levels."""
    return {name: _mixed(array, other[name], share) for name, array in one.items()}


def _mixed(one: Array, other: Array, share: float) -> Array:
    mixed = one.astype(np.float32) * (1 - share) + other.astype(np.float32) * share
    return np.asarray(np.rint(mixed) if np.issubdtype(one.dtype, np.integer) else mixed, dtype=one.dtype)
