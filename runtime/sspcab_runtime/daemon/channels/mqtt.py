"""Triggers over MQTT: ``TOPIC/CAMERA/trigger`` in, ``TOPIC/CAMERA/decision`` out, both at QoS 1."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from sspcab_runtime.daemon.config import MqttTriggerConfig
from sspcab_runtime.daemon.kept_thread import KeptThread
from sspcab_runtime.daemon.mqtt import make_client, port_of
from sspcab_runtime.daemon.parts import PartDecision, Trigger
from sspcab_runtime.daemon.status import Observed
from sspcab_runtime.daemon.waits import Waits

__all__ = ["MqttTriggers"]

_LOG = logging.getLogger(__name__)

_STEPS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_MOST_PART, _MOST_BYTES, _LONGEST_S = 128, 4096, 60.0


class _Payload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a trigger says: the name of the part and, if it likes, its deadline from now on."""

    part: str
    deadline_ms: float | None = None


class MqttTriggers:
    """Listens, and answers each trigger once.

    A trigger that the broker delivers twice gets the same answer twice. What cannot be read is answered by
    ``{"schema": 1, "error": ...}``.

    Args:
        config: The broker.
        secrets: Resolves references.
        base: Folder that ``ca`` is relative to.
        state: The state folder.
        observed: The daemon.
        deadlines: Default seconds for a part, by triggered camera.

    Raises:
        MissingPackageError: paho-mqtt is not installed.
        ConfigError: A secret cannot be read.
    """

    def __init__(
        self,
        config: MqttTriggerConfig,
        secrets: Callable[[str], str],
        base: Path,
        state: Path,
        observed: Observed,
        deadlines: Mapping[str, float],
    ) -> None:
        self._config, self._observed, self._deadlines = config, observed, deadlines
        self._client = make_client(config, "triggers", secrets, base, state)
        self._client.max_queued_messages_set(1000)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe
        self._down = ""
        self.thread = KeptThread("mqtt triggers", self._run)

    def start(self) -> None:
        """Begin to listen."""
        self.thread.say("not connected yet")
        self.thread.start()

    def stop(self, seconds: float) -> None:
        """Hang up."""
        self.thread.ending.set()
        self._client.disconnect()
        self.thread.join(seconds)

    def _run(self) -> None:
        waits = Waits(_STEPS_S, random.Random())
        where = f"{self._config.host}:{port_of(self._config)}"
        while not self.thread.ending.is_set():
            begin = time.monotonic()
            try:
                self._client.connect(self._config.host, port_of(self._config), 20)
                self._client.loop_forever(retry_first_connection=False)
            except (OSError, ValueError) as error:
                self._trouble(f"{where}: {getattr(error, 'strerror', None) or error}")
            if not self._down:
                self._trouble(f"{where}: the connection was lost")
            if time.monotonic() - begin > 10:
                waits.reset()
            self.thread.ending.wait(waits.next())

    def _on_connect(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._trouble(f"{self._config.host}: the broker refuses: {reason}")
            return
        self._trouble("")
        for camera in self._deadlines:
            client.subscribe(f"{self._config.topic}/{camera}/trigger", qos=1)

    def _on_subscribe(self, client: Any, data: Any, mid: int, reasons: Any, properties: Any) -> None:
        refused = [reason for reason in reasons if reason.is_failure]
        if refused:
            self._trouble(f"{self._config.host}: the broker lets no triggers through: {refused[0]}")

    def _trouble(self, what: str) -> None:
        """What keeps triggers from arriving, for status; empty: nothing."""
        if what and what != self._down:
            _LOG.warning("triggers: %s", what)
        self._down = what
        self.thread.say(what)

    def _on_message(self, client: Any, data: Any, message: Any) -> None:
        received_s = time.monotonic()
        camera = message.topic.split("/")[-2]
        if camera not in self._deadlines:
            return
        try:
            asked = msgspec.json.decode(bytes(message.payload[:_MOST_BYTES]), type=_Payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._error(camera, f'expected {{"part": "..."}}: {error}')
            return
        within_s = self._deadlines[camera] if asked.deadline_ms is None else asked.deadline_ms / 1e3
        if (
            not (asked.part.isprintable() and 0 < len(asked.part) <= _MOST_PART)
            or not 0 < within_s <= _LONGEST_S
        ):
            self._error(camera, "a part has a name of 1 to 128 printable characters, and at most 60000 ms")
            return
        self._observed.trigger(
            Trigger(camera=camera, part=asked.part, received_s=received_s, deadline_s=received_s + within_s),
            self._answer,
        )

    def _answer(self, decision: PartDecision) -> None:
        self._publish(decision.camera, {"schema": 1, **msgspec.to_builtins(decision)})

    def _error(self, camera: str, message: str) -> None:
        self._publish(camera, {"schema": 1, "error": message})

    def _publish(self, camera: str, value: dict[str, Any]) -> None:
        self._client.publish(f"{self._config.topic}/{camera}/decision", msgspec.json.encode(value), qos=1)
