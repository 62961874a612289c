"""``sspcab-daemon status``: the running daemon's own words."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path

import click
import msgspec

from sspcab_edge.command import LocalPath, common_options, json_option
from sspcab_edge.errors import ConfigError, SourceError
from sspcab_runtime.daemon.addresses import split_listen
from sspcab_runtime.daemon.config import Config
from sspcab_runtime.daemon.config_file import read_config
from sspcab_runtime.daemon.status import DaemonStatus
from sspcab_runtime.secrets import read_secret

__all__ = ["status"]

_NOT_READY = 3


@click.command("status")
@click.option("--config", "path", type=LocalPath(dir_okay=False), required=True)
@json_option
@common_options
@click.pass_context
def status(context: click.Context, path: Path, as_json: bool) -> None:
    """Ask the running daemon: exit 0 where it is ready, 3 where it is not, 1 where it does not answer."""
    config = read_config(path)
    data = _ask(config, path)
    found = msgspec.json.decode(data, type=DaemonStatus)
    if as_json:
        click.echo(data.decode())
    else:
        click.echo(found.state if found.ready else f"NOT READY: {found.state}: {found.problems[0]}")
        for problem in found.problems[1:]:
            click.echo(f"  {problem}")
        for camera in found.cameras:
            age = "-" if camera.frame_age_ms is None else f"{camera.frame_age_ms:.0f} ms"
            click.echo(
                f"camera {camera.name}: {camera.state}, {camera.fps:.1f} fps, age {age}, "
                f"{camera.scored} scored, {camera.dropped} dropped"
            )
        for worker in found.workers:
            click.echo(
                f"bundle {worker.name}: {worker.state}, {worker.artifact or '-'}, {worker.replays} replays"
            )
        for sink in found.sinks:
            click.echo(
                f"sink {sink.name}: {sink.state}, {sink.delivered} delivered, {sink.queued} waiting, "
                f"{sink.refused} refused"
            )
    if not found.ready:
        context.exit(_NOT_READY)


def _ask(config: Config, path: Path) -> bytes:
    web = config.web
    if web is None:
        raise ConfigError(f"{path} has no page ([web]): there is nothing to ask")
    host, port = split_listen(web.listen)
    token_file = path.resolve().parent / config.state / "token"
    token = read_secret(f"file:{token_file}" if web.token is None else web.token)
    connection: http.client.HTTPConnection = (
        http.client.HTTPConnection(host, port, timeout=5)
        if web.certificate is None
        else http.client.HTTPSConnection(
            host,
            port,
            timeout=5,
            context=ssl.create_default_context(cafile=str(path.resolve().parent / web.certificate)),
        )
    )
    try:
        connection.request("GET", "/api/status", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        data = answer.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise SourceError(f"no daemon answers on {web.listen}: {reason}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise SourceError(f"the daemon on {web.listen} answers {answer.status}, expected 200")
    return data
