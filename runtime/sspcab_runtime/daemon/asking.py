"""A request to the running daemon, by the verbs around it."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path

from sspcab_edge.errors import ConfigError, SourceError
from sspcab_edge.local_path import local_path
from sspcab_runtime.daemon.addresses import split_listen
from sspcab_runtime.daemon.config import Config
from sspcab_runtime.secrets import read_secret

__all__ = ["NoDaemon", "ask_daemon"]


class NoDaemon(SourceError):
    """Nobody listens there."""


def ask_daemon(config: Config, path: Path, route: str, body: bytes | None = None) -> bytes:
    """What the daemon of a configuration answers.

    Args:
        config: Of the daemon.
        path: The configuration's file.
        route: What is asked for.
        body: What is posted, by who may control; None: nothing is, and who may read asks.

    Raises:
        ConfigError: It has no page to ask, or its token cannot be read.
        NoDaemon: Nobody listens there.
        SourceError: The answer is another than 200.
    """
    web = config.web
    if web is None:
        raise ConfigError(f"{path} has no page ([web]): there is nothing to ask")
    host, port = split_listen(web.listen)
    token_file = path.resolve().parent / local_path(config.state) / "token"
    reference = f"file:{token_file}" if web.token is None else web.token
    if body is not None and web.control is not None:
        reference = web.control
    token = read_secret(reference)
    connection: http.client.HTTPConnection = (
        http.client.HTTPConnection(host, port, timeout=5)
        if web.certificate is None
        else http.client.HTTPSConnection(
            host,
            port,
            timeout=5,
            context=ssl.create_default_context(cafile=path.resolve().parent / local_path(web.certificate)),
        )
    )
    try:
        method = "GET" if body is None else "POST"
        connection.request(method, route, body, {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        data = answer.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise NoDaemon(f"no daemon answers on {web.listen}: {reason}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise SourceError(f"the daemon on {web.listen} answers {answer.status} to {route}, expected 200")
    return data
