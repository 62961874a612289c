"""A camera's answer over HTTP: logged in where it asks for it, and never waited for without end.

The connection is our own, so that redirects, logins and deadlines are.
"""

from __future__ import annotations

import contextlib
import http.client
import math
import socket
import ssl
import threading
import time
from typing import Final

from sspcab_edge.errors import SourceError
from sspcab_runtime.sources.http_auth import answer, is_stale, read_challenges
from sspcab_runtime.sources.streams import StreamOptions

__all__ = ["HttpAnswer"]

_CHUNK: Final = 65536
_TRIES: Final = 3
"""Requests until a login is given up: without one, with one, and with one for a nonce that is not stale."""
_TICK_S: Final = 0.1
_ACCEPT: Final = "multipart/x-mixed-replace, */*;q=0.1"


class HttpAnswer:
    """The body of what a camera answers to GET.

    Args:
        scheme: ``http`` or ``https`` (verified by the system's authorities).
        host: Also ``port`` (None: the scheme's own) and ``path`` with its query.
        display: The address for messages.
        options: See :class:`~sspcab_runtime.sources.streams.StreamOptions`.

    Attributes:
        type: The ``Content-Type``, empty where there is none.

    Raises:
        SourceError: There is no such camera, it refuses the login, or it answers anything but 200 (a redirect
            is not followed).
    """

    def __init__(
        self, scheme: str, host: str, port: int | None, path: str, display: str, options: StreamOptions
    ) -> None:
        self._name, self._options = display, options
        self._scheme, self._host, self._port, self._path = scheme, host, port, path
        self._deadline = _Deadline(time.monotonic() + options.open_s)
        try:
            self._log_in()
        except SourceError:
            self._deadline.close()
            raise
        self._deadline.until = math.inf
        self.type = self._answer.getheader("Content-Type", "").strip()

    def read(self, until: float) -> bytes:
        """The next bytes, as many as there are; none at the end.

        Args:
            until: Monotonic time after which it is given up.

        Raises:
            SourceError: The connection is lost, or gave nothing in time.
        """
        late = f"{self._name} gave no whole image within {self._options.read_s:g} s"
        if time.monotonic() > until:
            raise SourceError(late)
        self._deadline.until = until
        try:
            data = self._answer.read1(_CHUNK)
        except (OSError, ValueError, http.client.HTTPException) as error:
            why = late if self._late(error) else f"{self._name} was lost: {_words(error)}"
            raise SourceError(why) from None
        finally:
            self._deadline.until = math.inf
        if not data and self._deadline.passed:
            raise SourceError(late)
        return data

    def close(self) -> None:
        """Hang up."""
        self._deadline.close()
        self._hang_up()

    def _hang_up(self) -> None:
        self._answer.close()
        self._connection.close()
        self._socket.close()

    def _late(self, error: Exception) -> bool:
        return self._deadline.passed or isinstance(error, TimeoutError)

    def _log_in(self) -> None:
        """Ask, and again with a login where the camera wants one."""
        login: bytes | None = None
        for _ in range(_TRIES):
            self._ask(login)
            if self._answer.status != 401:
                break
            self._hang_up()
            challenges = read_challenges(self._answer.headers.get_all("WWW-Authenticate", []))
            if self._options.user is None:
                raise SourceError(f"{self._name} wants a user and a password (401)")
            if login is not None and not is_stale(challenges):
                raise SourceError(f"{self._name} refuses this user or this password (401)")
            try:
                login = answer(
                    challenges, "GET", self._path, self._options.user, self._options.password or ""
                )
            except SourceError as error:
                raise SourceError(f"{self._name} {error}") from None
        if self._answer.status != 200:
            self._hang_up()
            status = self._answer.status
            hint = ", and redirects are not followed" if 300 <= status < 400 else ""
            raise SourceError(f"{self._name} answers {status}, expected 200{hint}")

    def _ask(self, login: bytes | None) -> None:
        """Ask once."""
        left_s = max(0.01, self._deadline.until - time.monotonic())
        self._connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(
                self._host, self._port, timeout=left_s, context=ssl.create_default_context()
            )
            if self._scheme == "https"
            else http.client.HTTPConnection(self._host, self._port, timeout=left_s)
        )
        self._deadline.watch(self._connection)
        headers: dict[str, str | bytes] = {"Accept": _ACCEPT, "Connection": "close"}
        if login is not None:
            headers["Authorization"] = login
        try:
            self._connection.connect()
            self._socket: socket.socket = self._connection.sock
            self._deadline.watch(self._connection, self._socket)
            self._connection.request("GET", self._path, headers=headers)
            self._answer = self._connection.getresponse()
            if self._deadline.passed:  # headers that are cut off are headers to http.client
                raise TimeoutError
            self._socket.settimeout(self._options.read_s)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            why = "no answer in time" if self._late(error) else _words(error)
            raise SourceError(f"{self._name} cannot be opened: {why}") from None


class _Deadline:
    """Ends what waits for a connection, also where a byte comes now and then: no timeout of a socket does.

    Attributes:
        until: Monotonic time at which it does.
        passed: Whether it did.
    """

    def __init__(self, until: float) -> None:
        self.until, self.passed = until, False
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="http-deadline", daemon=True).start()

    def watch(self, connection: http.client.HTTPConnection, connected: socket.socket | None = None) -> None:
        """Take a connection, and its socket once there is one: the connection forgets it with its answer."""
        self._connection, self._socket = connection, connected

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(_TICK_S):
            if time.monotonic() < self.until:
                continue
            self.passed = True
            ending = self._socket or (self._connection.sock if self._connection is not None else None)
            if ending is not None:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(ending, socket.SHUT_RDWR)  # that of TLS would disturb its reader
            return


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
