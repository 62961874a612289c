"""``sspcab-daemon check``: what would go wrong at start, said before."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sspcab_edge.bundle import Bundle
from sspcab_edge.command import LocalPath, common_options, json_option
from sspcab_edge.errors import ConfigError, EdgeError
from sspcab_edge.local_path import local_path
from sspcab_edge.printable import one_line
from sspcab_runtime.daemon.config import Config
from sspcab_runtime.daemon.config_file import error_at, read_config
from sspcab_runtime.daemon.sinks import make_sinks
from sspcab_runtime.daemon.source_check import look_at
from sspcab_runtime.secrets import read_secret
from sspcab_runtime.sources.camera_address import camera_address
from sspcab_runtime.sources.streams import StreamOptions

__all__ = ["check"]


@click.command("check")
@click.option("--config", "path", type=LocalPath(dir_okay=False), required=True)
@json_option
@common_options
def check(path: Path, as_json: bool) -> None:
    """Check a configuration: types and sense of every key, secrets, and every file of every bundle.

    Nothing is opened or connected to but files; of a device or a pipeline it is looked whether it is there.
    Exit 1 with file, line and key where something is wrong.
    """
    config = read_config(path)
    for reference in _secrets(config):
        read_secret(reference)
    make_sinks(config, read_secret, path.resolve().parent, path.resolve().parent / local_path(config.state))
    bundles = {
        name: Bundle.open(path.parent / local_path(table.path)) for name, table in config.bundles.items()
    }
    armed = {
        name: camera.alarm.threshold is not None
        or bundles[camera.bundle].manifest.decision.threshold is not None
        for name, camera in config.cameras.items()
    }
    sources = _look_at_sources(config, path)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "schema": 1,
                    "config": str(path),
                    "bundles": {name: bundle.digest for name, bundle in bundles.items()},
                    "cameras": {name: {"armed": yes, "source": sources[name]} for name, yes in armed.items()},
                    "sinks": list(config.sinks),
                }
            )
        )
        return
    for name, bundle in bundles.items():
        artifacts = ", ".join(artifact.name for artifact in bundle.manifest.artifacts)
        click.echo(f"bundle {name}: {bundle.manifest.model.name}, {artifacts}")
    for name, camera in config.cameras.items():
        note = "" if armed[name] else ", NOT ARMED: no threshold (sspcab-edge fit, or sspcab-daemon learn)"
        click.echo(f"camera {name}: {camera.mode}, judged by {camera.bundle}{note}")
        click.echo(f"source of {name}: {sources[name]}")
    for name, sink in config.sinks.items():
        click.echo(f"sink {name}: {type(sink).__name__.removesuffix('Config').lower()}")
    click.echo(f"{path} is fine")


def _look_at_sources(config: Config, path: Path) -> dict[str, str]:
    """What the source of each camera is, in words.

    Raises:
        ConfigError: Of the last that is not there; those before are said on stderr.
    """
    found: dict[str, str] = {}
    wrong: list[ConfigError] = []
    files = path.parent / local_path(config.files or ".")
    for name, camera in config.cameras.items():
        options = StreamOptions(max_pixels=camera.max_pixels, width=camera.width, height=camera.height)
        try:
            found[name] = look_at(camera_address(camera.source, files), options)
        except EdgeError as error:
            wrong.append(error_at(path, ("cameras", name, "source"), str(error)))
    for problem in wrong[:-1]:
        click.echo(f"sspcab-daemon: {one_line(str(problem))}", err=True)
    if wrong:
        raise wrong[-1]
    return found


def _secrets(config: Config) -> list[str]:
    """All references."""
    tables = [*config.cameras.values(), *config.sinks.values(), config.web, config.mqtt_trigger]
    names = ("password", "token", "control", "key")
    found = [getattr(table, name, None) for table in tables for name in names]
    return [reference for reference in found if reference is not None]
