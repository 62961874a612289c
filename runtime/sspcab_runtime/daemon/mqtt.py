"""One way to make an MQTT client: TLS, credentials, names; for the sink and for triggers."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sspcab_edge.errors import MissingPackageError
from sspcab_runtime.daemon.config import MqttConfig, MqttTriggerConfig
from sspcab_runtime.daemon.tls import tls_context

__all__ = ["make_client", "port_of"]


def port_of(config: MqttConfig | MqttTriggerConfig) -> int:
    """The port, or the one that is usual."""
    return config.port or (8883 if config.tls else 1883)


def make_client(
    config: MqttConfig | MqttTriggerConfig,
    name: str,
    secrets: Callable[[str], str],
    base: Path,
    state: Path,
) -> Any:
    """A client of paho-mqtt with a session that the broker keeps, not connected yet.

    Args:
        config: Where, who, and whether by TLS.
        name: Tells clients of one daemon apart.
        secrets: Resolves references.
        base: What ``ca`` is relative to.
        state: The state folder, which the client's name is made of unless it is given.

    Raises:
        MissingPackageError: paho-mqtt is not installed.
        ConfigError: A secret, or a file of authorities, cannot be read.
    """
    try:
        paho = importlib.import_module("paho.mqtt.client")
    except ModuleNotFoundError as error:
        raise MissingPackageError("paho-mqtt", "daemon", "the daemon") from error
    machine = Path("/etc/machine-id")
    seed = f"{machine.read_text() if machine.exists() else ''}{state}{name}"
    identity = config.client_id or f"sspcab-{hashlib.sha256(seed.encode()).hexdigest()[:16]}"
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2,
        client_id=identity,
        clean_session=False,
        reconnect_on_failure=False,
    )
    client.max_inflight_messages_set(20)
    client.max_queued_messages_set(20)
    if config.user is not None:
        client.username_pw_set(config.user, None if config.password is None else secrets(config.password))
    if config.tls:
        client.tls_set_context(tls_context(config.ca, base))
    return client
