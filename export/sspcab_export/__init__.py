"""The exporter: a trained checkpoint in, a verified bundle out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sspcab_export.pipeline import Exported, Progress, export

__all__ = ["Exported", "Progress", "export"]


def __getattr__(name: str) -> object:
    """Import the pipeline, and torch with it, only when something of it is used."""
    if name in __all__:
        from sspcab_export import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
