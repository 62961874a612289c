"""The table of sinks. A new one is a file, a table in ``config`` and a line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from sspcab_runtime.daemon.config import Config, JsonLinesConfig, MqttConfig, WebhookConfig
from sspcab_runtime.daemon.sinks.base import Sink
from sspcab_runtime.daemon.sinks.runner import SinkRunner
from sspcab_runtime.daemon.store import Store

__all__ = ["SINKS", "open_sinks"]

SINKS: dict[type, tuple[str, str]] = {
    MqttConfig: ("mqtt", "sspcab_runtime.daemon.sinks.mqtt:MqttSink"),
    WebhookConfig: ("webhook", "sspcab_runtime.daemon.sinks.webhook:WebhookSink"),
    JsonLinesConfig: ("jsonl", "sspcab_runtime.daemon.sinks.json_lines:JsonLinesSink"),
}
"""Table of the configuration -> kind, and "module:class" made of (name, table, secrets, base, state)."""


def open_sinks(
    config: Config, secrets: Callable[[str], str], base: Path, state: Path, store: Store
) -> list[SinkRunner]:
    """All sinks of a configuration, not started yet.

    Raises:
        ConfigError: A secret or file cannot be read.
        MissingPackageError: What a sink needs is not installed.
    """
    runners = []
    for name, table in config.sinks.items():
        kind, where = SINKS[type(table)]
        module, made = where.split(":")
        sink: Sink = getattr(importlib.import_module(module), made)(name, table, secrets, base, state)
        runners.append(SinkRunner(name, kind, sink, store))
    return runners
