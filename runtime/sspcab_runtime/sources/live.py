"""Cameras as sources, for ``sspcab-run``; and the one way to open a camera's stream, for the daemon too."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from sspcab_edge.errors import SourceError
from sspcab_edge.protocols import Frame
from sspcab_runtime.sources.camera_address import CameraAddress, camera_address
from sspcab_runtime.sources.colour import Converter
from sspcab_runtime.sources.files import require_video
from sspcab_runtime.sources.gst import GstStream, csi_pipeline
from sspcab_runtime.sources.libav import open_device, open_looped, open_rtsp
from sspcab_runtime.sources.mjpeg import MjpegStream
from sspcab_runtime.sources.streams import Stream, StreamOptions
from sspcab_runtime.sources.video import import_av

__all__ = ["LiveSource", "open_live", "open_stream"]

LOGIN = "--user NAME and --password file:PATH or env:NAME beside it"


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
    return open_looped(address.file, options)


class LiveSource:
    """A camera, frame by frame, until it is lost.

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
        self._converter = Converter(import_av(), options.assumed)
        self._converter.colour = self._stream.colour
        self._frames: Iterator[object] = iter(self._stream)
        self._index = 0

    def __iter__(self) -> LiveSource:
        return self

    def __next__(self) -> Frame:
        """The next frame that could be decoded.

        Raises:
            SourceError: The camera is lost.
        """
        frame = next(self._frames, None)
        if frame is None:
            raise SourceError(f"{self.uri} ended")
        pixels = np.ascontiguousarray(self._converter.rgb(frame))
        index = self._index
        self._index += 1
        return Frame(pixels, index, self.uri, time.monotonic(), time.time())

    def close(self) -> None:
        """Let go of the camera."""
        self._stream.close()


def open_live(uri: str) -> LiveSource:
    """A camera by its URI: see :class:`LiveSource`.

    Raises:
        OptionError: The address is not allowed.
        SourceError: The camera cannot be opened.
    """
    return LiveSource(camera_address(uri, login=LOGIN), StreamOptions())
