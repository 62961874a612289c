"""The table of sources, by URI scheme.

A new source is one file and one line in :data:`SOURCES`.
"""

from __future__ import annotations

import importlib
import re

from sspcab_edge.errors import SourceError
from sspcab_edge.protocols import Source
from sspcab_edge.shown_address import shown_address
from sspcab_runtime.sources.streams import StreamOptions

__all__ = ["SOURCES", "is_live", "open_source"]

SOURCES: dict[str, str] = {
    "file": "sspcab_runtime.sources.files:open_file",
    "images": "sspcab_runtime.sources.files:open_images",
    "rtsp": "sspcab_runtime.sources.live:open_live",
    "rtsps": "sspcab_runtime.sources.live:open_live",
    "http": "sspcab_runtime.sources.live:open_live",
    "https": "sspcab_runtime.sources.live:open_live",
    "v4l2": "sspcab_runtime.sources.live:open_live",
    "csi": "sspcab_runtime.sources.live:open_live",
    "gst": "sspcab_runtime.sources.live:open_live",
}
"""Scheme -> "module:function" that takes the whole URI and options for cameras, and gives a Source.

A URI without scheme is a path.
"""
_DEFAULTS = StreamOptions()


_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://|(gst):")
_FILES = frozenset({"file", "images"})


def is_live(uri: str) -> bool:
    """Whether a URI names a camera, which has no end."""
    name = _scheme(uri)
    return name in SOURCES and name not in _FILES


def open_source(uri: str, options: StreamOptions = _DEFAULTS) -> Source:
    """Open what a URI names: a picture, a folder of pictures or a video, by path or ``file://``;
    ``images://DIR``; a camera by ``rtsp(s)://``, ``http(s)://`` (MJPEG), ``v4l2:///dev/videoN``, ``csi://N``
    or ``gst:PIPELINE``.

    The caller closes it.

    Args:
        uri: Where it is.
        options: For cameras.

    Raises:
        SourceError: The scheme is unknown, or nothing readable is there.
        PictureError: A folder holds no pictures.
        MissingPackageError: It is a video, and PyAV is not installed.
    """
    name = _scheme(uri)
    if name not in SOURCES:
        known = ", ".join("gst:PIPELINE" if known == "gst" else f"{known}://" for known in SOURCES)
        raise SourceError(f"unknown source {shown_address(uri)!r}: expected a path, or one of {known}")
    module, function = SOURCES[name].split(":")
    source: Source = getattr(importlib.import_module(module), function)(uri, options)
    return source


def _scheme(uri: str) -> str:
    found = _SCHEME.match(uri)
    return (found.group(1) or found.group(2)).lower() if found else "file"
