"""Streams that FFmpeg reads: RTSP, V4L2, and files that stand for a camera."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sspcab_edge.errors import SourceError
from sspcab_runtime.sources.colour import Colour
from sspcab_runtime.sources.streams import StreamOptions
from sspcab_runtime.sources.video import import_av

__all__ = ["LibavStream", "open_device", "open_looped", "open_rtsp"]

_PROBE = {"probesize": "65536", "analyzeduration": "100000"}
"""By default FFmpeg listens to a camera for two seconds before it gives a frame."""


class LibavStream:
    """What FFmpeg demuxes and decodes.

    Args:
        name: Of the camera, for messages.
        target: What FFmpeg opens; it may hold a password and is never shown.
        options: See :class:`~sspcab_runtime.sources.streams.StreamOptions`.
        format: The demuxer, or None.
        settings: Options of FFmpeg.
        loop: A file: paced as a camera would be, and begun anew at its end.

    Raises:
        SourceError: It cannot be opened, or its frames are larger than allowed.
        MissingPackageError: PyAV is not installed.
    """

    def __init__(
        self,
        name: str,
        target: str,
        options: StreamOptions,
        *,
        format: str | None = None,
        settings: dict[str, str] | None = None,
        loop: bool = False,
    ) -> None:
        self._name, self._loop, self._max_pixels = name, loop, options.max_pixels
        self._av = import_av()
        self._av.logging.set_level(self._av.logging.PANIC)  # its messages show addresses with passwords
        with self._errors("cannot be opened"):
            self._container = self._av.open(
                target,
                format=format,
                metadata_errors="ignore",
                timeout=None if loop else (options.open_s, options.read_s),
                options={**_PROBE, **(settings or {})},
            )
        if not self._container.streams.video:
            self._container.close()
            raise SourceError(f"{name} has no video")
        self._stream = self._container.streams.video[0]
        context = self._stream.codec_context
        self._check(context.width, context.height)
        context.options = {"max_pixels": str(options.max_pixels)}
        context.thread_type = "SLICE"  # threads by frame would hold frames back
        if not loop:
            context.flags |= 0x80000  # AV_CODEC_FLAG_LOW_DELAY
        self.bad = 0

    @property
    def codec(self) -> str:
        """As FFmpeg names it."""
        return str(self._stream.codec_context.name)

    @property
    def fps(self) -> float | None:
        """Frames a second, where the stream says so."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        return float(rate) if rate else None

    @property
    def colour(self) -> Colour | None:
        """The first frame says."""
        return None

    def __iter__(self) -> Iterator[Any]:
        start, shown = time.monotonic(), 0
        interval_s = 1 / (self.fps or 25.0)
        while True:
            before = shown
            for frame in self._once():
                if self._loop:
                    wait_s = start + shown * interval_s - time.monotonic()
                    if wait_s > 0:
                        time.sleep(wait_s)
                    elif wait_s < -1.0:  # this machine is too slow: do not hurry after what is lost
                        start -= wait_s
                shown += 1
                yield frame
            if not self._loop:
                raise SourceError(f"{self._name} ended")
            if shown == before:
                raise SourceError(f"{self._name} has no frames")
            with self._errors("cannot be read again"):
                self._container.seek(0)
                self._stream.codec_context.flush_buffers()

    def close(self) -> None:
        """Let go of it."""
        self._container.close()

    def _once(self) -> Iterator[Any]:
        with self._errors("was lost"):
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except self._av.error.InvalidDataError:
                    self.bad += 1
                    continue
                for frame in frames:
                    if frame.is_corrupt:
                        self.bad += 1
                        continue
                    self._check(frame.width, frame.height)
                    yield frame

    def _check(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise SourceError(
                f"{self._name} has frames of {width}x{height} pixels, expected at most {self._max_pixels}"
            )

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """FFmpeg's errors as ours, without the address, which may hold a password."""
        try:
            yield
        except self._av.error.FFmpegError as error:
            raise SourceError(f"{self._name} {what}: {error.strerror}") from None
        except OSError as error:
            raise SourceError(f"{self._name} {what}: {error.strerror or 'no answer'}") from None


def open_rtsp(
    scheme: str, host: str, port: int | None, path: str, display: str, options: StreamOptions
) -> LibavStream:
    """A camera's RTSP stream; ``scheme`` is ``rtsp`` or ``rtsps``.

    Raises:
        SourceError: It cannot be opened.
    """
    login = ""
    if options.user is not None:
        login = f"{quote(options.user, safe='')}:{quote(options.password or '', safe='')}@"
    where = f"[{host}]" if ":" in host else host
    target = f"{scheme}://{login}{where}{'' if port is None else f':{port}'}{path}"
    protocols = "rtsp,rtp,tcp,udp" if scheme == "rtsp" else "rtsps,rtsp,rtp,tcp,tls,udp"
    settings = {
        "protocol_whitelist": protocols,
        "rtsp_transport": options.transport,
        "timeout": str(int(options.read_s * 1e6)),
        "fflags": "nobuffer",
        "max_delay": "200000",
        "allowed_media_types": "video",
    }
    return LibavStream(display, target, options, format="rtsp", settings=settings)


def open_device(device: str, options: StreamOptions) -> LibavStream:
    """A V4L2 camera, ``/dev/videoN``.

    Raises:
        SourceError: It cannot be opened.
    """
    settings = {}
    if options.width and options.height:
        settings["video_size"] = f"{options.width}x{options.height}"
    if options.fps:
        settings["framerate"] = f"{options.fps:g}"
    return LibavStream(device, device, options, format="v4l2", settings=settings)


def open_looped(path: Path, options: StreamOptions) -> LibavStream:
    """A video file that stands for a camera: at its own pace, over and over.

    Raises:
        SourceError: It cannot be opened.
    """
    settings = {"protocol_whitelist": "file"}
    return LibavStream(str(path), f"file:{path}", options, settings=settings, loop=True)
