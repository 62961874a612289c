"""The table of front-ends, by the kind that a manifest names.

A new front-end is one file, one line in :data:`FRONT_ENDS` and its kind in the manifest's literal.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sspcab_edge.manifest import Artifact, Manifest
from sspcab_edge.protocols import FrontEnd
from sspcab_runtime.frontends.clip import Clip
from sspcab_runtime.frontends.objects import ObjectFrontEnd
from sspcab_runtime.frontends.tiles import Tiles
from sspcab_runtime.frontends.unit import Unit
from sspcab_runtime.frontends.whole_frame import WholeFrame

__all__ = ["FRONT_ENDS", "open_front_end", "open_unit"]

FRONT_ENDS: dict[str, Callable[[Manifest, Artifact, float | None, Path | None], FrontEnd]] = {
    "clip": Clip,
    "objects": ObjectFrontEnd,
    "tiles": Tiles,
    "whole-frame": WholeFrame,
}


def open_front_end(
    manifest: Manifest, artifact: Artifact, threshold: float | None, folder: Path | None = None
) -> FrontEnd:
    """The front-end that a manifest asks for, judging by ``threshold`` (None: scores without labels).

    ``folder`` is the bundle's: a reference picture and a mask are read from it.

    Raises:
        BundleError: Such a picture cannot be read, or nothing of the frame is left to look at.
    """
    return FRONT_ENDS[manifest.front_end.kind](manifest, artifact, threshold, folder)


def open_unit(manifest: Manifest, artifact: Artifact, threshold: float | None) -> Unit:
    """What judges one entry of the graph's batch as it is: the region, a tile, a clip or an object.

    The parity pack holds such entries.
    """
    return Unit(manifest, artifact, threshold)
