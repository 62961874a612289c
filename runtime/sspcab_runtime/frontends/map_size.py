"""The resolution of a graph's map, for what is worked out once when a front-end is opened."""

from __future__ import annotations

from sspcab_edge.errors import BundleError
from sspcab_edge.manifest import Manifest

__all__ = ["map_size"]


def map_size(manifest: Manifest) -> tuple[int, int] | None:
    """(height, width) of the graph's map in pixels; None where it has none.

    Raises:
        BundleError: The manifest leaves it open.
    """
    port = next((port for port in manifest.outputs if port.name == "map"), None)
    if port is None:
        return None
    match port.shape:
        case (_, int(height), int(width)) if height > 0 and width > 0:
            return height, width
    raise BundleError(f"the map has the shape {port.shape}, expected (N, height, width) in numbers")
