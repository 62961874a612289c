"""How much an archive lists, before its list is read: a million names take gigabytes and a minute."""

from __future__ import annotations

import io
import struct
from pathlib import Path

from sspcab_edge.errors import CheckpointError

__all__ = ["check_directory"]

MAX_DIRECTORY = 32 * 1024**2
"""Largest list of an archive's entries in bytes; each takes about a hundred."""

_END = struct.Struct("<4s8xL6x")
_LONG_END = struct.Struct("<4s36xQ8x")
_LONG = 0xFFFFFFFF
_TAIL = 1 << 17


def check_directory(path: Path) -> None:
    """Refuse an archive that lists more than any checkpoint; a file that is no archive passes.

    The size is the one that the zip format keeps at the file's end (APPNOTE 6.3, 4.3.14 and 4.3.16).

    Raises:
        CheckpointError: It lists too much.
    """
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, io.SEEK_END) - _TAIL))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        return
    size = _END.unpack_from(tail, at)[1]
    long = tail.rfind(b"PK\x06\x06", 0, at)
    if size == _LONG and 0 <= long <= len(tail) - _LONG_END.size:
        size = _LONG_END.unpack_from(tail, long)[1]
    if size > MAX_DIRECTORY:
        raise CheckpointError(
            f"{path} is an archive whose list of contents has {size} bytes, expected at most "
            f"{MAX_DIRECTORY}: no checkpoint of a network"
        )
