"""``sspcab-daemon redeliver``: what sinks refused is sent again."""

from __future__ import annotations

import json
from concurrent.futures import TimeoutError as LateError
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from sqlite3 import Error as DatabaseError

import click
import msgspec

from sspcab_edge.command import LocalPath, common_options, json_option
from sspcab_edge.errors import ConfigError, OptionError, OutputError
from sspcab_edge.local_path import local_path
from sspcab_runtime.daemon.asking import NoDaemon, ask_daemon
from sspcab_runtime.daemon.config import Config
from sspcab_runtime.daemon.config_file import read_config
from sspcab_runtime.daemon.store import Store

__all__ = ["redeliver"]

_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Wanted:
    sink: str | None
    since_s: float | None
    until_s: float | None


@click.command("redeliver")
@click.option("--config", "path", type=LocalPath(dir_okay=False), required=True)
@click.option("--sink", help="The sink that refused; by default any.")
@click.option("--since", help="Events of this time and later, as 2026-02-28T13:00 (local, or with its zone).")
@click.option("--until", help="Events before this time.")
@json_option
@common_options
def redeliver(path: Path, sink: str | None, since: str | None, until: str | None, as_json: bool) -> None:
    """Send again what a sink refused: events that it answered with 400, 413 or 422.

    The running daemon does it at once; where none runs, the events go out after its next start. Events whose
    room was needed meanwhile are gone.
    """
    config = read_config(path)
    if sink is not None and sink not in config.sinks:
        known = ", ".join(config.sinks) or "none"
        raise OptionError(f"--sink {sink}: there is no such sink, expected one of {known}")
    events = _again(config, path, _Wanted(sink, _time("--since", since), _time("--until", until)))
    if as_json:
        click.echo(json.dumps({"schema": 1, "events": events}))
    else:
        click.echo(f"{events} events are owed again")


def _again(config: Config, path: Path, wanted: _Wanted) -> int:
    if config.web is not None:
        try:
            answer = ask_daemon(config, path, "/api/redeliver", json.dumps(asdict(wanted)).encode())
        except (NoDaemon, ConfigError) as error:
            return _in_store(config, path, wanted, error)
        return int(msgspec.json.decode(answer)["events"])
    return _in_store(config, path, wanted, None)


def _in_store(config: Config, path: Path, wanted: _Wanted, error: Exception | None) -> int:
    """Where no daemon runs, which would hold the store."""
    state = path.resolve().parent / local_path(config.state)
    if not state.is_dir():
        raise OutputError(f"there is no state folder {state}: nothing was ever sent") from error
    store = Store(state, config.store, tuple(config.sinks))
    store.start()
    try:
        return store.redeliver(wanted.sink, wanted.since_s, wanted.until_s).result(_SECONDS)
    except (LateError, DatabaseError) as failed:
        raise OutputError(f"the events in {state} cannot be read: {failed}") from failed
    finally:
        store.stop(_SECONDS)


def _time(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise OptionError(f"{option} {text}: expected a time such as 2026-02-28T13:00") from error
