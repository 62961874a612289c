"""The user's cache folder, and files that appear in it whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

__all__ = ["cache_folder", "write_atomically"]


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/sspcab-edge``, or ``~/.cache/sspcab-edge``; it may not exist yet.

    As the XDG specification says, a relative ``XDG_CACHE_HOME`` is ignored.

    Raises:
        OSError: The user has no home folder.
    """
    configured = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(configured):
        return Path(configured) / "sspcab-edge"
    try:
        return Path.home() / ".cache" / "sspcab-edge"
    except RuntimeError as error:
        raise FileNotFoundError("no home folder for a cache: set XDG_CACHE_HOME") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, making its folder; a reader sees the old file or the new one.

    Raises:
        OSError: The folder is not writable, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
