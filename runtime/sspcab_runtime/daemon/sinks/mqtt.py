"""Events over MQTT at QoS 1. The client is a transport only: what is kept is kept by the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sspcab_runtime.daemon.config import MqttConfig
from sspcab_runtime.daemon.events import Event, encode_event
from sspcab_runtime.daemon.mqtt import make_client, port_of
from sspcab_runtime.daemon.sinks.base import SinkDown, SinkWrong

__all__ = ["MqttSink"]

_CONNECT_S = 10.0
_ACKNOWLEDGE_S = 30.0
_BUSY = {136, 137}
"""Reason codes of MQTT 5 (paho translates those of 3.1.1): the server is unavailable, or busy."""


class MqttSink:
    """``TOPIC/CAMERA/KIND`` for each event, ``TOPIC/status`` (retained) for whether this daemon is there.

    A batch is sent, and what the broker acknowledged of it, from the first on without a gap, is delivered. So
    an outage repeats one batch at most.
    """

    window = 20

    def __init__(
        self, name: str, config: MqttConfig, secrets: Callable[[str], str], base: Path, state: Path
    ) -> None:
        self._config = config
        self._make: Callable[[], Any] = lambda: make_client(config, name, secrets, base, state)
        self._client = self._make()
        self._changed = threading.Condition()
        self._answer: str | None = None
        self._up = self._refused = False
        self._acknowledged: set[int] = set()

    def connect(self) -> None:
        """Connect, unless it is.

        Raises:
            SinkDown: The broker is not there, or busy.
            SinkWrong: It refuses who we are.
        """
        if self._up:
            return
        self._answer, self._refused = None, False
        client = self._client = self._make()  # an old one would send again what the store sends again
        client.will_set(f"{self._config.topic}/status", b'{"online":false}', qos=1, retain=True)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish = self._on_publish
        where = f"{self._config.host}:{port_of(self._config)}"
        try:
            self._client.connect(self._config.host, port_of(self._config), self._config.keep_alive_s)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise SinkDown(f"{where}: {reason}") from None
        self._client.loop_start()
        with self._changed:
            self._changed.wait_for(lambda: self._up or self._answer is not None, _CONNECT_S)
        if not self._up:
            self._hang_up()
            said = f"{where}: {self._answer or 'no answer in time'}"
            raise SinkWrong(said) if self._refused else SinkDown(said)
        self._client.publish(f"{self._config.topic}/status", b'{"online":true}', qos=1, retain=True)

    def deliver(self, events: Sequence[tuple[int, Event]]) -> list[int]:
        """Publish all of them and wait for the broker; the rows that it has.

        Raises:
            SinkDown: The connection was lost, or the broker does not answer.
        """
        with self._changed:
            self._acknowledged.clear()
        sent: list[tuple[int, int]] = []
        for row, event in events:
            topic = f"{self._config.topic}/{event.camera}/{event.kind}"
            info = self._client.publish(topic, encode_event(event), qos=1)
            if info.rc != 0:
                break
            sent.append((row, info.mid))
        until = time.monotonic() + _ACKNOWLEDGE_S
        wanted = {mid for _, mid in sent}
        with self._changed:
            self._changed.wait_for(
                lambda: wanted <= self._acknowledged or not self._up, until - time.monotonic()
            )
            rows = []
            for row, mid in sent:
                if mid not in self._acknowledged:
                    break
                rows.append(row)
        if not rows:
            self._hang_up()
            raise SinkDown(f"{self._config.host}: an event was not acknowledged")
        if len(rows) < len(events):
            self._hang_up()  # what is still on its way is sent again, in order
        return rows

    def close(self) -> None:
        """Say goodbye and hang up."""
        if self._up:
            info = self._client.publish(
                f"{self._config.topic}/status", b'{"online":false}', qos=1, retain=True
            )
            if info.rc == 0:
                with self._changed:
                    self._changed.wait_for(lambda: info.mid in self._acknowledged or not self._up, 0.5)
        self._hang_up()

    def _hang_up(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._up = False

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._changed:
            if reason.is_failure:
                self._answer = f"the broker refuses: {reason}"
                self._refused = reason.value not in _BUSY
            else:
                self._up = True
            self._changed.notify_all()

    def _on_disconnect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if client is not self._client:
            return
        with self._changed:
            self._up = False
            self._answer = self._answer or f"the connection was lost: {reason}"
            self._changed.notify_all()

    def _on_publish(self, client: Any, data: Any, mid: int, reason: Any, properties: Any) -> None:
        with self._changed:
            self._acknowledged.add(mid)
            self._changed.notify_all()
