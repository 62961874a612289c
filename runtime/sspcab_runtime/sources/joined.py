"""Image files and folders of them, one after the other as one source."""

from __future__ import annotations

from collections.abc import Sequence

from sspcab_edge.bit_depth import BitDepth
from sspcab_edge.errors import MissingPackageError, OptionError, PictureError, SourceError
from sspcab_edge.protocols import Frame, Source
from sspcab_runtime.sources.pictures import at_bit_depth
from sspcab_runtime.sources.table import open_source

__all__ = ["UNOPENED", "Joined", "as_failure"]

UNOPENED = (SourceError, PictureError, OptionError, MissingPackageError)
"""What opening a source raises."""


def as_failure(error: Exception, name: str) -> PictureError:
    """What is wrong with a source, as what is wrong with one image is told: the others go on."""
    failure = PictureError(str(error))
    failure.path = name
    return failure


class Joined:
    """Sources that are opened when their turn comes; a frame keeps the name and index of its own.

    Args:
        names: Paths or URIs.
        bit_depth: How many bits are in use in files of 16 per channel.
    """

    uri = "several sources"
    count = None

    def __init__(self, names: Sequence[str], bit_depth: BitDepth = 16) -> None:
        self.bit_depth = bit_depth
        self._names = iter(tuple(names))
        self._open: Source | None = None

    def __iter__(self) -> Joined:
        return self

    def __next__(self) -> Frame:
        """The next image of the source that is open, or of the next one.

        Raises:
            PictureError: This image cannot be decoded, or this source cannot be opened; iteration may go on.
        """
        while True:
            if self._open is None:
                self._open = self._opened(next(self._names))
            frame = next(self._open, None)
            if frame is not None:
                return frame
            self._open.close()
            self._open = None

    def close(self) -> None:
        """Forget what was not read."""
        self._names = iter(())
        if self._open is not None:
            self._open.close()
            self._open = None

    def _opened(self, name: str) -> Source:
        try:
            return at_bit_depth(open_source(name), self.bit_depth)
        except UNOPENED as error:
            raise as_failure(error, name) from error
