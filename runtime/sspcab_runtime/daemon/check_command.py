"""``sspcab-daemon check``: what would go wrong at start, said before."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sspcab_edge.bundle import Bundle
from sspcab_edge.command import LocalPath, common_options, json_option
from sspcab_edge.local_path import local_path
from sspcab_runtime.daemon.config import Config
from sspcab_runtime.daemon.config_file import read_config
from sspcab_runtime.daemon.secrets import read_secret

__all__ = ["check"]


@click.command("check")
@click.option("--config", "path", type=LocalPath(dir_okay=False), required=True)
@json_option
@common_options
def check(path: Path, as_json: bool) -> None:
    """Check a configuration: types and sense of every key, secrets, and every file of every bundle.

    Nothing is opened or connected to but files. Exit 1 with file, line and key where something is wrong.
    """
    config = read_config(path)
    for reference in _secrets(config):
        read_secret(reference)
    bundles = {
        name: Bundle.open(path.parent / local_path(table.path)) for name, table in config.bundles.items()
    }
    armed = {
        name: camera.alarm.threshold is not None
        or bundles[camera.bundle].manifest.decision.threshold is not None
        for name, camera in config.cameras.items()
    }
    if as_json:
        click.echo(
            json.dumps(
                {
                    "schema": 1,
                    "config": str(path),
                    "bundles": {name: bundle.digest for name, bundle in bundles.items()},
                    "cameras": {name: {"armed": yes} for name, yes in armed.items()},
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
    for name, sink in config.sinks.items():
        click.echo(f"sink {name}: {type(sink).__name__.removesuffix('Config').lower()}")
    click.echo(f"{path} is fine")


def _secrets(config: Config) -> list[str]:
    """All references."""
    tables = [*config.cameras.values(), *config.sinks.values(), config.web, config.mqtt_trigger]
    names = ("password", "token", "control", "key")
    found = [getattr(table, name, None) for table in tables for name in names]
    return [reference for reference in found if reference is not None]
