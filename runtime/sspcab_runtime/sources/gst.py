"""Streams that GStreamer reads, in a child process: ``gst:PIPELINE``, and ``csi://N`` on a Jetson.

``gst-launch-1.0`` writes raw I420 frames to a pipe, and the caps (size, colours) to its stdout. So no OpenCV
with GStreamer is needed, and the conversion to RGB is the same as everywhere. A pipeline with a login is
run by ``gst_child`` instead, as the words of a command can be seen by all.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sspcab_edge.errors import SourceError
from sspcab_edge.shown_address import HIDDEN, shown_address, shown_text
from sspcab_runtime.sources import gst_child
from sspcab_runtime.sources.colour import Colour
from sspcab_runtime.sources.streams import StreamOptions
from sspcab_runtime.sources.video import import_av

__all__ = ["GstStream", "csi_pipeline", "read_caps"]

_NAME = "sspcab"
_LAST_LINE = 300
_SHORTEST_SECRET = 4
_MATRICES = {2: 4, 3: 1, 4: 5, 5: 7, 6: 9}
"""GstVideoColorMatrix -> SWS_CS of libswscale."""
_NAMED = {
    "bt601": (2, 4),
    "bt709": (2, 3),
    "smpte240m": (2, 5),
    "bt2020": (2, 6),
    "bt2020-10": (2, 6),
    "sRGB": (1, 1),
}
"""Colorimetry by name -> (GstVideoColorRange, GstVideoColorMatrix)."""
_SITES = {"mpeg2": "left", "jpeg": "center", "cosited": "topleft", "dv": "topleft"}
"""Where chroma samples lie: GStreamer's word -> FFmpeg's."""
_CAPS = re.compile(rf"GstIdentity:{_NAME}\.GstPad:src: caps = video/x-raw, ([^\n]+)")
_WORDS = {4: "fcc", 1: "bt709", 5: "bt601", 7: "smpte240m", 9: "bt2020"}


class GstStream:
    """What a pipeline gives, up to its loss.

    Args:
        name: Of the camera, for messages.
        pipeline: Its words; nothing is read by a shell.
        options: See :class:`~sspcab_runtime.sources.streams.StreamOptions`.

    Raises:
        SourceError: The pipeline does not start, or gives no video in time, or frames that are too large.
        MissingPackageError: PyAV is not installed.
    """

    def __init__(self, name: str, pipeline: Sequence[str], options: StreamOptions) -> None:
        self._name, self._read_s = name, options.read_s
        self._av = import_av()
        self.bad, self.codec = 0, "gstreamer"
        read, write = os.pipe()
        words = [
            *pipeline, "!", "videoconvert", "!", "video/x-raw,format=I420", "!",
            "identity", f"name={_NAME}", "silent=true", "!", "fdsink", f"fd={write}", "sync=false",
        ]  # fmt: skip
        self._secrets = _secrets(pipeline)
        secret = shown_address(f"gst:{' '.join(pipeline)}") != f"gst:{' '.join(pipeline)}"
        program = (
            [sys.executable, "-I", "-S", gst_child.__file__] if secret else ["gst-launch-1.0", "-v", *words]
        )
        try:
            self._child = subprocess.Popen(
                program,
                pass_fds=[write],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            os.close(read)
            raise SourceError(
                "gst-launch-1.0 is not installed: apt-get install gstreamer1.0-tools"
            ) from error
        finally:
            os.close(write)
        self._pipe = read
        self._said = b""
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._child.stdin as standard_input:
            standard_input.write(b"\0".join(os.fsencode(word) for word in words) if secret else b"")
        os.set_blocking(read, False)
        assert self._child.stdout is not None
        os.set_blocking(self._child.stdout.fileno(), False)
        try:
            self.width, self.height, self.fps, self.colour = self._caps(options)
        except SourceError:
            self.close()
            raise
        even = self.height + self.height % 2
        luma, chroma = -(-self.width // 4) * 4, -(-((self.width + 1) // 2) // 4) * 4
        self._strides = (luma, chroma, chroma)
        self._rows = (even, even // 2, even // 2)
        self._decoder = self._open_decoder()
        self._bytes = sum(stride * rows for stride, rows in zip(self._strides, self._rows, strict=True))

    def __iter__(self) -> Iterator[Any]:
        buffer = bytearray(self._bytes)
        while True:
            self._fill(buffer)
            yield self._frame(buffer)

    def close(self) -> None:
        """End the pipeline and all that it started."""
        if self._child.poll() is None:
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()
        if self._pipe >= 0:
            os.close(self._pipe)
        self._pipe = -1

    def _caps(self, options: StreamOptions) -> tuple[int, int, float | None, Colour]:
        until = time.monotonic() + options.open_s
        while True:
            found = read_caps(self._said.decode("utf-8", "replace"))
            if found is not None:
                width, height, _, _ = found
                if width * height > options.max_pixels:
                    raise SourceError(
                        f"{self._name} has frames of {width}x{height} pixels, allowed {options.max_pixels}"
                    )
                return found
            if time.monotonic() > until:
                raise SourceError(f"{self._name} gave no video within {options.open_s:g} s")
            self._listen(0.05)
            if self._child.poll() is not None:
                self._listen(0.0)
                if read_caps(self._said.decode("utf-8", "replace")) is None:
                    raise SourceError(f"{self._name} does not start: {self._last_line()}")

    def _fill(self, buffer: bytearray) -> None:
        view, filled = memoryview(buffer), 0
        until = time.monotonic() + self._read_s
        while filled < len(buffer):
            ready, _, _ = select.select([self._pipe], [], [], max(0.0, min(0.5, until - time.monotonic())))
            self._listen(0.0)
            if not ready:
                if time.monotonic() > until:
                    raise SourceError(f"{self._name} gave no frame within {self._read_s:g} s")
                continue
            got = os.readv(self._pipe, [view[filled:]])
            if got == 0:
                raise SourceError(f"{self._name} ended: {self._last_line()}")
            filled += got

    def _frame(self, buffer: bytearray) -> Any:
        """The frame as PyAV has it: through its decoder of raw video, which alone knows where chroma lies."""
        packed, start = [], 0
        widths = (self.width, (self.width + 1) // 2, (self.width + 1) // 2)
        heights = (self.height, (self.height + 1) // 2, (self.height + 1) // 2)
        for stride, rows, width, height in zip(self._strides, self._rows, widths, heights, strict=True):
            given = np.frombuffer(buffer, np.uint8, stride * rows, start).reshape(rows, stride)
            packed.append(given[:height, :width].tobytes())
            start += stride * rows
        (frame,) = self._decoder.decode(self._av.Packet(b"".join(packed)))
        return frame

    def _open_decoder(self) -> Any:
        decoder = self._av.CodecContext.create("rawvideo", "r")
        decoder.width, decoder.height, decoder.pix_fmt = self.width, self.height, "yuv420p"
        found = re.search(r"chroma-site=\(string\)([a-z0-9]+)", self._caps_text())
        decoder.options = {"chroma_sample_location": _SITES.get(found.group(1) if found else "", "left")}
        return decoder

    def _caps_text(self) -> str:
        found = _CAPS.search(self._said.decode("utf-8", "replace"))
        return "" if found is None else found.group(1)

    def _listen(self, seconds: float) -> None:
        """Take what the child said; its pipe must never fill up."""
        assert self._child.stdout is not None
        said = self._child.stdout.fileno()
        if select.select([said], [], [], seconds)[0]:
            self._said = (self._said + os.read(said, 65536))[-65536:]

    def _last_line(self) -> str:
        lines = [line for line in self._said.decode("utf-8", "replace").splitlines() if line.strip()]
        errors = [line for line in lines if "ERROR" in line or "erroneous" in line]
        line = (errors or lines or ["it says nothing"])[0]
        for secret in self._secrets:
            line = line.replace(secret, HIDDEN)
        return shown_text(line)[:_LAST_LINE].strip()


def _secrets(pipeline: Sequence[str]) -> list[str]:
    """Values of a pipeline that are not shown, the longest first."""
    hidden = [word for word in pipeline if shown_address(f"gst:{word}") != f"gst:{word}"]
    values = [word.partition("=")[2].strip("\"' ") for word in hidden]
    return sorted((value for value in values if len(value) >= _SHORTEST_SECRET), key=len, reverse=True)


def read_caps(said: str) -> tuple[int, int, float | None, Colour] | None:
    """Width, height, frames a second and colours of the frames, from what ``gst-launch-1.0 -v`` prints."""
    found = _CAPS.search(said)
    if found is None:
        return None
    values = dict(re.findall(r"([a-z-]+)=\([A-Za-z0-9:]+\)\"?([^,\"\\]+)", found.group(1).replace("\\", "")))
    width, height = int(values["width"]), int(values["height"])
    over, under = (int(part) for part in values.get("framerate", "0/1").split("/"))
    return width, height, over / under if over else None, _colour(values.get("colorimetry", ""), height)


def _colour(text: str, height: int) -> Colour:
    extent, matrix = _NAMED.get(text, (0, 0))
    parts = text.split(":")
    if not extent and len(parts) == 4 and all(part.isdigit() for part in parts):
        extent, matrix = int(parts[0]), int(parts[1])
    sws = _MATRICES.get(matrix, 1 if height >= 720 else 5)
    full = extent == 1
    return Colour(sws, 2 if full else 1, f"{_WORDS[sws]} {'full' if full else 'limited'} (by GStreamer)")


def csi_pipeline(sensor: int, options: StreamOptions) -> tuple[str, ...]:
    """The pipeline of a Jetson's CSI camera."""
    caps = "video/x-raw(memory:NVMM)"
    if options.width and options.height:
        caps += f",width={options.width},height={options.height}"
    if options.fps:
        caps += f",framerate={round(options.fps)}/1"
    return ("nvarguscamerasrc", f"sensor-id={sensor}", "!", caps, "!", "nvvidconv")
