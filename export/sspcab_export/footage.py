"""The user's videos of normal scenes: found, measured and cut into what is fitted to and what is judged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sspcab_edge.bit_depth import BitDepth
from sspcab_edge.datasets import list_images
from sspcab_edge.errors import PictureError
from sspcab_edge.preprocess import decode_picture
from sspcab_edge.protocols import Frame
from sspcab_export.bit_range import measured_bit_depth
from sspcab_export.progress import Progress
from sspcab_runtime.sources.files import open_path
from sspcab_runtime.sources.films import find_films
from sspcab_runtime.sources.pictures import at_bit_depth

__all__ = ["Footage", "Use", "find_footage", "frames_of"]

Use = Literal["fit", "ranges", "judge"]

_FIT_SHARE, _RANGES_SHARE = 0.5, 0.25


@dataclass(frozen=True, slots=True)
class Footage:
    """One video, or one folder of its frames as pictures.

    Attributes:
        path: The file or folder.
        name: Path below the folder that was given.
        frames: How many there are.
        size: (height, width) of the first, in pixels.
        digest: SHA-256 of the file, or of the frames' files one after the other.
        bit_depth: How many bits are in use in frames that are image files of 16 per channel.
    """

    path: Path
    name: str
    frames: int
    size: tuple[int, int]
    digest: str
    bit_depth: BitDepth = 16

    def use(self, index: int, gap: int, *, ranges: bool) -> Use | None:
        """What a frame is for: the first half to fit, a quarter for ranges (where asked for), then to judge.

        None for the ``gap`` frames after each change, whose windows would reach back across it.
        """
        fit_end = int(self.frames * _FIT_SHARE)
        ranges_end = int(self.frames * (_FIT_SHARE + _RANGES_SHARE)) if ranges else fit_end
        if index < fit_end:
            return "fit"
        if index < ranges_end:
            return "ranges" if index >= fit_end + gap else None
        return "judge" if index >= ranges_end + gap else None


def find_footage(path: Path, say: Progress, bit_depth: BitDepth | None = None) -> tuple[Footage, ...]:
    """Every video at or below ``path``, and every folder below it that holds pictures, in order.

    All are decoded once, to the end, with one bit depth for all folders of pictures: the given one, else
    what they hold, which is said.

    Raises:
        PictureError: There is none, or one cannot be read or has no frames.
        SourceError: A video cannot be opened or is damaged.
        MissingPackageError: PyAV is not installed.
    """
    films = find_films(path)
    folders = [one for one in films if one.is_dir()]
    used = [
        (file.relative_to(path).as_posix(), decode_picture(file).used)
        for folder in folders
        for file in list_images(folder).paths
    ]
    bits, notes = measured_bit_depth(used, bit_depth)
    for text in notes:
        say.note(text)
    found = []
    for number, one in enumerate(films, 1):
        found.append(_measured(one, path, bits, say))
        say.step(number, len(films))
    return tuple(found)


def frames_of(footage: Footage) -> Iterator[Frame]:
    """Its frames, in order.

    Raises:
        SourceError: The video is damaged.
        PictureError: A frame cannot be decoded.
    """
    with closing(at_bit_depth(open_path(footage.path), footage.bit_depth)) as source:
        yield from source


def _measured(path: Path, root: Path, bit_depth: BitDepth, say: Progress) -> Footage:
    count, size = 0, (0, 0)
    converted: dict[str, int] = {}
    with closing(at_bit_depth(open_path(path), bit_depth)) as source:
        for frame in source:
            if not count:
                size = (frame.pixels.shape[0], frame.pixels.shape[1])
            count += 1
            if frame.converted is not None:
                converted[frame.converted] = converted.get(frame.converted, 0) + 1
    if not count:
        raise PictureError(f"{path} has no frames", str(path))
    for what, frames in sorted(converted.items()):
        say.note(f"{frames} frames of {path.name} converted: {what}")
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file()):
        digest.update(file.read_bytes())
    name = path.name if path == root else path.relative_to(root).as_posix()
    return Footage(path, name, count, size, digest.hexdigest(), bit_depth)
