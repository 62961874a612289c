"""Frames of a compressed stream, and which of them are whole.

Most frames are differences to others. So what was lost on the way damages the frame that it belonged to and
every frame after it, until one begins anew; but the decoder, which patches what is missing, tells of the
first alone. Here frames are followed by their order of decoding, and none is given that builds on a damaged
one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from sspcab_runtime.sources.access_units import FrameCounter, is_unused
from sspcab_runtime.sources.transport_stream import CLOCK, Unit

__all__ = ["MOST_HELD", "decode_frames"]

_REPORTING: Final = frozenset({"h264", "mpeg1video", "mpeg2video", "mpeg4", "h263"})
"""Their decoders say so where a part of a frame was missing."""

_STRICT: Final = frozenset({"hevc"})
"""Their decoders give no frame that is made from one that is missing."""

_LATE: Final = frozenset({"mpegts", "mpeg"})
"""Frames are put together from packets here: one is given when the next begins, and what the demuxer says of
a packet stands with the frame before it."""

_INTRA: Final = 1  # AVPictureType
_KEPT_GROUPS: Final = 4
MOST_HELD: Final = 16
"""Frames that H.264 and H.265 may keep to be shown later."""
_MOST_MISSING: Final = 64


@dataclass(slots=True)
class _Packet:
    """What is known of one compressed frame.

    Attributes:
        number: In the order of decoding.
        pts: When it is shown, in the stream's time base.
        unused: No other frame is made from it.
        key: The container calls it a key frame.
    """

    number: int
    pts: int | None
    unused: bool
    key: bool = False


@dataclass(slots=True)
class _Group:
    """Frames from one key frame on, in the order of decoding.

    Attributes:
        start: Number of the key frame.
        pts: When it is shown; frames of the group that are shown before it build on the group before, too.
        fresh: The key frame builds on no other; else it is the first of several that refresh the picture.
        damaged: Number of the first frame that others build on and that is damaged.
    """

    start: int
    pts: int | None
    fresh: bool
    damaged: int | None = None


@dataclass(slots=True)
class _History:
    """Where damage is."""

    groups: deque[_Group] = field(default_factory=lambda: deque(maxlen=_KEPT_GROUPS))
    early: list[int] = field(default_factory=list)

    def begin(self, group: _Group) -> None:
        """A key frame was decoded."""
        self.groups.append(group)
        for number in self.early:
            self.damage(number)
        self.early = [number for number in self.early if number > group.start]

    def damage(self, number: int) -> None:
        """A frame that others build on is damaged."""
        for group in reversed(self.groups):
            if group.start <= number:
                group.damaged = number if group.damaged is None else min(group.damaged, number)
                break
        if not self.groups or number > self.groups[-1].start:
            self.early.append(number)  # a key frame between the two may not have been given yet
            del self.early[:-64]

    @property
    def damaged(self) -> bool:
        """Whether the latest frames are."""
        return bool(self.groups) and (self.groups[-1].damaged is not None or bool(self.early))

    def reaches(self, number: int, pts: int | None) -> bool:
        """Whether damage of earlier frames reaches this one."""
        groups = [group for group in self.groups if group.start <= number]
        if not groups:
            return True
        own = groups[-1]
        if own.damaged is not None and own.damaged < number:
            return True
        leading = own.pts is not None and pts is not None and pts < own.pts
        if own.fresh and not leading:
            return False
        return len(groups) > 1 and groups[-2].damaged is not None


def decode_frames(
    av: Any,
    container: Any,
    stream: Any,
    units: Iterable[Unit] = (),
    *,
    until_damage: bool = False,
    held: int = MOST_HELD,
) -> Iterator[Any | None]:
    """Every frame of a stream, in the order of showing: whole, or None for one that is damaged.

    Args:
        av: The PyAV module.
        container: Opened for reading.
        stream: The video stream in it.
        units: Where the file tells what is missing.
        until_damage: End with the first None.
        held: Most frames that wait until all that they build on was shown. Those of a camera do not wait.

    Raises:
        FFmpegError: The container cannot be read any further.
    """
    for frame in _Decoding(av, container, stream, units, until_damage, held).frames():
        yield frame
        if frame is None and until_damage:
            return


class _Decoding:
    def __init__(
        self, av: Any, container: Any, stream: Any, units: Iterable[Unit], until_damage: bool, held: int
    ) -> None:
        self._av, self._container, self._stream = av, container, stream
        self._context = stream.codec_context
        # threads that let go of what a packet carries want Python's lock, and closing waits for them with it
        self._context.copy_opaque = not until_damage
        self._codec = str(self._context.name)
        self._until_damage, self._most_held = until_damage, held
        self._late = not until_damage and bool(set(str(container.format.name).split(",")) & _LATE)
        self._history = _History()
        self._packets: dict[int, _Packet] = {}
        self._by_pts: dict[int | None, _Packet] = {}
        self._held: deque[tuple[Any, _Packet]] = deque()
        self._suspected: set[int] = set()
        self._number = 0
        self._keys_told = False
        self._units, self._next_units = iter(units), deque[Unit]()
        self._counter = FrameCounter()
        self._told = bool(self._look_ahead(1))

    def frames(self) -> Iterator[Any | None]:
        """See :func:`decode_frames`."""
        for packet in self._container.demux(self._stream):
            if packet.is_corrupt and self._until_damage:
                yield None
            if packet.size:
                yield from self._push(packet)
        self._drain()
        yield from self._release(ended=True)
        yield from self._lost(self._number)

    def _push(self, packet: Any) -> Iterator[Any | None]:
        number = self._number
        self._number += 1
        data = bytes(packet) if self._late else b""
        one = self._packets[number] = _Packet(
            number, packet.pts, is_unused(self._codec, data), packet.is_keyframe
        )
        if packet.is_keyframe and self._history.damaged:
            self._drain()
            self._renew()
        follows = self._codec in _STRICT or (self._codec == "h264" and self._counter.follows(data))
        if self._told:
            if self._look_up(one, packet.pts, follows) and self._until_damage:
                yield None
        elif packet.is_corrupt:
            self._suspect(number)
        if self._until_damage:
            self._by_pts[packet.pts] = one
        else:
            packet.opaque = one
        try:
            frames = self._context.decode(packet)
        except self._av.error.InvalidDataError:
            frames = []
            del self._packets[number]
            if not one.unused:
                self._history.damage(number)
            yield from self._release()
            yield None
        for frame in frames:
            self._hold(frame)
        yield from self._release()

    def _drain(self) -> None:
        """Take what the decoder still has."""
        try:
            frames = self._context.decode(None)
        except self._av.error.InvalidDataError:  # what it lacked for them counts as lost
            frames = []
        for frame in frames:
            self._hold(frame)

    def _renew(self) -> None:
        """Decode with a decoder that has seen no damage: some of it outlives what it forgets by itself."""
        if not self._late:
            self._context.flush_buffers()
            return
        old = self._context
        self._context = self._av.CodecContext.create(old.codec.name, "r")
        self._context.extradata = old.extradata
        self._context.options = old.options
        self._context.thread_count = old.thread_count
        self._context.copy_opaque = True

    def _look_ahead(self, units: int) -> deque[Unit]:
        """So many units that come next, or all there are."""
        while len(self._next_units) < units and (unit := next(self._units, None)) is not None:
            self._next_units.append(unit)
        return self._next_units

    def _look_up(self, one: _Packet, pts: int | None, follows: bool) -> bool:
        """What is missing of a packet, and between it and the one before; whether anything is."""
        if pts is None:  # the packet that would say when it is shown may be missing
            following = self._look_ahead(1)
            holed, lost = not following or following[0].after_loss, False
        elif all(unit.pts != pts % CLOCK for unit in self._look_ahead(_MOST_MISSING)):
            return False
        else:
            skipped = []
            while (unit := self._next_units.popleft()).pts != pts % CLOCK:
                skipped.append(unit)
            lost = unit.after_loss or any(before.holed or before.after_loss for before in skipped)
            holed = unit.holed
        if lost and not follows:
            self._history.damage(one.number - 1)
        if holed:
            self._suspected.add(one.number)
            if not one.unused:
                self._history.damage(one.number)
        return holed or lost

    def _suspect(self, number: int) -> None:
        """The container lost something at a packet."""
        if not self._late:
            self._suspected.add(number)
            self._history.damage(number)
            return
        if self._codec not in _REPORTING:
            self._suspected.add(number + 1)
        self._history.damage(number + 1)

    def _hold(self, frame: Any) -> None:
        if frame.time_base is None:  # of one that came out at the end
            frame.time_base = self._stream.time_base
        one = self._by_pts.pop(frame.pts, None) if self._until_damage else frame.opaque
        if one is None:
            one = _Packet(self._number - 1, frame.pts, False)
        self._packets.pop(one.number, None)
        self._keys_told |= frame.key_frame  # some decoders, as QuickTime Animation's, never do
        if frame.key_frame:
            self._history.begin(_Group(one.number, frame.pts, int(frame.pict_type) == _INTRA))
        elif one.key and not self._keys_told:
            self._history.begin(_Group(one.number, frame.pts, True))
        if frame.is_corrupt and not one.unused:
            self._history.damage(one.number)
        self._held.append((frame, one))

    def _release(self, ended: bool = False) -> Iterator[Any | None]:
        """Give frames that build on none which is still to come."""
        while self._held:
            frame, one = self._held[0]
            waits = any(number < one.number for number in self._packets)
            if waits and len(self._held) <= self._most_held and not ended:
                return
            self._held.popleft()
            yield from self._lost(one.number)
            damaged = frame.is_corrupt or one.number in self._suspected
            self._suspected.discard(one.number)
            yield None if damaged or self._history.reaches(one.number, frame.pts) else frame

    def _lost(self, before: int) -> Iterator[None]:
        """Frames that the decoder never gave, where there is damage; elsewhere a packet may hold none."""
        for number in [number for number in self._packets if number < before]:
            one = self._packets.pop(number)
            self._by_pts.pop(one.pts, None)
            expected = self._codec in _STRICT or self._history.reaches(number, one.pts)
            if expected and not self._until_damage:
                yield None
