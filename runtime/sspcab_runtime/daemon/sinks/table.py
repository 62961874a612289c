"""The table of sinks. A new one is a file, a table in ``config`` and a line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from sspcab_runtime.daemon.config import Config, JsonLinesConfig, MqttConfig, WebhookConfig
from sspcab_runtime.daemon.sinks.base import Sink
from sspcab_runtime.daemon.sinks.runner import SinkRunner
from sspcab_runtime.daemon.store import Store

__all__ = ["SINKS", "make_sinks", "open_sinks"]

SINKS: dict[type, tuple[str, str]] = {
    MqttConfig: ("mqtt", "sspcab_runtime.daemon.sinks.mqtt:MqttSink"),
    WebhookConfig: ("webhook", "sspcab_runtime.daemon.sinks.webhook:WebhookSink"),
    JsonLinesConfig: ("jsonl", "sspcab_runtime.daemon.sinks.json_lines:JsonLinesSink"),
}
"""Table of the configuration -> kind, and "module:class" made of (name, table, secrets, base, state)."""


def make_sinks(
    config: Config, secrets: Callable[[str], str], base: Path, state: Path
) -> dict[str, tuple[str, Sink]]:
    """Kind and sink of each that is configured; nothing is connected to.

    Raises:
        ConfigError: A secret or file cannot be read, or can never be used.
        MissingPackageError: What a sink needs is not installed.
    """
    made: dict[str, tuple[str, Sink]] = {}
    for name, table in config.sinks.items():
        kind, where = SINKS[type(table)]
        module, maker = where.split(":")
        sink: Sink = getattr(importlib.import_module(module), maker)(name, table, secrets, base, state)
        made[name] = kind, sink
    return made


def open_sinks(
    config: Config, secrets: Callable[[str], str], base: Path, state: Path, store: Store
) -> list[SinkRunner]:
    """All sinks of a configuration, not started yet.

    Raises:
        ConfigError: As :func:`make_sinks`.
        MissingPackageError: As there.
    """
    made = make_sinks(config, secrets, base, state)
    return [SinkRunner(name, kind, sink, store) for name, (kind, sink) in made.items()]
