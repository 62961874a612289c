"""Pictures as a source of frames."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from sspcab_edge.errors import PictureError
from sspcab_edge.preprocess import decode_picture
from sspcab_edge.protocols import Frame

__all__ = ["Pictures"]


class Pictures:
    """Picture files in the order given; decoded when asked for, one at a time.

    Args:
        uri: How the source was named.
        paths: The files.
    """

    def __init__(self, uri: str, paths: Sequence[Path]) -> None:
        self.uri = uri
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
            picture = decode_picture(path)
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
