"""Messages between processes: one datagram each on a socket pair, with file descriptors where needed."""

from __future__ import annotations

import socket
from typing import Generic, TypeVar

import msgspec

__all__ = ["MAX_MESSAGE", "Wire", "WireClosed", "pair"]

MAX_MESSAGE = 128 * 1024
"""Bytes of the largest message."""

_MAX_FDS = 4
_In = TypeVar("_In")


class WireClosed(Exception):
    """The other side is gone, or does not keep to the form."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends that keep messages apart and in order; the second can be inherited by a child."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Wire(Generic[_In]):
    """One end.

    Args:
        end: The socket, owned from now on.
        incoming: Type (a union of structs) of what the other side may say.
    """

    def __init__(self, end: socket.socket, incoming: type[_In]) -> None:
        self._socket = end
        self._decoder: msgspec.msgpack.Decoder[_In] = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def send(self, message: msgspec.Struct, fds: tuple[int, ...] = ()) -> None:
        """Send one message, waiting for room unless the socket does not block.

        Raises:
            WireClosed: The other side is gone, or reads so slowly that there is no room (not blocking).
            ValueError: The message is too large.
        """
        data = self._encoder.encode(message)
        if len(data) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(data)} bytes, expected at most {MAX_MESSAGE}")
        try:
            if fds:
                socket.send_fds(self._socket, [data], list(fds))
            else:
                self._socket.send(data)
        except OSError as error:
            raise WireClosed(f"cannot send: {error.strerror}") from error

    def receive(self) -> tuple[_In, tuple[int, ...]]:
        """The next message and the descriptors that came with it, which are the caller's to close.

        Raises:
            WireClosed: The other side is gone, or sent something else.
            BlockingIOError: There is none (where the socket does not block).
            TimeoutError: There was none in time (where the socket has a timeout).
        """
        try:
            data, fds, flags, _ = socket.recv_fds(self._socket, MAX_MESSAGE, _MAX_FDS)
        except (BlockingIOError, TimeoutError):
            raise
        except OSError as error:
            raise WireClosed(f"cannot receive: {error.strerror}") from error
        if not data or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise WireClosed("the other side closed" if not data else "a message was cut off")
        try:
            return self._decoder.decode(data), tuple(fds)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WireClosed(f"not a message: {error}") from error

    def settimeout(self, seconds: float | None) -> None:
        """None waits for ever, 0 never waits."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        """Close this end; closing twice is fine."""
        self._socket.close()
