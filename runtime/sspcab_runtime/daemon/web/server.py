"""uvicorn in a thread of its own, with the limits that it lacks."""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path

import uvicorn

from sspcab_edge.errors import OutputError
from sspcab_runtime.daemon.addresses import is_loopback, split_listen
from sspcab_runtime.daemon.config import WebConfig
from sspcab_runtime.daemon.kept_thread import KeptThread
from sspcab_runtime.daemon.status import Observed
from sspcab_runtime.daemon.web.app import make_app
from sspcab_runtime.daemon.web.auth import Guard
from sspcab_runtime.daemon.web.deadline import DeadlineProtocol

__all__ = ["WebServer"]

_LOG = logging.getLogger(__name__)

_START_S = 10.0


class WebServer:
    """Page, API, metrics and health.

    Args:
        config: The web table, checked.
        observed: The daemon.
        token: Lets read.
        control: Lets trigger, or None.
        tls: Files of certificate and key, or None.
        deadlines: Default seconds for a part, by triggered camera.

    Raises:
        OutputError: The address is taken.
    """

    def __init__(
        self,
        config: WebConfig,
        observed: Observed,
        token: str,
        control: str | None,
        tls: tuple[Path, Path] | None,
        deadlines: dict[str, float],
    ) -> None:
        host, port = split_listen(config.listen)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise OutputError(f"the page cannot listen on {config.listen}: {error.strerror}") from error
        self.port = int(self._socket.getsockname()[1])
        shown = f"[{host}]" if ":" in host else host
        self.address = f"{'https' if tls else 'http'}://{shown}:{self.port}"
        names = {shown, "localhost", "127.0.0.1", *config.hosts}
        hosts = frozenset(f"{name.lower()}{end}" for name in names for end in ("", f":{self.port}"))
        guard = Guard(token, control, loopback=is_loopback(host))
        self._settings = uvicorn.Config(
            make_app(observed, guard, hosts, tls=tls is not None, deadlines=deadlines),
            http=DeadlineProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            ssl_certfile=None if tls is None else str(tls[0]),
            ssl_keyfile=None if tls is None else str(tls[1]),
        )
        self._server = uvicorn.Server(self._settings)
        self.thread = KeptThread("web", self._run)

    def start(self) -> None:
        """Begin to answer."""
        self.thread.start()
        until = time.monotonic() + _START_S
        while not self._server.started and self.thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)
        _LOG.info("page and API on %s", self.address)

    def stop(self, seconds: float) -> None:
        """Hang up on everybody."""
        self.thread.ending.set()
        self._server.should_exit = True
        self._server.force_exit = True
        self.thread.join(seconds)
        self._socket.close()

    def _run(self) -> None:
        self._server = uvicorn.Server(self._settings)
        self._server.should_exit = self.thread.ending.is_set()
        self._server.run(sockets=[self._socket.dup()])  # which it closes
