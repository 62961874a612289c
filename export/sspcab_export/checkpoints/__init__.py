"""Reading what training left behind, as hostile input until it is read."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sspcab_export.checkpoints.files import bundle_beside, checkpoint_files

if TYPE_CHECKING:
    from sspcab_export.checkpoints.read import Checkpoint, Part, read_checkpoint

__all__ = ["Checkpoint", "Part", "bundle_beside", "checkpoint_files", "read_checkpoint"]


def __getattr__(name: str) -> object:
    """Import the reader, and torch with it, only when something of it is used."""
    if name in __all__:
        return getattr(import_module("sspcab_export.checkpoints.read"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
