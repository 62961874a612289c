"""Where the videos are in what a user names."""

from __future__ import annotations

from pathlib import Path

from sspcab_edge.datasets import VIDEO_SUFFIXES, list_files
from sspcab_edge.errors import PictureError
from sspcab_edge.preprocess import PICTURE_SUFFIXES

__all__ = ["find_films"]


def find_films(path: Path) -> tuple[Path, ...]:
    """Every video at or below ``path``, then every folder there that holds images: its frames.

    Hidden and system entries are left out; paths are in natural order.

    Raises:
        PictureError: There is none.
    """
    if not path.exists():
        raise PictureError(f"{path} does not exist, expected a video or a folder of videos", str(path))
    files = [path] if path.is_file() else list_files(path)[0]
    videos = [p for p in files if p.suffix.lower() in VIDEO_SUFFIXES]
    frames = (p.parent for p in files if p.suffix.lower() in PICTURE_SUFFIXES and path.is_dir())
    folders = list(dict.fromkeys(frames))
    if not videos and not folders:
        known = ", ".join(sorted(VIDEO_SUFFIXES))
        raise PictureError(
            f"{path} holds no videos ({known}) and no folders of frames: this host looks at videos", str(path)
        )
    return (*videos, *folders)
