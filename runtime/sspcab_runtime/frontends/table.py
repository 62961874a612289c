"""The table of front-ends, by the kind that a manifest names.

A new front-end is one file, one line in :data:`FRONT_ENDS` and its kind in the manifest's literal.
"""

from __future__ import annotations

from collections.abc import Callable

from sspcab_edge.manifest import Artifact, Manifest
from sspcab_edge.protocols import FrontEnd
from sspcab_runtime.frontends.whole_frame import WholeFrame

__all__ = ["FRONT_ENDS", "open_front_end"]

FRONT_ENDS: dict[str, Callable[[Manifest, Artifact, float | None], FrontEnd]] = {
    "whole-frame": WholeFrame,
}


def open_front_end(manifest: Manifest, artifact: Artifact, threshold: float | None) -> FrontEnd:
    """The front-end that a manifest asks for, judging by ``threshold`` (None: scores without labels)."""
    return FRONT_ENDS[manifest.front_end.kind](manifest, artifact, threshold)
