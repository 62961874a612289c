"""Small pictures of the latest seconds of a camera, and a video made of them."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_runtime.sources.video import import_av

__all__ = ["Recent", "Still", "make_clip", "small_jpeg"]

_SIDE = 640
_QUALITY = 75
_ENCODERS = (("libx264", "mp4"), ("libopenh264", "mp4"), ("libvpx", "webm"))


@dataclass(frozen=True, slots=True)
class Still:
    """One small picture, as JPEG."""

    monotonic_s: float
    jpeg: bytes


class Recent:
    """The stills of the latest seconds of one camera."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._stills: deque[Still] = deque()

    def add(self, still: Still) -> None:
        """The next still; those that are too old go."""
        self._stills.append(still)
        while still.monotonic_s - self._stills[0].monotonic_s > self._seconds:
            self._stills.popleft()

    def since(self, monotonic_s: float) -> list[Still]:
        """Those that are not older."""
        return [still for still in self._stills if still.monotonic_s >= monotonic_s]


def small_jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A JPEG of (H, W, 3) uint8 RGB, 640 pixels wide or high at most, both even."""
    height, width = pixels.shape[:2]
    factor = min(1.0, _SIDE / max(height, width))
    size = (max(2, int(width * factor) // 2 * 2), max(2, int(height * factor) // 2 * 2))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    return data.tobytes()


def make_clip(stills: Sequence[Still]) -> tuple[bytes, str] | None:
    """A video that browsers play, and its suffix; None where there are too few stills or no encoder.

    Raises:
        MissingPackageError: PyAV is not installed.
    """
    av = import_av()
    found = next(((name, kind) for name, kind in _ENCODERS if name in av.codecs_available), None)
    if found is None or len(stills) < 2:
        return None
    encoder, kind = found
    first = cv2.imdecode(np.frombuffer(stills[0].jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    if first is None:
        return None
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(encoder, rate=30)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.thread_count = 1
        if encoder == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "28"}
        begin, last = stills[0].monotonic_s, -1
        for still in stills:
            picture = cv2.imdecode(np.frombuffer(still.jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
            if picture is None or picture.shape != first.shape:
                continue
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            last = max(last + 1, round((still.monotonic_s - begin) * 1000))
            frame.pts, frame.time_base = last, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue(), kind
