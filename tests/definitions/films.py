"""Short films in which bright squares walk over a still, textured scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

HEIGHT, WIDTH, SIDE = 96, 128, 18
Pixels = npt.NDArray[np.uint8]


def walk(
    frames: int,
    *,
    walkers: int = 2,
    speed: int = 3,
    seed: int = 0,
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> list[Pixels]:
    """Frames (H, W, 3) RGB; every walker keeps to a row of its own and comes back at the edges."""
    height, width = size
    rng = np.random.default_rng(seed)
    still = cv2.GaussianBlur(rng.integers(20, 120, (height, width, 3), dtype=np.uint8), (0, 0), 2)
    patches = [
        cv2.GaussianBlur(rng.integers(150, 256, (SIDE, SIDE, 3), dtype=np.uint8), (0, 0), 1)
        for _ in range(walkers)
    ]
    rows = np.linspace(4, height - SIDE - 4, max(1, walkers)).astype(int)
    starts = rng.integers(0, width - SIDE, walkers)
    film = []
    for number in range(frames):
        picture = still.copy()
        for patch, top, start in zip(patches, rows, starts, strict=False):
            way = 2 * (width - SIDE)
            left = abs((int(start) + number * speed) % way - (width - SIDE))
            picture[top : top + SIDE, left : left + SIDE] = patch
        noisy = picture + rng.normal(0, 1.5, picture.shape)
        film.append(np.asarray(np.clip(np.rint(noisy), 0, 255), np.uint8))
    return film


def write_film(path: Path, frames: Sequence[Pixels], rate: int = 25) -> Path:
    """H.264, as good as lossless."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "8", "preset": "veryfast"}
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def interlaced_film(path: Path) -> Path:
    """Four frames of MPEG-2 that say that they are two fields each."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg2video", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.flags |= 0x00040000 | 0x20000000  # interlaced coding and motion
        for pixels in walk(4):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
