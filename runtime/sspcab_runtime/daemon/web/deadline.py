"""What uvicorn lacks: a request has to arrive, and its answer to be taken, within absolute deadlines."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["MOST_CONNECTIONS", "DeadlineProtocol"]

MOST_CONNECTIONS = 32
_ARRIVE_S = 5.0
_TAKE_S = 10.0
_MOST_HEAD = 8192


class DeadlineProtocol(H11Protocol):
    """HTTP/1.1 by h11, with clocks that no byte can wind up again.

    A connection that is idle, or whose request is not whole after five seconds, is closed; so is one that
    does not take its answer within ten. Of more than thirty-two connections the newest is closed at once.
    """

    _clock: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        super().connection_made(transport)
        self.conn._max_incomplete_event_size = _MOST_HEAD  # h11 takes it only when it is made
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self._wind(_ARRIVE_S)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, which do not move its deadline."""
        super().data_received(data)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            self._wind(_TAKE_S)

    def on_response_complete(self) -> None:
        """An answer was given; the next request may take as long as the first."""
        super().on_response_complete()
        self._wind(_ARRIVE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stop()
        super().connection_lost(exc)

    def _wind(self, seconds: float) -> None:
        self._stop()
        self._clock = self.loop.call_later(seconds, self._over)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
        self._clock = None

    def _over(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()
