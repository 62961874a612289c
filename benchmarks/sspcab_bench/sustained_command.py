"""``sspcab-bench sustained``: does it stay as fast as it begins?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sspcab_bench.giving import check_output, give, strict_exit
from sspcab_bench.options import backend_option, bundle_argument, output_option, source_option, strict_option
from sspcab_bench.report import head_json
from sspcab_bench.sensors import Sensors
from sspcab_bench.surroundings import Surroundings
from sspcab_bench.sustained import Point, Sustained, run_sustained
from sspcab_bench.text_report import machine_lines, title, warning_lines
from sspcab_edge.bundle import Bundle
from sspcab_edge.command import common_options, json_option
from sspcab_runtime.tables import table

__all__ = ["sustained"]


@click.command("sustained", short_help="Does it stay as fast as it begins?")
@bundle_argument
@click.option(
    "--seconds", type=click.FloatRange(1), default=180.0, show_default=True, help="Of the whole run."
)
@click.option("--points", type=click.IntRange(3), default=18, show_default=True, help="Parts of the curve.")
@source_option
@backend_option
@output_option
@strict_option
@json_option
@common_options
@click.pass_context
def sustained(
    context: click.Context,
    bundle: Path,
    seconds: float,
    points: int,
    source: str | None,
    backend: str | None,
    output: Path | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Run BUNDLE at full speed for long, and draw the curve: frames a second, temperature, clock, power.

    Warns where the last third is more than 5 % slower than the first, and where the hardware says that it
    throttled. Energy of a frame is told where the module's power is (Jetson), idle power included.
    """
    check_output(output)
    opened = Bundle.open(bundle)
    with Surroundings() as around:
        found = run_sustained(
            opened, backend=backend, source=source, seconds=seconds, points=points, sensors=Sensors(),
            progress=_progress,
        )  # fmt: skip
    warnings = [*around.warnings(), *_about(found)]
    energy_mj = found.watched.energy_per_frame_mj(found.frames)
    report: dict[str, Any] = {
        **head_json(around, opened),
        "artifact": found.artifact,
        "backend": found.backend,
        "frames": found.frames,
        "first_fps": found.first_fps,
        "last_fps": found.last_fps,
        "slowed": found.slowed,
        "throttled": found.watched.throttled,
        "energy_per_frame_mj": energy_mj,
        "sensors": asdict(found.watched),
        "results": [asdict(point) for point in found.points],
        "warnings": warnings,
    }
    rows = [
        (f"{point.at_s:.0f}", f"{point.fps:.1f}", f"{point.gaps.p50:.2f}", f"{point.gaps.p99:.2f}",
         _some(point.hottest_c), _some(point.clock_mhz), _some(point.power_mw))
        for point in found.points
    ]  # fmt: skip
    text = "\n".join(
        [
            title(opened),
            *machine_lines(around.machine),
            "",
            f"{found.artifact} on {found.backend}, stages overlapped; ms are between verdicts",
            table(("s", "fps", "p50 ms", "p99 ms", "hottest C", "MHz", "mW"), rows, right=range(7)),
            "",
            f"first third {found.first_fps:.1f} frames a second, last third {found.last_fps:.1f}",
            *([] if energy_mj is None else [f"energy {energy_mj:.1f} mJ a frame, idle power included"]),
            *warning_lines(warnings),
        ]
    )
    give(report, text, as_json, output)
    strict_exit(context, strict, warnings)


def _about(found: Sustained) -> list[str]:
    warnings = []
    if found.slowed:
        warnings.append(
            f"it slowed down from {found.first_fps:.1f} to {found.last_fps:.1f} frames a second: "
            "believe the last"
        )
    return warnings


def _some(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _progress(point: Point) -> None:
    click.echo(f"sspcab-bench: {point.at_s:.0f} s: {point.fps:.1f} frames a second", err=True)
