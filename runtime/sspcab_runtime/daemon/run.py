"""The daemon from start to end: everything is opened in order, and closed in the other."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as LateError
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import msgspec

from sspcab_edge.errors import OutputError
from sspcab_edge.local_path import local_path
from sspcab_runtime.daemon.config import Config
from sspcab_runtime.daemon.config_file import read_config
from sspcab_runtime.daemon.evidence import EvidenceKeeper
from sspcab_runtime.daemon.kept_thread import KeptThread
from sspcab_runtime.daemon.left_open import close_left_open
from sspcab_runtime.daemon.logs import Redactor, set_up_logs
from sspcab_runtime.daemon.notify import Notifier
from sspcab_runtime.daemon.observing import Observation
from sspcab_runtime.daemon.reporting import daemon_status
from sspcab_runtime.daemon.sinks import SinkRunner, open_sinks
from sspcab_runtime.daemon.status import SinkStatus, StoreStatus, ThreadStatus
from sspcab_runtime.daemon.store import Store
from sspcab_runtime.daemon.supervisor import Supervisor
from sspcab_runtime.daemon.triggered import Ledger
from sspcab_runtime.secrets import make_token, read_secret

__all__ = ["run_daemon"]

_Status = TypeVar("_Status", StoreStatus, SinkStatus, ThreadStatus)

_LOG = logging.getLogger(__name__)

_STATUS_S = 0.5
_EXTEND_S = 30.0
_LOAD_S = 5.0
_CHILDREN_S, _STORE_S, _OTHERS_S = 1.5, 1.0, 0.5
"""Shares of the five seconds in which the daemon ends."""


def run_daemon(path: Path, *, as_json: bool = False, level: int = logging.INFO) -> None:
    """Run until SIGTERM or SIGINT. SIGHUP opens the bundles again, beside those that serve.

    Args:
        path: The configuration file.
        as_json: Log lines as JSON.
        level: Of the log.

    Raises:
        ConfigError: The configuration or a secret cannot be used.
        OutputError: The state folder or an address is taken.
        MissingPackageError: Something of ``[daemon]`` is not installed.
    """
    config = read_config(path)
    base = path.resolve().parent
    state = (base / local_path(config.state)).resolve()
    redactor = Redactor()
    secrets = _reader(redactor)
    set_up_logs(redactor, as_json=as_json, level=level)
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OutputError(f"the state folder {state} cannot be made: {error.strerror}") from error
    os.environ.setdefault("XDG_CACHE_HOME", str(state / "cache"))
    with ExitStack() as closing:
        notifier = Notifier()
        closing.callback(notifier.close)
        store = Store(state, config.store, tuple(config.sinks))
        store.start()
        closing.callback(store.stop, _STORE_S)
        sinks = open_sinks(config, secrets, base, state, store)
        for sink in sinks:
            sink.start()
            closing.callback(sink.stop, _OTHERS_S)
        evidence = EvidenceKeeper(state / "evidence", config.evidence)
        evidence.start()
        closing.callback(evidence.stop, _OTHERS_S)
        close_left_open(store, _LOAD_S)
        ledger = Ledger(store, config.store.max_mb)
        try:
            undecided = ledger.load(_LOAD_S)
        except (sqlite3.Error, LateError) as error:
            _LOG.error("parts of an earlier run are not known: %s", error)
        else:
            if undecided:
                _LOG.warning("%d parts of an earlier run have no decision", undecided)
        supervisor = Supervisor(config, base, state, secrets, store, evidence, ledger)
        started = (time.monotonic(), time.time())
        observation = Observation(
            supervisor, store, evidence, daemon_status(supervisor, store.status(), (), (), started)
        )
        threads = [store.thread, evidence.thread, *(sink.thread for sink in sinks)]
        threads += _open_doors(config, base, state, secrets, redactor, observation, closing)
        _turn(supervisor, store, sinks, threads, redactor, observation, notifier, started)
        notifier.stopping()
        supervisor.stop(_CHILDREN_S)
        store.flush(_STORE_S)
    _LOG.info("ended")


def _reader(redactor: Redactor) -> Callable[[str], str]:
    def read(reference: str) -> str:
        secret = read_secret(reference)
        redactor.learn([secret])
        return secret

    return read


def _open_doors(
    config: Config,
    base: Path,
    state: Path,
    secrets: Callable[[str], str],
    redactor: Redactor,
    observation: Observation,
    closing: ExitStack,
) -> list[KeptThread]:
    """Let people and lines in: the page, and channels for triggers. Their threads."""
    threads = []
    triggered = {
        name: camera.trigger.deadline_s
        for name, camera in config.cameras.items()
        if camera.mode == "triggered"
    }
    web = config.web
    if web is not None:
        from sspcab_runtime.daemon.web import WebServer

        token = make_token(state / "token") if web.token is None else secrets(web.token)
        redactor.learn([token])
        control = None if web.control is None else secrets(web.control)
        tls = None
        if web.certificate is not None and web.key is not None:
            tls = (base / local_path(web.certificate), local_path(web.key.removeprefix("file:")))
        server = WebServer(web, observation, token, control, tls, triggered)
        server.start()
        threads.append(server.thread)
        closing.callback(server.stop, _OTHERS_S)
    if config.mqtt_trigger is not None:
        from sspcab_runtime.daemon.channels.mqtt import MqttTriggers

        channel = MqttTriggers(config.mqtt_trigger, secrets, base, state, observation, triggered)
        channel.start()
        threads.append(channel.thread)
        closing.callback(channel.stop, _OTHERS_S)
    if config.modbus is not None:
        from sspcab_runtime.daemon.channels.modbus import ModbusTriggers

        registers = ModbusTriggers(config.modbus, observation, triggered)
        registers.start()
        threads.append(registers.thread)
        closing.callback(registers.stop, _OTHERS_S)
    return threads


def _hidden(status: _Status, redactor: Redactor) -> _Status:
    """Without the secrets that an error's text may hold."""
    return msgspec.structs.replace(status, message=redactor.redact(status.message))


def _turn(
    supervisor: Supervisor,
    store: Store,
    sinks: list[SinkRunner],
    threads: list[KeptThread],
    redactor: Redactor,
    observation: Observation,
    notifier: Notifier,
    started: tuple[float, float],
) -> None:
    """The loop, until a signal ends it."""
    ended: list[int] = []
    before = {
        number: signal.signal(number, lambda got, _: supervisor.loop.post(lambda: ended.append(got)))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    before[signal.SIGHUP] = signal.signal(
        signal.SIGHUP, lambda got, _: supervisor.loop.post(supervisor.reload)
    )
    ready, status_s, alive_s = False, 0.0, 0.0
    try:
        while not ended:
            supervisor.turn()
            now = time.monotonic()
            if now - status_s < _STATUS_S and not supervisor.changed:
                continue
            status_s, supervisor.changed = now, False
            status = daemon_status(
                supervisor,
                _hidden(store.status(), redactor),
                [_hidden(sink.status(), redactor) for sink in sinks],
                [_hidden(thread.status(), redactor) for thread in threads],
                started,
            )
            observation.renew(status)
            summary = "; ".join(status.problems) or "ready"
            if not ready and all(bundle.ready is not None for bundle in supervisor.bundles.values()):
                ready = True
                notifier.ready(summary)
            elif not ready:
                notifier.extend(_EXTEND_S)
            if notifier.watchdog_s is not None and now - alive_s > min(notifier.watchdog_s, 5.0):
                if supervisor.working(now):
                    alive_s = now
                    notifier.alive()
                notifier.status(summary)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
