"""Paths and ``file://``, ``images://`` URIs: a picture, a folder of pictures, or a video."""

from __future__ import annotations

import logging
import stat
from pathlib import Path
from typing import Final

from sspcab_edge.datasets import UNREAD_IMAGES, left_out, list_images
from sspcab_edge.errors import SourceError
from sspcab_edge.image_chunks import file_kind
from sspcab_edge.local_path import local_path
from sspcab_edge.preprocess import PICTURE_SUFFIXES
from sspcab_edge.printable import printable
from sspcab_edge.protocols import Source
from sspcab_runtime.sources.pictures import Pictures
from sspcab_runtime.sources.streams import StreamOptions
from sspcab_runtime.sources.video import Video

__all__ = ["is_image", "open_file", "open_images", "open_path", "require_video"]

_LOG = logging.getLogger(__name__)
_STILL_BRANDS: Final = frozenset({b"avif", b"heic", b"heim", b"heis", b"heix", b"mif1"})
"""Of files in the container of MP4: HEIF and AVIF with one image (ISO/IEC 23008-12)."""

_MOTION_JPEG: Final = frozenset({".mjpeg", ".mjpg"})
"""Videos that begin as JPEG files do."""


def open_file(uri: str, options: StreamOptions) -> Source:
    """A picture (told by its suffix), a folder of pictures, or a video; by path or as ``file:///path``.
    Nothing of ``options`` is for files.

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
        if stat.S_ISDIR(mode):
            return _folder(uri, path)
        if not stat.S_ISREG(mode):
            raise SourceError(f"{printable(path)} is neither a file nor a folder")
        return Pictures(uri, [path]) if is_image(path) else Video(uri, path)
    except FileNotFoundError as error:
        raise SourceError(
            f"{printable(path)} does not exist, expected a picture, a folder of pictures or a video"
        ) from error
    except OSError as error:
        raise SourceError(f"{printable(path)} cannot be read: {error.strerror}") from error


def open_images(uri: str, options: StreamOptions) -> Source:
    """``images://DIR``: the pictures below a folder, in natural order of their paths.

    Nothing of ``options`` is for them.

    Raises:
        OptionError: It is no path.
        PictureError: The folder does not exist or holds no pictures.
    """
    return _folder(uri, local_path(uri))


def require_video(path: Path) -> None:
    """Refuse an image where frames of a camera are expected: as a video it would be another one.

    Raises:
        SourceError: It is an image or no file, or cannot be read.
    """
    try:
        file = stat.S_ISREG(path.stat().st_mode)
        image = file and is_image(path)
    except OSError as error:
        raise SourceError(f"{printable(path)} cannot be read: {error.strerror}") from error
    if not file:
        raise SourceError(f"{printable(path)} is no file, expected a video")
    if image:
        raise SourceError(f"{printable(path)} is an image, allowed is a video: sspcab-run judges images")


def _folder(uri: str, path: Path) -> Source:
    found = list_images(path)
    if found.unread:
        _LOG.warning("%s: %s", printable(path), left_out(found.unread))
    return Pictures(uri, found.paths)


def is_image(path: Path) -> bool:
    """Whether a file is an image, by its suffix, or by its content where the suffix is of neither kind.

    Raises:
        SourceError: It is an image of a kind that is not read; decoders of videos would show a part of it.
        OSError: It cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        return True
    with path.open("rb") as file:
        head = file.read(16)
    if suffix in UNREAD_IMAGES or (head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS):
        raise SourceError(
            f"{printable(path)} is an image of a kind that is not read: save it as PNG, TIFF or JPEG"
        )
    return suffix not in _MOTION_JPEG and file_kind(head) is not None
