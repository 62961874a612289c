"""MPEG transport streams as a network leaves them: packets of 188 bytes, some of them lost."""

from __future__ import annotations

import io
import random
from collections.abc import Mapping, Sequence
from typing import Any

import av
import numpy as np
import numpy.typing as npt

__all__ = ["PACKET", "VIDEO", "decoded", "lose", "transport_stream"]

PACKET, VIDEO = 188, 256
Pixels = npt.NDArray[np.uint8]


def transport_stream(
    frames: Sequence[Pixels], options: Mapping[str, str], codec: str = "libx264", rate: int = 25
) -> bytes:
    """Frames (H, W, 3) RGB, encoded."""
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = dict(options)
        stream.codec_context.gop_size = int(options.get("g", 25))
        stream.codec_context.max_b_frames = int(options.get("bf", 3))
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def lose(data: bytes, share: float, seed: int, spared: int = 60) -> bytes:
    """Without that share of the packets of video, but for so many of the first ones."""
    rng = random.Random(seed)
    kept = []
    for place in range(0, len(data), PACKET):
        packet = data[place : place + PACKET]
        video = (packet[1] & 0x1F) << 8 | packet[2] == VIDEO
        if not (video and place >= spared * PACKET and rng.random() < share):
            kept.append(packet)
    return b"".join(kept)


def decoded(data: bytes) -> tuple[dict[int, Pixels], int]:
    """Brightness of every frame that FFmpeg gives, by its time; and how many it gives or gives up on."""
    shown: dict[int, Pixels] = {}
    seen = 0
    with av.open(io.BytesIO(data), "r") as container:
        stream: Any = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            try:
                for frame in packet.decode():
                    shown[frame.pts] = frame.to_ndarray(format="gray")
                    seen += 1
            except av.error.InvalidDataError:
                seen += 1
    return shown, seen
