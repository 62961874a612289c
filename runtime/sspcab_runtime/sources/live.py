"""Cameras as sources, for ``sspcab-run``; and the one way to open a camera's stream, for the daemon too."""

from __future__ import annotations

import time
from collections.abc import Iterator

from sspcab_edge.errors import SourceError
from sspcab_edge.protocols import Frame
from sspcab_runtime.sources.camera_address import CameraAddress, camera_address
from sspcab_runtime.sources.colour import Converter
from sspcab_runtime.sources.files import require_video
from sspcab_runtime.sources.gst import GstStream, csi_pipeline
from sspcab_runtime.sources.libav import open_device, open_rtsp
from sspcab_runtime.sources.looped import LoopedFilm
from sspcab_runtime.sources.mjpeg import MjpegStream
from sspcab_runtime.sources.newest import Newest
from sspcab_runtime.sources.streams import Stream, StreamOptions
from sspcab_runtime.sources.video import import_av

__all__ = ["EveryFrame", "NewestFrame", "open_live", "open_stream"]

_LOGIN = "sspcab-run's --user NAME and --password file:PATH or env:NAME"


def open_stream(address: CameraAddress, options: StreamOptions) -> Stream:
    """Connect to a camera.

    Raises:
        SourceError: It cannot be opened.
        MissingPackageError: PyAV is not installed.
    """
    if address.scheme in ("rtsp", "rtsps"):
        return open_rtsp(address.scheme, address.host, address.port, address.path, address.display, options)
    if address.scheme in ("http", "https"):
        return MjpegStream(address.scheme, address.host, address.port, address.path, address.display, options)
    if address.scheme == "v4l2":
        return open_device(address.device, options)
    if address.scheme == "csi":
        return GstStream(address.display, csi_pipeline(address.sensor, options), options)
    if address.scheme == "gst":
        return GstStream("the pipeline", address.pipeline, options)
    assert address.file is not None
    require_video(address.file)
    return LoopedFilm(address.file, options)


class EveryFrame:
    """All frames of a camera until it is lost, however long ago they were taken.

    Args:
        address: Where it is.
        options: How it is opened.

    Raises:
        SourceError: It cannot be opened.
        MissingPackageError: PyAV is not installed.
    """

    def __init__(self, address: CameraAddress, options: StreamOptions) -> None:
        self.uri = address.display
        self.count = None
        self._stream = open_stream(address, options)
        self._convert = _converter(self._stream, options)
        self._frames: Iterator[object] = iter(self._stream)
        self._index = 0

    @property
    def damaged(self) -> int:
        """Frames so far that came damaged."""
        return self._stream.bad

    def __iter__(self) -> EveryFrame:
        return self

    def __next__(self) -> Frame:
        """The next whole frame.

        Raises:
            SourceError: The camera is lost.
        """
        frame = next(self._frames, None)
        if frame is None:
            raise SourceError(f"{self.uri} ended")
        index = self._index
        self._index += 1
        return Frame(self._convert.rgb(frame), index, self.uri, time.monotonic(), time.time())

    def close(self) -> None:
        """Let go of the camera."""
        self._stream.close()


class NewestFrame:
    """The newest frame of a camera whenever one is asked for, until it is lost: see :class:`Newest`.

    Args:
        address: Where it is.
        options: How it is opened.

    Raises:
        SourceError: It cannot be opened.
        MissingPackageError: PyAV is not installed.
    """

    def __init__(self, address: CameraAddress, options: StreamOptions) -> None:
        self.uri = address.display
        self.count = None
        self._stream = open_stream(address, options)
        self._convert = _converter(self._stream, options)
        self._wait_s = options.read_s + 1.0
        self._newest = Newest(self._stream, "sspcab-camera")

    @property
    def received(self) -> int:
        """Whole frames so far, dropped ones included."""
        return self._newest.received

    @property
    def dropped(self) -> int:
        """Frames so far that a newer one took the place of, or that nobody wanted any more."""
        return self._newest.dropped

    @property
    def damaged(self) -> int:
        """Frames so far that came damaged."""
        return self._stream.bad

    def __iter__(self) -> NewestFrame:
        return self

    def __next__(self) -> Frame:
        """The newest whole frame that was not given yet; its clocks say when it came.

        Raises:
            SourceError: The camera is lost.
        """
        received = self._newest.take()
        if received is None:
            raise SourceError(f"{self.uri} ended")
        pixels = self._convert.rgb(received.frame)
        return Frame(pixels, received.index, self.uri, received.monotonic_s, received.wall_s)

    def stop(self) -> None:
        """Receive no more; what waits is dropped."""
        self._newest.stop(self._wait_s)

    def close(self) -> None:
        """Let go of the camera; of one that does not answer even so, the end of the process does."""
        if self._newest.stop(self._wait_s):
            self._stream.close()


def open_live(uri: str, options: StreamOptions) -> EveryFrame | NewestFrame:
    """A camera by its URI.

    Raises:
        OptionError: The address is not allowed.
        SourceError: The camera cannot be opened.
    """
    kind = EveryFrame if options.every_frame else NewestFrame
    return kind(camera_address(uri, login=_LOGIN), options)


def _converter(stream: Stream, options: StreamOptions) -> Converter:
    converter = Converter(import_av(), options.assumed)
    converter.colour = stream.colour
    return converter
