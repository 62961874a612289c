"""``sspcab-edge tune``: find the fastest setting, remember it, and show what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click
import msgspec

from sspcab_edge.bundle import Bundle
from sspcab_edge.command import PATH, common_options, json_option
from sspcab_edge.manifest import Precision
from sspcab_runtime.engines.table import ENGINES
from sspcab_runtime.progress import Progress
from sspcab_runtime.setting import Setting
from sspcab_runtime.tables import number, table
from sspcab_runtime.tune import Row, Tuned, tune
from sspcab_runtime.tuning import Objective, backend_versions, record_tuning, this_device

__all__ = ["command", "setting_json", "settings_table"]


@click.command("tune")
@click.argument("bundle", type=PATH)
@click.option(
    "--objective",
    type=click.Choice(get_args(Objective)),
    default="latency",
    show_default=True,
    help="What to be best at: one inference, or frames a second with several at the same time.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=0.5,
    show_default=True,
    help="At least so long for each look at a setting.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=click.Choice(list(ENGINES)),
    help="Only this backend; repeat for several. [default: all that are installed]",
)
@click.option("--precision", type=click.Choice(get_args(Precision)), help="Only this precision.")
@json_option
@common_options
def command(
    bundle: Path,
    objective: Objective,
    seconds: float,
    backends: tuple[str, ...],
    precision: str | None,
    as_json: bool,
) -> None:
    """Find the fastest way to run BUNDLE on this device, among those that give the right verdicts.

    Artifacts, backends, precision hints, threads and streams are measured; what does not pass the parity
    pack here is refused, not timed. The result is remembered, and used wherever nothing else is asked for.
    """
    opened = Bundle.open(bundle)
    with Progress("tuning") as progress:
        tuned = tune(
            opened,
            objective=objective,
            seconds=seconds,
            backends=backends,
            precision=precision,
            progress=progress.update,
        )
    saved = record_tuning(opened, tuned.chosen, objective)
    if as_json:
        click.echo(msgspec.json.encode(_as_json(opened, tuned, saved)).decode())
        return
    title = f"{opened.path}  release {opened.manifest.release}  digest {opened.digest[:16]}"
    click.echo("\n".join([title, this_device(), settings_table(tuned.rows), _outcome(tuned)]))


def settings_table(rows: tuple[Row, ...]) -> str:
    """Every setting that was looked at, for a terminal."""
    header = ("artifact", "backend", "hint", "threads", "streams", "ms", "frames/s", "state")
    cells = [
        (
            row.setting.artifact.name,
            row.setting.backend,
            row.setting.hint or "default",
            "default" if row.setting.threads is None else str(row.setting.threads),
            str(row.setting.streams),
            number(row.ms),
            "-" if row.fps is None else f"{row.fps:.1f}",
            row.state if row.reason is None else f"{row.state}: {row.reason}",
        )
        for row in rows
    ]
    return table(header, cells, right=(3, 4, 5, 6))


def _outcome(tuned: Tuned) -> str:
    if tuned.chosen == tuned.default:
        return f"best for {tuned.objective}: {tuned.chosen}, as without tuning"
    return (
        f"best for {tuned.objective}: {tuned.chosen}, {tuned.speed_up:.2f} times as fast as {tuned.default}"
    )


def setting_json(setting: Setting) -> dict[str, Any]:
    """A setting as JSON has it."""
    return {
        "artifact": setting.artifact.name,
        "target": setting.artifact.target,
        "precision": setting.artifact.precision,
        "backend": setting.backend,
        "hint": setting.hint,
        "threads": setting.threads,
        "streams": setting.streams,
    }


def _as_json(bundle: Bundle, tuned: Tuned, saved: Path | None) -> dict[str, Any]:
    return {
        "schema": 1,
        "bundle": str(bundle.path),
        "digest": bundle.digest,
        "device": this_device(),
        "versions": backend_versions(),
        "objective": tuned.objective,
        "default": setting_json(tuned.default),
        "chosen": setting_json(tuned.chosen),
        "speed_up": tuned.speed_up,
        "saved": None if saved is None else str(saved),
        "settings": [
            {
                **setting_json(row.setting),
                "latency_ms": row.ms,
                "fps": row.fps,
                "state": row.state,
                "reason": row.reason,
            }
            for row in tuned.rows
        ],
    }
