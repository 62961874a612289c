"""Cameras that FFmpeg reads: RTSP and V4L2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from sspcab_edge.errors import SourceError
from sspcab_runtime.sources.colour import Colour
from sspcab_runtime.sources.decoding import decode_frames
from sspcab_runtime.sources.streams import StreamOptions
from sspcab_runtime.sources.video import import_av

__all__ = ["LibavStream", "open_device", "open_rtsp"]

_PROBE = {"probesize": "65536", "analyzeduration": "100000"}
"""By default FFmpeg listens to a camera for two seconds before it gives a frame."""

_REFUSED = "refuses this user or this password (401), or wants a login that FFmpeg does not know: it has MD5"
_LONGEST_LOGIN = 127
"""Bytes with their escapes: FFmpeg cuts off what is longer."""


class LibavStream:
    """What FFmpeg demuxes and decodes.

    Args:
        name: Of the camera, for messages.
        target: What FFmpeg opens; it may hold a password and is never shown.
        options: See :class:`~sspcab_runtime.sources.streams.StreamOptions`.
        format: The demuxer.
        settings: Options of FFmpeg.
        lossy: Packets may be lost on the way.

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
        format: str,
        settings: dict[str, str],
        lossy: bool = False,
    ) -> None:
        self._name, self._max_pixels = name, options.max_pixels
        self._with_login = options.user is not None
        self._av = import_av()
        with self._errors("cannot be opened"):
            self._container = self._av.open(
                target,
                format=format,
                metadata_errors="ignore",
                timeout=(options.open_s, options.read_s),
                options={**_PROBE, **settings},
            )
        if not self._container.streams.video:
            self._container.close()
            raise SourceError(f"{name} has no video")
        self._stream = self._container.streams.video[0]
        context = self._stream.codec_context
        self._check(context.width, context.height)
        context.options = {"max_pixels": str(options.max_pixels)}
        context.thread_type = "SLICE"  # threads by frame would hold frames back
        if lossy:
            context.thread_count = 1  # with several, H.264 does not tell of patches
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
        with self._errors("was lost"):
            begun = False  # whoever joins a stream sees frames first that are made from ones before
            for frame in decode_frames(self._av, self._container, self._stream, held=0):
                if frame is None:
                    self.bad += begun
                    continue
                begun = True
                self._check(frame.width, frame.height)
                yield frame
        raise SourceError(f"{self._name} ended")

    def close(self) -> None:
        """Let go of it."""
        self._container.close()

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
        except self._av.error.HTTPUnauthorizedError:
            why = _REFUSED if self._with_login else "wants a user and a password (401)"
            raise SourceError(f"{self._name} {why}") from None
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
        if len(login) > _LONGEST_LOGIN + 1:
            raise SourceError(
                f"{display} cannot be opened: user and password have {len(login) - 1} bytes as a URL, "
                f"FFmpeg takes {_LONGEST_LOGIN}"
            )
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
    lossy = options.transport == "udp"
    return LibavStream(display, target, options, format="rtsp", settings=settings, lossy=lossy)


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
