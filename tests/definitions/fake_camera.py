"""A camera that does as it is told: MJPEG over HTTP on loopback, with the faults that real ones have."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["FakeCamera", "noisy_scene"]

Pixels = npt.NDArray[np.uint8]


def noisy_scene(height: int, width: int, seed: int = 3) -> Callable[[int], Pixels]:
    """Frames of a still scene with the noise of a sensor: (number) -> (H, W, 3) uint8 RGB."""
    rng = np.random.default_rng(seed)
    small = rng.integers(40, 200, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    scene = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float64)
    scene += rng.normal(0, 6, scene.shape)

    def frame(number: int) -> Pixels:
        noise = np.random.default_rng(number).normal(0, 3, scene.shape)
        return np.clip(scene + noise, 0, 255).astype(np.uint8)

    return frame


class FakeCamera:
    """Serves ``frame(number)`` at ``fps``.

    Attributes:
        mode: ``fine``; ``freeze``: the connection stays, nothing comes; ``same``: the same picture again;
            ``truncate``: JPEGs are cut off; ``silent``: accepts and never answers; ``redirect``: to
            ``elsewhere``; ``huge``: a header of 20,000 x 20,000 pixels; ``401``.
        frame: What it shows.
        sent: Whole, sound frames that were sent.
    """

    def __init__(self, frame: Callable[[int], Pixels], fps: float = 20.0, port: int = 0) -> None:
        self.frame, self.fps, self.mode, self.elsewhere = frame, fps, "fine", ""
        self.sent = self.cut = self.asked = 0
        self.authorization: str | None = None
        self._number = 0
        self._same: bytes | None = None
        self._stop = threading.Event()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                camera.asked += 1
                camera.authorization = self.headers.get("Authorization")
                camera._answer(self)

            def log_message(self, *arguments: object) -> None:
                del arguments

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def uri(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/video"

    def kill(self) -> None:
        """It is gone, and so are its connections."""
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, to: BaseHTTPRequestHandler) -> None:
        if self.mode == "silent":
            self._stop.wait(60)
            return
        if self.mode in ("redirect", "401"):
            to.send_response(302 if self.mode == "redirect" else 401)
            to.send_header("Location", self.elsewhere)
            to.end_headers()
            return
        to.send_response(200)
        to.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        to.end_headers()
        due = time.monotonic()
        while not self._stop.is_set():
            due += 1 / self.fps
            if self.mode != "freeze":
                jpeg = self._jpeg()
                try:
                    to.wfile.write(
                        b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n"
                        % (len(jpeg), jpeg)
                    )
                except OSError:
                    return
            self._stop.wait(max(0.0, due - time.monotonic()))
        to.connection.close()

    def _jpeg(self) -> bytes:
        if self.mode == "same" and self._same is not None:
            return self._same
        self._number += 1
        _, data = cv2.imencode(".jpg", self.frame(self._number)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        jpeg = data.tobytes()
        if self.mode == "truncate":
            self.cut += 1
            return jpeg[: len(jpeg) // 2]
        if self.mode == "huge":
            at = jpeg.index(b"\xff\xc0")
            return jpeg[: at + 5] + (20_000).to_bytes(2, "big") * 2 + jpeg[at + 9 :]
        self.sent += 1
        self._same = jpeg
        return jpeg
