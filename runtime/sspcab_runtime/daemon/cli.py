"""``sspcab-daemon``: the on-device service, and what is done around it."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from sspcab_edge.command import LazyGroup, LocalPath, common_options, run

__all__ = ["VERBS", "group", "main"]

VERBS: dict[str, tuple[str, str]] = {
    "check": ("sspcab_runtime.daemon.check_command:check", "Check a configuration and all that it names."),
    "status": ("sspcab_runtime.daemon.status_command:status", "Ask the running daemon how it is."),
    "redeliver": ("sspcab_runtime.daemon.redeliver_command:redeliver", "Send again what a sink refused."),
    "install": ("sspcab_runtime.daemon.install_command:install", "Write systemd unit and configuration."),
    "learn": ("sspcab_runtime.daemon.learn_command:learn", "Learn a camera's threshold from normal footage."),
}


@click.pass_context
def _run(context: click.Context, config: Path | None, log_json: bool) -> None:
    if context.invoked_subcommand is not None:
        return
    if config is None:
        click.echo(context.get_help())
        return
    from sspcab_runtime.daemon.run import run_daemon

    level = min(logging.INFO, logging.getLogger().getEffectiveLevel())
    run_daemon(config, as_json=log_json, level=level)


group = common_options(
    LazyGroup(
        VERBS,
        name="sspcab-daemon",
        invoke_without_command=True,
        callback=_run,
        params=[
            click.Option(
                ["--config"],
                type=LocalPath(dir_okay=False),
                help="The configuration, edge.toml: run until SIGTERM; SIGHUP opens the bundles again.",
            ),
            click.Option(["--log-json"], is_flag=True, help="Log lines as JSON."),
        ],
        help="Cameras and triggers in, events out, for years: the on-device service.\n\n"
        "`sspcab-daemon --config edge.toml` runs it; the verbs below are for around it.",
    )
)


def main() -> None:
    """Entry point of ``sspcab-daemon``."""
    run(group, "sspcab-daemon")


if __name__ == "__main__":
    main()
