"""What a bundle is measured on: the inputs of its own parity pack, or a source that the user names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import BundleError, OptionError, SourceError
from sspcab_edge.front_end_spec import FrontEndSpec
from sspcab_edge.protocols import Frame, Source
from sspcab_runtime.sources import open_source
from sspcab_runtime.sources.pictures import Pictures, at_bit_depth

__all__ = ["PACK", "Endless", "endless_frames", "pack_files", "pack_has_frames", "require_frames", "spread"]

PACK = "parity pack"
"""How the inputs of the bundle's parity pack are named as a source."""

_GOLDEN = 0.6180339887498949


class Endless:
    """A source that begins again when it ends. Implements :class:`sspcab_edge.protocols.Source`.

    Frames keep the index that they have in one pass.

    Args:
        open_pass: Opens the source once more.

    Attributes:
        current: The pass that is being read. Who measures single frames reads it directly, and calls
            :meth:`begin_again` between two clocks.
    """

    count = None

    def __init__(self, open_pass: Callable[[], Source]) -> None:
        self._open_pass = open_pass
        self.current = open_pass()

    @property
    def uri(self) -> str:
        """How the source was named."""
        return self.current.uri

    def __iter__(self) -> Endless:
        return self

    def __next__(self) -> Frame:
        """The next frame, of the next pass where one has ended.

        Raises:
            PictureError: The picture cannot be decoded.
            SourceError: The source is lost, or has no frames.
        """
        frame = next(self.current, None)
        if frame is None:
            self.begin_again()
            frame = next(self.current, None)
        if frame is None:
            raise SourceError(f"{self.uri} gives no frames to measure with")
        return frame

    def begin_again(self) -> None:
        """Open the next pass."""
        self.current.close()
        self.current = self._open_pass()

    def close(self) -> None:
        """Close the pass that is being read."""
        self.current.close()


def pack_has_frames(bundle: Bundle) -> bool:
    """Whether the parity pack holds what a camera shows, and not regions, tiles, clips or objects."""
    return bundle.manifest.front_end == FrontEndSpec()


def require_frames(bundle: Bundle, source: str | None) -> None:
    """Refuse to measure whole frames where there are none.

    Raises:
        OptionError: No source is named, and the parity pack does not hold frames.
    """
    if source is None and not pack_has_frames(bundle):
        kind = bundle.manifest.front_end.kind
        raise OptionError(
            f"the parity pack of {bundle.path} holds what its front-end ({kind}) gives to the network, no "
            "camera frames: name a video or pictures of the scene with --source (density: --film)"
        )


def endless_frames(bundle: Bundle, source: str | None) -> Endless:
    """The frames of a source again and again; of the parity pack, where none is named.

    Raises:
        OptionError: The pack does not hold frames.
        BundleError: It holds no pictures.
        SourceError: The source cannot be opened.
        PictureError: It is a folder without pictures.
    """
    require_frames(bundle, source)
    if source is not None:
        bit_depth = bundle.manifest.preprocess.bit_depth
        return Endless(lambda: at_bit_depth(open_source(source), bit_depth))
    files = pack_files(bundle)
    return Endless(lambda: Pictures(PACK, files))


def pack_files(bundle: Bundle) -> list[Path]:
    """The picture files of the parity pack, in the order in which ``read_pack`` gives them.

    Raises:
        BundleError: There are none, or not as many as the manifest says.
    """
    index = Path(bundle.manifest.parity_pack.index)
    listed = (Path(entry.path) for entry in bundle.manifest.files)
    pictures = sorted(path for path in listed if path.parent == index.parent and path.suffix == ".png")
    if not pictures or len(pictures) != bundle.manifest.parity_pack.inputs:
        raise BundleError(
            f"the parity pack of {bundle.path} has {len(pictures)} pictures, "
            f"expected {bundle.manifest.parity_pack.inputs}: nothing to measure with"
        )
    return [bundle.path / path for path in pictures]


def spread(count: int) -> list[int]:
    """The numbers below ``count``, reordered so that every first few of them are spread over all.

    A slow engine gets through some inputs of a pack only; they should not all be of one kind.
    """
    return sorted(range(count), key=lambda number: number * _GOLDEN % 1)
