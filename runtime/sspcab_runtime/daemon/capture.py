"""The capture process: one connection to one camera, from opening to loss.

What hangs here in native code is killed from outside; what ends here says why.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import cv2

from sspcab_edge.errors import EdgeError, MissingPackageError, OptionError
from sspcab_edge.shown_address import shown_text
from sspcab_runtime.daemon.children import adopt
from sspcab_runtime.daemon.integrity.facts import FactsMeter
from sspcab_runtime.daemon.messages import Captured, Ended, Opened, Release, StartCapture, Stop, ToCapture
from sspcab_runtime.daemon.slots import Geometry, Slots
from sspcab_runtime.daemon.wire import Wire, WireClosed
from sspcab_runtime.sources.camera_address import camera_address
from sspcab_runtime.sources.colour import Converter
from sspcab_runtime.sources.live import open_stream
from sspcab_runtime.sources.streams import Stream, StreamOptions
from sspcab_runtime.sources.video import import_av

__all__ = ["main"]


class _Done(Exception):
    """The supervisor wants no more frames."""


def main() -> None:
    """Run as ``python -m``, by the supervisor."""
    wire: Wire[Any] = adopt(sys.argv[1:], ToCapture)  # type: ignore[arg-type]
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    cv2.setNumThreads(1)
    try:
        start, fds = wire.receive()
        if not isinstance(start, StartCapture) or len(fds) != 1:
            return
        geometry = Geometry(start.geometry.count, start.geometry.max_pixels, start.geometry.max_map)
        slots = Slots(fds[0], geometry)
        os.close(fds[0])
        wire.settimeout(0)
        wire.send(_capture(wire, start, slots))
    except (_Done, WireClosed):
        return


def _capture(wire: Wire[Any], start: StartCapture, slots: Slots) -> Ended:
    config = start.config
    options = StreamOptions(
        open_s=config.open_s,
        read_s=config.read_s,
        max_pixels=config.max_pixels,
        assumed=config.colour,
        transport=config.transport,
        user=config.user,
        password=start.password,
        width=config.width,
        height=config.height,
    )
    try:
        stream = open_stream(camera_address(config.source, Path(start.files)), options)
    except (OptionError, MissingPackageError) as error:
        return Ended(reason="configuration", message=shown_text(str(error)))
    except EdgeError as error:
        refused = "allowed" in str(error)
        return Ended(reason="refused" if refused else "lost", message=shown_text(str(error)))
    try:
        return _Frames(wire, start, slots, stream).run()
    except EdgeError as error:
        return Ended(reason="lost", message=shown_text(str(error)))
    finally:
        stream.close()


class _Frames:
    """From the stream to slots."""

    def __init__(self, wire: Wire[Any], start: StartCapture, slots: Slots, stream: Stream) -> None:
        self._wire, self._slots, self._stream = wire, slots, stream
        self._interval_s = 0.0 if start.config.fps is None else 1.0 / start.config.fps
        self._free = list(range(start.geometry.count))
        self._converter = Converter(import_av(), start.config.colour)
        self._converter.colour = stream.colour
        self._meter = FactsMeter(None if start.reference is None else Path(start.reference))
        self._dropped = self._skipped = self._bad = 0
        self._number = -1
        self._size: tuple[int, int] | None = None

    def run(self) -> Ended:
        """Until the stream is lost or changes its size.

        Raises:
            SourceError: It is lost.
        """
        due_s = 0.0
        for frame in self._stream:
            self._number += 1
            self._listen()
            size = self._converter.size(frame)
            if self._size is None:
                self._open(frame)
            elif size != self._size:
                return Ended(reason="size", message=f"frames changed from {_by(self._size)} to {_by(size)}")
            now = time.monotonic()
            if now < due_s - 0.25 * self._interval_s:
                self._skipped += 1
            elif not self._free:
                self._dropped += 1
            else:
                due_s = max(due_s + self._interval_s, now)
                self._take(frame)
        return Ended(reason="finished", message="the stream ended")

    def _open(self, frame: Any) -> None:
        self._size = self._converter.size(frame)
        self._converter.rgb(frame)
        assert self._converter.colour is not None
        interlaced = (
            ", interlaced: both fields of a frame are judged as one" if frame.interlaced_frame else ""
        )
        self._wire.send(
            Opened(
                width=self._size[1],
                height=self._size[0],
                fps=self._stream.fps,
                codec=self._stream.codec,
                colour=f"{self._converter.colour.words}{interlaced}",
            )
        )

    def _take(self, frame: Any) -> None:
        monotonic_s, wall_s = time.monotonic(), time.time()
        start = time.perf_counter()
        slot = self._free.pop()
        assert self._size is not None
        out = self._slots.pixels(slot, *self._size)
        self._converter.rgb(frame, out)
        decode_ms = (time.perf_counter() - start) * 1e3
        bad = self._stream.bad
        self._wire.send(
            Captured(
                slot=slot,
                number=self._number,
                height=self._size[0],
                width=self._size[1],
                monotonic_s=monotonic_s,
                wall_s=wall_s,
                decode_ms=decode_ms,
                facts=self._meter.measure(out),
                dropped=self._dropped,
                skipped=self._skipped,
                bad=bad - self._bad,
            )
        )
        self._dropped = self._skipped = 0
        self._bad = bad

    def _listen(self) -> None:
        """Take what the supervisor said, without waiting.

        Raises:
            _Done: It wants no more.
            WireClosed: It is gone.
        """
        while True:
            try:
                message, _ = self._wire.receive()
            except BlockingIOError:
                return
            if isinstance(message, Stop):
                raise _Done
            if isinstance(message, Release):
                self._free.append(message.slot)


def _by(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


if __name__ == "__main__":
    main()
