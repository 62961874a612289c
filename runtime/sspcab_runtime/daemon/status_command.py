"""``sspcab-daemon status``: the running daemon's own words."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from sspcab_edge.command import LocalPath, common_options, json_option
from sspcab_runtime.daemon.asking import ask_daemon
from sspcab_runtime.daemon.config_file import read_config
from sspcab_runtime.daemon.status import DaemonStatus

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
    data = ask_daemon(config, path, "/api/status")
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
