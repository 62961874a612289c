"""Reading what training left behind, as hostile input until it is read."""

from sspcab_export.checkpoints.files import checkpoint_files
from sspcab_export.checkpoints.read import Checkpoint, Part, read_checkpoint

__all__ = ["Checkpoint", "Part", "checkpoint_files", "read_checkpoint"]
