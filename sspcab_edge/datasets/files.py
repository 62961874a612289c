"""Image files below a folder: hidden and system entries left out, in natural order, links followed once."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sspcab_edge.errors import PictureError
from sspcab_edge.preprocess import PICTURE_SUFFIXES
from sspcab_edge.printable import printable

__all__ = [
    "UNREAD_IMAGES",
    "VIDEO_SUFFIXES",
    "ImageFiles",
    "is_system_entry",
    "left_out",
    "list_files",
    "list_images",
    "natural_key",
    "subfolders",
    "unread_files",
]

UNREAD_IMAGES: Final = frozenset(
    {".arw", ".avif", ".bpg", ".cr2", ".cr3", ".dcm", ".dng", ".exr", ".fits", ".hdr", ".heic"}
    | {".heif", ".hif", ".ico", ".j2k", ".jp2", ".jxl", ".mpo", ".nef", ".orf", ".pam", ".pcx"}
    | {".pfm", ".psd", ".raf", ".ras", ".raw", ".rw2", ".svg", ".tga"}
)
"""Suffixes of images that are not read, or that decoders of videos read in part (a tile, a preview)."""

VIDEO_SUFFIXES: Final = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4"}
    | {".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"}
)
"""Suffixes of what is taken for videos in a folder."""

_ANIMATIONS: Final = frozenset({".apng", ".gif"})

_SYSTEM_ENTRIES: Final = frozenset(
    {
        "__macosx",
        "@eadir",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "$recycle.bin",
        "#recycle",
        "lost+found",
    }
    | {"system volume information", "@tmp", "#snapshot", "__pycache__"}
)
"""What macOS, Windows and network storage put into folders, in lower case; names that begin with a dot
(``._001.png``, ``.ipynb_checkpoints``) or with ``~$`` besides."""

_DIGITS: Final = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Image files below a folder.

    Attributes:
        paths: The files, in natural order of their paths.
        skipped: How many hidden and system entries were left out; a folder counts once.
        unread: Images of kinds that are not read, and videos.
    """

    paths: tuple[Path, ...]
    skipped: int = 0
    unread: tuple[Path, ...] = ()


def list_images(folder: Path) -> ImageFiles:
    """Images below ``folder``, told by their suffix in any case.

    Folders that are links are followed, each folder once, so that loops end.

    Raises:
        PictureError: The folder does not exist, cannot be read, or holds no image.
    """
    files, skipped = list_files(folder)
    found = tuple(path for path in files if path.suffix.lower() in PICTURE_SUFFIXES)
    unread = _unread(files)
    if not found:
        beside = f"; {skipped} hidden or system entries were left out" if skipped else ""
        beside += f"; {left_out(unread)}" if unread else ""
        raise PictureError(
            f"{printable(folder)} holds no images (looked for {', '.join(sorted(PICTURE_SUFFIXES))}){beside}"
        )
    return ImageFiles(found, skipped, unread)


def unread_files(folder: Path) -> tuple[Path, ...]:
    """Images below a folder of kinds that are not read, and videos.

    Raises:
        PictureError: The folder does not exist or cannot be read.
    """
    return _unread(list_files(folder)[0])


def left_out(unread: Sequence[Path]) -> str:
    """What is said of files that are not read: how many of which kind."""
    kinds = Counter(path.suffix.lower() for path in unread)
    return (
        f"images of other kinds and videos left out: {', '.join(f'{n} {kind}' for kind, n in kinds.items())}"
    )


def _unread(files: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(
        path for path in files if path.suffix.lower() in UNREAD_IMAGES | VIDEO_SUFFIXES | _ANIMATIONS
    )


def list_files(folder: Path) -> tuple[tuple[Path, ...], int]:
    """Every file below ``folder`` that is its user's, in natural order of paths; how many entries were not.

    Raises:
        PictureError: The folder does not exist or cannot be read.
    """
    found: list[Path] = []
    skipped = 0
    try:
        if not folder.is_dir():
            raise PictureError(f"{printable(folder)} is not a folder of images")
        for directory, files, left_out in _walk(folder, set()):
            skipped += left_out
            found.extend(directory / name for name in files)
    except OSError as error:
        where = printable(error.filename or folder)
        raise PictureError(f"cannot read the folder {where}: {error.strerror}") from error
    found.sort(key=lambda path: natural_key(path.relative_to(folder).as_posix()))
    return tuple(found), skipped


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in ``folder`` that are neither hidden nor the system's, in natural order."""
    names = (entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_system_entry(entry.name))
    return sorted(names, key=natural_key)


def is_system_entry(name: str) -> bool:
    """Whether a file or folder of this name belongs to a system and not to its user."""
    return name.startswith((".", "~$")) or name.lower() in _SYSTEM_ENTRIES


def natural_key(name: str) -> tuple[tuple[int, str | int, str], ...]:
    """Sorts numbers in names by their value: ``img2`` before ``img10``. Equal for equal names alone."""
    parts = (part for part in _DIGITS.split(name) if part)
    return tuple((0, int(part), part) if part.isdecimal() else (1, part.lower(), part) for part in parts)


def _walk(folder: Path, seen: set[tuple[int, int]]) -> Iterator[tuple[Path, list[str], int]]:
    """Every folder below: its files, and how many entries were left out."""
    status = os.stat(folder)
    identity = (status.st_dev, status.st_ino)
    if identity in seen:
        return
    seen.add(identity)
    with os.scandir(folder) as entries:
        own = list(entries)
    kept = [entry for entry in own if not is_system_entry(entry.name)]
    yield folder, [entry.name for entry in kept if entry.is_file()], len(own) - len(kept)
    for entry in kept:
        if entry.is_dir():
            yield from _walk(folder / entry.name, seen)
