"""An RTSP camera that wants a login and is pleased by none: what it was told is what matters (RFC 2326)."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Sequence

__all__ = ["AskingRtsp"]


class AskingRtsp:
    """Answers everything but OPTIONS with 401.

    Args:
        challenges: Its ``WWW-Authenticate`` headers.

    Attributes:
        told: The requests, with their headers.
    """

    def __init__(self, challenges: Sequence[str]) -> None:
        self.told: list[str] = []
        self._challenges = "".join(f"WWW-Authenticate: {one}\r\n" for one in challenges)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.uri = f"rtsp://127.0.0.1:{self._socket.getsockname()[1]}/live"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """It is gone."""
        self._socket.close()

    def logins(self) -> list[str]:
        """The ``Authorization`` of each request, empty without one."""
        found = (re.search(r"^Authorization: (.*?)\r?$", told, re.MULTILINE) for told in self.told)
        return [one[1] if one is not None else "" for one in found]

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        heard = b""
        while data := connection.recv(65536):
            heard += data
            while b"\r\n\r\n" in heard:
                request, _, heard = heard.partition(b"\r\n\r\n")
                told = request.decode("latin-1")
                self.told.append(told)
                number = re.search(r"CSeq: *(\d+)", told)
                fine = told.startswith("OPTIONS")
                head = (
                    f"RTSP/1.0 {'200 OK' if fine else '401 Unauthorized'}\r\nCSeq: {number and number[1]}\r\n"
                )
                connection.sendall(f"{head}{'' if fine else self._challenges}\r\n".encode())
