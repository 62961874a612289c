"""Live streams: what capture processes and ``sspcab-run`` read from, until the camera is lost.

A stream gives decoded frames that are not RGB yet, so that whoever leaves frames out does not pay for their
conversion. What may fail or last is bounded here where the library lets us; a read that hangs for all that is
ended by killing the process, which is why the daemon reads in one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from sspcab_runtime.sources.colour import Assumed, Colour

__all__ = ["Stream", "StreamOptions"]


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a stream is opened.

    Attributes:
        open_s: Longest wait for the camera to answer.
        read_s: Longest wait for data.
        max_pixels: Larger frames are refused before they are decoded.
        assumed: Colours, where the stream states none.
        transport: Of RTSP, ``tcp`` or ``udp``.
        user: For the camera. Also ``password``.
        width: What to ask the camera for. Also ``height``, ``fps``.
        every_frame: Whoever is slow gets old frames and loses none, instead of the newest.
    """

    open_s: float = 10.0
    read_s: float = 5.0
    max_pixels: int = 8_500_000
    assumed: Assumed = "auto"
    transport: str = "tcp"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    every_frame: bool = False


class Stream(Protocol):
    """Frames of one connection."""

    @property
    def codec(self) -> str:
        """Name of what it is compressed by."""

    @property
    def fps(self) -> float | None:
        """Frames a second, where the stream says so."""

    @property
    def bad(self) -> int:
        """Damaged frames so far."""

    @property
    def colour(self) -> Colour | None:
        """Its colours, where they are not for the first frame to say."""

    def __iter__(self) -> Iterator[Any]:
        """PyAV frames, as they come.

        Raises:
            SourceError: The camera is lost, or gives what is not allowed.
        """

    def close(self) -> None:
        """Let go of the camera."""
