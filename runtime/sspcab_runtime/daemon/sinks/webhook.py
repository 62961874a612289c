"""Events as HTTP POSTs, one after another."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from sspcab_runtime.daemon.config import WebhookConfig
from sspcab_runtime.daemon.events import Event, encode_event
from sspcab_runtime.daemon.sinks.base import Refused, SinkDown

__all__ = ["WebhookSink"]

_RETRY = {408, 425, 429}
_MOST_ANSWER = 65536


class WebhookSink:
    """2xx acknowledges; 5xx, 408, 425, 429 and no answer are tried again; anything else is refused.

    Redirects are not followed, and proxies of the environment not used.
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
        self._tls = None
        if parts.scheme == "https":
            self._tls = ssl.create_default_context(
                cafile=None if config.ca is None else str(base / config.ca)
            )
        self._connection: http.client.HTTPConnection | None = None

    def connect(self) -> None:
        """Nothing is opened before there is something to send."""

    def deliver(self, events: Sequence[tuple[int, Event]]) -> list[int]:
        """Send the first of them.

        Raises:
            SinkDown: No answer in time, or one that asks to try again.
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
        if answer.status >= 500 or answer.status in _RETRY:
            raise SinkDown(f"{self._host} answers {answer.status}")
        raise Refused(f"{self._host} answers {answer.status}")

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
