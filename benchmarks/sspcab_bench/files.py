"""Reading small files that may not be there."""

from __future__ import annotations

from pathlib import Path

__all__ = ["read_text"]


def read_text(path: Path) -> str:
    """The text of a file without white space and zero bytes at its ends; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \t\r\n")
    except OSError:
        return ""
