"""Reading ``edge.toml``: every error names file, line and key, and what was expected."""

from __future__ import annotations

import codecs
import difflib
import importlib
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from sspcab_edge.errors import ConfigError, EdgeError
from sspcab_edge.local_path import local_path
from sspcab_edge.shown_address import may_hold_login
from sspcab_runtime.daemon.addresses import is_loopback, split_listen
from sspcab_runtime.daemon.config import Config, ModbusConfig, MqttConfig, MqttTriggerConfig, WebhookConfig
from sspcab_runtime.daemon.config_lines import find_line
from sspcab_runtime.login import check_user
from sspcab_runtime.sources.camera_address import HOST, camera_address

__all__ = ["error_at", "parse_config", "read_config"]

_MOST_BYTES = 2**20
_Path = Sequence[str | int]


def read_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: It cannot be read, is no TOML, or says something that cannot be.
    """
    return parse_config(_read(path), path)


def parse_config(data: bytes, path: Path) -> Config:
    """As :func:`read_config`, of bytes; ``path`` is for messages and for what is relative to it.

    Raises:
        ConfigError: As there.
    """
    text = _decoded(data, path)
    tables = _parse(text, path)
    try:
        config = msgspec.convert(tables, Config)
    except msgspec.ValidationError as error:
        where, what = _explain(str(error), tables)
        raise _error(path, text, where, what) from error
    _check(config, path, text)
    return config


def error_at(path: Path, where: Sequence[str | int], what: str) -> ConfigError:
    """What is wrong with a key of a configuration that was read, with file and line.

    Raises:
        ConfigError: The file cannot be read any more.
    """
    return _error(path, _decoded(_read(path), path), where, what)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{path} is larger than {_MOST_BYTES} bytes: it is no configuration")
    return data


def _decoded(data: bytes, path: Path) -> str:
    encoding = "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise ConfigError(f"{path}: byte {error.start} is not {name}") from error


def _parse(text: str, path: Path) -> dict[str, Any]:
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        tables: dict[str, Any] = toml.loads(text)
    except toml.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        where = f"{path}:{line.group(1)}" if line else str(path)
        raise ConfigError(f"{where}: {str(error).split(' (at')[0]}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: tables are nested too deeply") from error
    return tables


def _explain(message: str, tables: dict[str, Any]) -> tuple[list[str | int], str]:
    """Path and words of what msgspec says; ``[...]`` in its path is a key that has to be found."""
    what, _, place = message.partition(" - at `")
    keys = [
        key or int(index or 0)
        for key, index in re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", place.replace("$", ""))
    ]
    where: list[str | int] = []
    if "[...]" in place:
        parts = re.findall(r"\.([^.\[`]+)|\[(\.\.\.|\d+)\]", place)
        where = _guess(tables, [key or index for key, index in parts])
    else:
        where = list(keys)
    unknown = re.search(r"unknown field `([^`]+)`", what)
    if unknown:
        name = unknown.group(1)
        near = difflib.get_close_matches(name, _known_names(), 1)
        hint = f": did you mean {near[0]}?" if near else ""
        guessed = "[...]" in place or not where
        where = _with(tables, where, name) if guessed else [*where, name]
        return where, f"there is no such key{hint}"
    return where, what[0].lower() + what[1:]


def _guess(tables: Any, parts: Sequence[str]) -> list[str | int]:
    """The first path of that form whose tables really do not fit: each candidate is tried by itself."""
    for candidate in _candidates(tables, list(parts)):
        top, name = str(candidate[0]), str(candidate[1])
        alone = {
            "bundles": {"x": {"path": "x"}} if top != "bundles" else {name: tables[top][name]},
            "cameras": {} if top != "cameras" else {name: tables[top][name]},
            **({top: {name: tables[top][name]}} if top not in ("bundles", "cameras") else {}),
        }
        try:
            msgspec.convert(alone, Config)
        except msgspec.ValidationError:
            return candidate
    return [part for part in parts if part != "..."]


def _candidates(tables: Any, parts: list[str]) -> list[list[str | int]]:
    found: list[list[str | int]] = [[]]
    for part in parts:
        grown: list[list[str | int]] = []
        for path in found:
            at = _at(tables, path)
            if part == "...":
                keys: Sequence[str | int] = list(at) if isinstance(at, dict) else []
                grown += [[*path, key] for key in keys]
            else:
                grown.append([*path, int(part) if part.isdigit() else part])
        found = grown
    return [path for path in found if len(path) > 1]


def _with(tables: Any, where: list[str | int], name: str) -> list[str | int]:
    at = _at(tables, where)
    return [*where, name] if isinstance(at, dict) and name in at else where


def _at(tables: Any, path: _Path) -> Any:
    at = tables
    for part in path:
        try:
            at = at[part]
        except (KeyError, IndexError, TypeError):
            return None
    return at


def _known_names() -> list[str]:
    from sspcab_runtime.daemon import config as tables

    return sorted({name for kind in vars(tables).values() for name in getattr(kind, "__struct_fields__", ())})


def _error(path: Path, text: str, where: _Path, what: str) -> ConfigError:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")
    return ConfigError(f"{path}:{find_line(text, where)}: {f'{key}: ' if key else ''}{what}")


def _check(config: Config, path: Path, text: str) -> None:
    """What the types cannot say."""

    def check(where: _Path, test: Callable[[], object]) -> None:
        try:
            test()
        except EdgeError as error:
            raise _error(path, text, where, str(error)) from error

    def refuse(where: _Path, what: str) -> None:
        raise _error(path, text, where, what)

    if not config.cameras:
        refuse([], "there are no cameras: add a table [cameras.NAME]")
    files = path.parent / local_path(config.files or ".")
    for name, camera in config.cameras.items():
        at = ["cameras", name]
        check([*at, "source"], partial(camera_address, camera.source, files))
        if camera.bundle not in config.bundles:
            known = ", ".join(config.bundles) or "none"
            refuse([*at, "bundle"], f"there is no bundle {camera.bundle}: expected one of {known}")
        if camera.password is not None and camera.user is None:
            refuse([*at, "password"], "a password needs a user beside it")
        if camera.user is not None:
            check([*at, "user"], partial(check_user, camera.user))
        if camera.alarm.needed > camera.alarm.of:
            refuse(
                [*at, "alarm", "needed"], f"{camera.alarm.needed} of {camera.alarm.of} frames can never be"
            )
        names = [zone.name for zone in camera.alarm.zones]
        if len(set(names)) < len(names):
            refuse([*at, "alarm", "zones"], "two zones have the same name")
        if camera.mode == "triggered":
            channel = camera.trigger.channel
            table = {"http": "web", "mqtt": "mqtt_trigger", "modbus": "modbus"}[channel]
            if getattr(config, table) is None:
                refuse([*at, "trigger", "channel"], f"{channel} needs the table [{table}]")
            if channel == "modbus" and config.modbus is not None and name not in config.modbus.units:
                refuse(["modbus", "units"], f"the triggered camera {name} has no unit")
    for name, sink in config.sinks.items():
        if isinstance(sink, MqttConfig):
            _check_broker(sink, ["sinks", name], refuse)
        elif isinstance(sink, WebhookConfig):
            _check_webhook(sink, ["sinks", name], refuse)
    if config.mqtt_trigger is not None:
        _check_broker(config.mqtt_trigger, ["mqtt_trigger"], refuse)
    if config.modbus is not None:
        _check_modbus(config.modbus, config, check, refuse)
    if config.web is not None:
        web = config.web
        check(["web", "listen"], partial(split_listen, web.listen))
        if (web.certificate is None) != (web.key is None):
            refuse(["web"], "certificate and key go together")
        if not is_loopback(split_listen(web.listen)[0]) and web.certificate is None:
            refuse(["web", "listen"], f"{web.listen} is beyond this machine: give certificate and key (TLS)")


def _check_broker(
    broker: MqttConfig | MqttTriggerConfig, at: list[str | int], refuse: Callable[[_Path, str], None]
) -> None:
    if HOST.fullmatch(broker.host) is None:
        refuse(
            [*at, "host"],
            "expected a host alone: user, password and port have keys of their own",
        )
    if broker.password is not None and not broker.tls and not is_loopback(broker.host):
        refuse([*at, "password"], f"a password for {broker.host} would travel in the clear: set tls = true")
    if broker.password is not None and broker.user is None:
        refuse([*at, "password"], "a password needs a user beside it")
    if any(letter in broker.topic for letter in "+#\0") or broker.topic.startswith("/") or not broker.topic:
        refuse([*at, "topic"], "a topic has no +, #, does not begin with /, and is not empty")


def _check_modbus(
    modbus: ModbusConfig,
    config: Config,
    check: Callable[[_Path, Callable[[], object]], None],
    refuse: Callable[[_Path, str], None],
) -> None:
    for name in modbus.units:
        if name not in config.cameras or config.cameras[name].mode != "triggered":
            refuse(["modbus", "units", name], "there is no triggered camera of this name")
    if len(set(modbus.units.values())) < len(modbus.units):
        refuse(["modbus", "units"], "two cameras have the same unit")
    check(["modbus", "listen"], partial(split_listen, modbus.listen))
    if not is_loopback(split_listen(modbus.listen)[0]) and not modbus.trusted_network:
        refuse(
            ["modbus", "listen"],
            f"{modbus.listen} is beyond this machine, and Modbus has neither passwords nor encryption:"
            " set trusted_network = true if only the line's controllers reach it",
        )


def _check_webhook(sink: WebhookConfig, at: list[str | int], refuse: Callable[[_Path, str], None]) -> None:
    try:
        parts = urlsplit(sink.url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if (
        not host
        or parts.scheme not in ("http", "https")
        or may_hold_login(sink.url)
        or re.search(r"[\s\x00-\x1f]", sink.url)
    ):
        refuse([*at, "url"], "expected http(s)://HOST[:PORT]/PATH without user or password")
        return
    if not sink.url.isascii():
        letter = next(letter for letter in sink.url if not letter.isascii())
        refuse([*at, "url"], f"{letter!r} can never be sent: write it as %.. in a path, as xn--... in a host")
    if sink.ca is not None and parts.scheme == "http":
        refuse([*at, "ca"], "authorities are for https")
    if sink.token is not None and parts.scheme == "http" and not is_loopback(host):
        refuse([*at, "token"], f"a token for {host} would travel in the clear: use https")
