"""Names of local files and folders, as people and lists give them: the one reader for all commands."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

from sspcab_edge.errors import OptionError
from sspcab_edge.printable import printable
from sspcab_edge.shown_address import shown_address

__all__ = ["local_path"]

_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_URI: Final = re.compile(r"(file|images)://", re.IGNORECASE)


def local_path(name: str | Path) -> Path:
    """The path that is meant by a name.

    ``~`` and ``~user`` at its beginning are home folders; where there is no such user it is a plain name. In
    ``file://`` and ``images://``, ``%20`` and the like are bytes of the name; in a plain path they are the
    name itself. A :class:`~pathlib.Path` is given back as it is.

    Raises:
        OptionError: It is the address of something else than a file; a URI names another host, or has a query
            or fragment; or the name holds a NUL.
    """
    if isinstance(name, Path):
        return name
    found = _URI.match(name)
    if found is None and _ADDRESS.match(name):
        raise OptionError(f"{shown_address(name)} is an address, expected the path of a file or folder")
    plain = name if found is None else _named_by(name, found[1].lower(), name[found.end() :])
    if "\0" in plain:
        raise OptionError(f"{printable(name)} is no path: it holds a NUL")
    return Path(os.path.expanduser(plain))


def _named_by(uri: str, scheme: str, rest: str) -> str:
    if "?" in rest or "#" in rest:
        raise OptionError(
            f"{printable(uri)} has a query or fragment: write ? as %3F and # as %23, or give a plain path"
        )
    if scheme == "file" and not rest.startswith(("/", "~")):
        host, _, rest = rest.partition("/")
        if host.lower() != "localhost":
            raise OptionError(
                f"{shown_address(printable(uri))} names the host {host.rpartition('@')[2]!r}: "
                "write file:///absolute/path, or a path"
            )
        rest = f"/{rest}"
    return os.fsdecode(unquote_to_bytes(os.fsencode(rest)))
