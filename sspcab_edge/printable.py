"""Text that is safe on a terminal and in one line, from names that are any bytes."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["one_line", "printable"]


def printable(path: str | Path) -> str:
    """A name fit for one line of text: what is no UTF-8 or no printable character is escaped."""
    return _escaped(os.fsencode(path).decode("utf-8", "backslashreplace"))


def one_line(text: str) -> str:
    """A text in one line: white space becomes single spaces, what cannot be printed is escaped."""
    return _escaped(" ".join(text.split()))


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
