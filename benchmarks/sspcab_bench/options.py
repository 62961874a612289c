"""Options that several verbs of ``sspcab-bench`` share, so that they are spelled and explained once."""

from __future__ import annotations

from typing import get_args

import click

from sspcab_edge.command import PATH, LocalPath
from sspcab_edge.manifest import Precision
from sspcab_runtime.engines import ENGINES
from sspcab_runtime.tuning import Objective

__all__ = [
    "backend_option",
    "bundle_argument",
    "objective_option",
    "output_option",
    "precision_option",
    "read_size",
    "size_option",
    "source_option",
    "strict_option",
]

bundle_argument = click.argument("bundle", type=PATH)

backend_option = click.option(
    "--backend", type=click.Choice(list(ENGINES)), help="[default: the runtime's choice]"
)

precision_option = click.option(
    "--precision", type=click.Choice(get_args(Precision)), help="[default: the manifest's first]"
)

output_option = click.option(
    "--output", type=LocalPath(dir_okay=False), help="Write the report here too, as JSON."
)

strict_option = click.option("--strict", is_flag=True, help="Exit 4 when there is a warning.")

objective_option = click.option(
    "--objective", type=click.Choice(get_args(Objective)), default="fps", show_default=True,
    help="Frames a second of the whole pipeline, or latency of one frame.",
)  # fmt: skip

source_option = click.option(
    "--source", metavar="URI", help="Measure on this picture, folder or video instead of the parity pack."
)

_SIZES = range(16, 8193)


def read_size(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, int]:
    """Width and height from ``1280x720``, made even, as H.264 wants them."""
    width, _, height = value.lower().partition("x")
    if not all(side.isdecimal() and int(side) in _SIZES for side in (width, height)):
        text = f"{value!r} is no size: expected WIDTHxHEIGHT, each 16 to 8192, as in 1280x720"
        raise click.BadParameter(text, context, parameter)
    return int(width) // 2 * 2, int(height) // 2 * 2


size_option = click.option(
    "--size", default="1280x720", show_default=True, metavar="WxH", callback=read_size,
    help="Of the cameras' pictures.",
)  # fmt: skip
