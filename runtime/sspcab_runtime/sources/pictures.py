"""Pictures as a source of frames."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from sspcab_edge.bit_depth import BitDepth
from sspcab_edge.errors import PictureError
from sspcab_edge.preprocess import decode_picture
from sspcab_edge.protocols import Frame, Source

__all__ = ["Pictures", "ReadsImages", "at_bit_depth"]


@runtime_checkable
class ReadsImages(Protocol):
    """A source that decodes image files."""

    bit_depth: BitDepth
    """How many bits are in use in files of 16 per channel."""


def at_bit_depth(source: Source, bit_depth: BitDepth) -> Source:
    """The same source; where it reads image files, those of 16 bits per channel with so many in use.

    Cameras and videos give 8 bits already.
    """
    if isinstance(source, ReadsImages):
        source.bit_depth = bit_depth
    return source


class Pictures:
    """Picture files in the order given; decoded when asked for, one at a time.

    Args:
        uri: How the source was named.
        paths: The files.
        bit_depth: How many bits are in use in files of 16 per channel.
    """

    def __init__(self, uri: str, paths: Sequence[Path], bit_depth: BitDepth = 16) -> None:
        self.uri = uri
        self.bit_depth = bit_depth
        self._paths = tuple(paths)
        self._next = 0

    @property
    def count(self) -> int:
        """How many pictures there are, good and bad."""
        return len(self._paths)

    def __iter__(self) -> Pictures:
        return self

    def __next__(self) -> Frame:
        """The next picture. A bad one has its index too, and the one after it follows.

        Raises:
            PictureError: This picture cannot be decoded; iteration may go on.
        """
        if self._next >= len(self._paths):
            raise StopIteration
        index = self._next
        self._next += 1
        path = self._paths[index]
        try:
            picture = decode_picture(path, self.bit_depth)
        except PictureError as error:
            error.path = str(path)
            raise
        return Frame(
            pixels=picture.pixels,
            index=index,
            source=self.uri,
            monotonic_s=time.monotonic(),
            wall_s=time.time(),
            path=str(path),
            converted=picture.converted,
        )

    def close(self) -> None:
        """Forget what was not read."""
        self._next = len(self._paths)
