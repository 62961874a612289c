"""Events as HTTP POSTs, one after another."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from sspcab_edge.errors import ConfigError
from sspcab_runtime.daemon.config import WebhookConfig
from sspcab_runtime.daemon.events import Event, encode_event
from sspcab_runtime.daemon.sinks.base import Refused, SinkDown, SinkWrong
from sspcab_runtime.daemon.tls import tls_context

__all__ = ["WebhookSink"]

_FINAL = {400, 413, 422}
"""They speak of the event itself: it is set aside. Anything else speaks of the way to the receiver."""
_RETRY = {408, 425, 429}
_WHY = {
    401: "the token is not accepted",
    403: "the token may not do this",
    404: "there is nothing at that address",
    405: "nothing takes a POST at that address",
    410: "there is nothing at that address any more",
}
_MOST_ANSWER = 65536


class WebhookSink:
    """2xx acknowledges; 400, 413 and 422 set the event aside; with any other answer, and none, it stays owed.

    Redirects are not followed, and proxies of the environment not used.

    Raises:
        ConfigError: The token, or a file, cannot be read, or the token can never be sent.
    """

    window = 1

    def __init__(
        self, name: str, config: WebhookConfig, secrets: Callable[[str], str], base: Path, state: Path
    ) -> None:
        parts = urlsplit(config.url)
        self._host, self._port = parts.hostname or "", parts.port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout_s = config.timeout_s
        self._token = None if config.token is None else secrets(config.token)
        token = self._token
        if token is not None and not (token and token.isascii() and token.isprintable()):
            what = f"what {config.token} holds can never be sent: a token is one line of ASCII"
            raise ConfigError(f"sinks.{name}.token: {what}")
        self._tls = None
        if parts.scheme == "https":
            self._tls = tls_context(config.ca, base)
        self._connection: http.client.HTTPConnection | None = None

    def connect(self) -> None:
        """Nothing is opened before there is something to send."""

    def deliver(self, events: Sequence[tuple[int, Event]]) -> list[int]:
        """Send the first of them.

        Raises:
            SinkDown: No answer in time, or one that asks to try again.
            SinkWrong: An answer that says that the address or the token is not right.
            Refused: It will never be taken.
        """
        row, event = events[0]
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": f"{event.event_id}-{event.phase}",
            "User-Agent": "sspcab-daemon",
        }
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            connection = self._open()
            connection.request("POST", self._path, encode_event(event), headers)
            answer = connection.getresponse()
            answer.read(_MOST_ANSWER)
            if answer.will_close or not answer.isclosed():
                self.close()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            what = "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
            raise SinkDown(f"{self._host}: {getattr(error, 'strerror', None) or what}") from None
        if 200 <= answer.status < 300:
            return [row]
        said = f"{self._host} answers {answer.status}"
        if answer.status in _FINAL:
            raise Refused(said)
        if answer.status >= 500 or answer.status in _RETRY:
            raise SinkDown(said)
        why = _WHY.get(answer.status, "it takes no events there")
        if 300 <= answer.status < 400:
            why = "redirects are not followed: url has to be where it leads"
        raise SinkWrong(f"{said}: {why}")

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _open(self) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = (
                http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
                if self._tls is None
                else http.client.HTTPSConnection(
                    self._host, self._port, timeout=self._timeout_s, context=self._tls
                )
            )
        return self._connection
