"""Paths and ``file://``, ``images://`` URIs: a picture, a folder of pictures, or a video."""

from __future__ import annotations

import stat
from pathlib import Path

from sspcab_edge.datasets import list_images
from sspcab_edge.errors import SourceError
from sspcab_edge.local_path import local_path
from sspcab_edge.preprocess import PICTURE_SUFFIXES
from sspcab_edge.printable import printable
from sspcab_edge.protocols import Source
from sspcab_runtime.sources.pictures import Pictures
from sspcab_runtime.sources.video import Video

__all__ = ["open_file", "open_images", "open_path"]


def open_file(uri: str) -> Source:
    """A picture (told by its suffix), a folder of pictures, or a video; by path or as ``file:///path``.

    Raises:
        OptionError: It names another host.
        SourceError: Nothing is there, or it is a video that cannot be opened.
        PictureError: A folder holds no pictures.
        MissingPackageError: It is a video, and PyAV is not installed.
    """
    return open_path(local_path(uri), uri)


def open_path(path: Path, uri: str | None = None) -> Source:
    """As :func:`open_file`, of a path that is known to be one; ``uri`` is how it was named, where otherwise.

    Raises:
        SourceError, PictureError, MissingPackageError: As there.
    """
    uri = str(path) if uri is None else uri
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise SourceError(
            f"{printable(path)} does not exist, expected a picture, a folder of pictures or a video"
        ) from error
    except OSError as error:
        raise SourceError(f"{printable(path)} cannot be read: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        return Pictures(uri, list_images(path).paths)
    if not stat.S_ISREG(mode):
        raise SourceError(f"{printable(path)} is neither a file nor a folder")
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return Pictures(uri, [path])
    return Video(uri, path)


def open_images(uri: str) -> Source:
    """``images://DIR``: the pictures below a folder, in natural order of their paths.

    Raises:
        PictureError: The folder does not exist or holds no pictures.
    """
    return Pictures(uri, list_images(local_path(uri)).paths)
