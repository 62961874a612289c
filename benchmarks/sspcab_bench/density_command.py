"""``sspcab-bench density``: how many cameras this machine carries."""

from __future__ import annotations

from pathlib import Path

import click

from sspcab_bench.density import DensityOptions, search
from sspcab_bench.density_report import density_json, density_text
from sspcab_bench.giving import check_output, give, strict_exit
from sspcab_bench.inputs import require_frames
from sspcab_bench.options import backend_option, bundle_argument, output_option, size_option, strict_option
from sspcab_bench.surroundings import Surroundings
from sspcab_edge.bundle import Bundle
from sspcab_edge.command import LocalPath, common_options, json_option

__all__ = ["density"]


@click.command("density", short_help="How many cameras this machine carries at a frame rate.")
@bundle_argument
@click.option(
    "--fps", type=click.FloatRange(0.1, 240), default=15.0, show_default=True, help="Of each camera."
)
@size_option
@click.option(
    "--film", type=LocalPath(exists=True, dir_okay=False),
    help="Every camera shows this video, instead of one made of the parity pack.",
)  # fmt: skip
@click.option("--cameras", type=click.IntRange(1, 1024), help="Try only so many. [default: search]")
@click.option("--most", type=click.IntRange(1, 1024), default=64, show_default=True, help="Try no more.")
@click.option(
    "--seconds", type=click.FloatRange(3), default=15.0, show_default=True,
    help="How long each number of cameras is watched, after 6 s that do not count.",
)  # fmt: skip
@backend_option
@output_option
@strict_option
@json_option
@common_options
@click.pass_context
def density(
    context: click.Context,
    bundle: Path,
    fps: float,
    size: tuple[int, int],
    film: Path | None,
    cameras: int | None,
    most: int,
    seconds: float,
    backend: str | None,
    output: Path | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Find how many cameras this machine carries with BUNDLE, and what ends it.

    Runs the real daemon with more and more cameras: H.264 films of the parity pack, or yours, at a camera's
    pace, each decoded in a process of its own. A number of cameras is carried when at least 98 % of their
    frames get a verdict and 99 of 100 are judged within two frame intervals. Integrity checks are off,
    because the film jumps between pictures. Needs the packages of the daemon.
    """
    check_output(output)
    opened = Bundle.open(bundle)
    require_frames(opened, None if film is None else str(film))
    options = DensityOptions(
        fps=fps, width=size[0], height=size[1], seconds=seconds, most=most, cameras=cameras, backend=backend,
        film=film,
    )  # fmt: skip
    with Surroundings() as around:
        found = search(opened, options, around.machine.usable_cores, _progress)
    warnings = around.warnings()
    report = density_json(opened, found, options, around, warnings=warnings)
    give(report, density_text(opened, found, options, around.machine, warnings=warnings), as_json, output)
    strict_exit(context, strict, warnings)


def _progress(text: str) -> None:
    click.echo(f"sspcab-bench: {text}", err=True)
