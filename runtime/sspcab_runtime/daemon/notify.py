"""Telling systemd: ready, alive, what is going on. Nothing happens where nobody listens."""

from __future__ import annotations

import logging
import os
import socket

__all__ = ["Notifier"]

_LOG = logging.getLogger(__name__)


class Notifier:
    """Datagrams to ``$NOTIFY_SOCKET``, as sd_notify(3) sends them.

    Attributes:
        watchdog_s: How often ``alive`` has to be called at least: half of what systemd allows; None: never.
    """

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            self._address = "\0" + address[1:] if address.startswith("@") else address
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period = os.environ.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(period) / 2e6 if mine and period.isdigit() and int(period) else None

    def ready(self, status: str) -> None:
        """Frames can be judged."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """For ``systemctl status``."""
        self._send(f"STATUS={_line(status)}")

    def alive(self) -> None:
        """Progress was made."""
        self._send("WATCHDOG=1")

    def extend(self, seconds: float) -> None:
        """Starting, or ending, takes so much longer."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError as error:
            _LOG.debug("systemd was not told %s: %s", text.split("=")[0], error.strerror)


def _line(text: str) -> str:
    return text.replace("\n", " ")[:200]
