"""``sspcab-bench``: how fast a bundle is on this machine, and what folding the block gains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from sspcab_bench.ablation_command import ablation
from sspcab_bench.block_suite import SHAPES, BlockOptions, Shape
from sspcab_bench.block_suite import run as run_blocks
from sspcab_bench.bundle_suite import BundleOptions
from sspcab_bench.bundle_suite import run as run_bundle
from sspcab_bench.caveats import about_bounds, about_order, about_stability
from sspcab_bench.compare import compare_reports, read_report
from sspcab_bench.compare_command import (
    REGRESSION,
    compare,
    max_regression_option,
    regressions,
    report_warnings,
)
from sspcab_bench.density_command import density
from sspcab_bench.gate_command import gate
from sspcab_bench.giving import check_output, give, strict_exit, write
from sspcab_bench.inputs import PACK, require_frames
from sspcab_bench.options import source_option
from sspcab_bench.overlap_command import overlap
from sspcab_bench.page import html_page, markdown
from sspcab_bench.page_command import page
from sspcab_bench.peers_command import peers
from sspcab_bench.report import block_json, bundle_json, tuned_json
from sspcab_bench.surroundings import Surroundings
from sspcab_bench.sustained_command import sustained
from sspcab_bench.text_report import block_text, bundle_text, tuned_text
from sspcab_bench.tuned_suite import TunedOptions
from sspcab_bench.tuned_suite import run as run_tuned
from sspcab_edge.block import DIALECTS
from sspcab_edge.bundle import Bundle
from sspcab_edge.command import PATH, LocalPath, common_options, json_option, run
from sspcab_edge.errors import OptionError
from sspcab_edge.shown_address import shown_address
from sspcab_runtime.engines import ENGINES
from sspcab_runtime.tuning import Objective

__all__ = ["group", "main"]

_NAME = "sspcab-bench"
_BUNDLE = "bundle"


class _BundleByDefault(click.Group):
    """A group whose first argument is a verb, or else a bundle to measure."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options before a bundle are the bundle suite's."""
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if args and args[0].startswith("-") and args[0].partition("=")[0] not in own:
            args = [_BUNDLE, *args]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """What is no verb is a bundle."""
        if self.get_command(ctx, args[0]) is None:
            args = [_BUNDLE, *args]
        return super().resolve_command(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Every form."""
        formatter.write_usage(ctx.command_path, "BUNDLE [OPTIONS]")
        formatter.write_usage(ctx.command_path, "block [OPTIONS]")
        formatter.write_usage(ctx.command_path, "tuned BUNDLE [OPTIONS]")
        formatter.write_usage(ctx.command_path, "density BUNDLE [OPTIONS]")
        formatter.write_usage(ctx.command_path, "ablation BUNDLES... [OPTIONS]")
        formatter.write_usage(ctx.command_path, "compare FIRST SECOND [OPTIONS]")
        formatter.write_usage(ctx.command_path, "gate BUNDLE [OPTIONS]")
        formatter.write_usage(ctx.command_path, "peers BUNDLE [OPTIONS]")
        formatter.write_usage(ctx.command_path, "overlap BUNDLE [OPTIONS]")
        formatter.write_usage(ctx.command_path, "sustained BUNDLE [OPTIONS]")
        formatter.write_usage(ctx.command_path, "page REPORTS... -o PAGE")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of the bundle suite, which is what one gets without a verb."""
        command = self.commands[_BUNDLE]
        with click.Context(command, info_name=_BUNDLE, parent=ctx) as inner:
            command.format_options(inner, formatter)
        self.format_commands(ctx, formatter)


def _read_shapes(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[Shape, ...]:
    """Shapes from ``C@HxW``; all of :data:`SHAPES` where none is given."""
    shapes = []
    for value in values:
        channels, _, size = value.partition("@")
        numbers = [channels, *size.lower().split("x")]
        if len(numbers) != 3 or not all(number.isdecimal() and int(number) > 0 for number in numbers):
            text = f"{value!r} is no shape: expected CHANNELS@HEIGHTxWIDTH, as in 64@32x32"
            raise click.BadParameter(text, context, parameter)
        shapes.append(Shape(*map(int, numbers)))
    return tuple(shapes) or SHAPES


def _shared_options(seconds: float, seconds_help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options that all suites have."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option(
                "--output", type=LocalPath(dir_okay=False),
                help="Write the report to this file too, as JSON.",
            ),
            click.option(
                "--seconds", type=click.FloatRange(0, min_open=True), default=seconds, show_default=True,
                help=seconds_help,
            ),
            click.option(
                "--backend", "backends", multiple=True, type=click.Choice(list(ENGINES)),
                help="Only this backend; repeat for several. [default: all that are installed]",
            ),
        ):  # fmt: skip
            command = option(command)
        return json_option(command)

    return add


@click.group(name=_NAME, cls=_BundleByDefault, no_args_is_help=True)
@common_options
def group() -> None:
    """Measure BUNDLE on this machine: latency, frames a second, stages, start and memory.

    Every artifact is run on every backend that runs it, in a process of its own, on the inputs of the
    bundle's parity pack; verdicts are compared with the expected ones while they are measured. Exit 3 when
    they differ. (A bundle whose folder has the name of a command: ./block.)
    """


@group.command(_BUNDLE, hidden=True)
@click.argument("bundle", type=PATH)
@source_option
@click.option("--threads", type=click.IntRange(min=1), help="Threads of one inference. [default: backend's]")
@click.option(
    "--streams", type=click.IntRange(1, 64), default=1, show_default=True,
    help="Engines at the same time: more frames a second, no less latency.",
)  # fmt: skip
@click.option(
    "--batch", type=click.IntRange(1, 1024), default=1, show_default=True,
    help="Frames of one engine call: latency is then a whole batch's.",
)  # fmt: skip
@click.option("--html", type=LocalPath(dir_okay=False), help="Write a page to look at.")
@click.option("--markdown", "as_markdown", type=LocalPath(dir_okay=False), help="Write a table too.")
@click.option(
    "--baseline", type=LocalPath(dir_okay=False, exists=True),
    help="A report of before: see --max-regression, and sspcab-bench compare.",
)  # fmt: skip
@max_regression_option
@click.option("--strict", is_flag=True, help="Exit 4 when there is a warning.")
@_shared_options(3.0, "At least so long for each of latency, stream and engine alone.")
@common_options
@click.pass_context
def bundle_command(
    context: click.Context,
    bundle: Path,
    backends: tuple[str, ...],
    threads: int | None,
    seconds: float,
    source: str | None,
    streams: int,
    batch: int,
    html: Path | None,
    as_markdown: Path | None,
    baseline: Path | None,
    max_regression: float | None,
    strict: bool,
    as_json: bool,
    output: Path | None,
) -> None:
    """Measure BUNDLE on this machine."""
    check_output(output, html, as_markdown)
    if (baseline is None) != (max_regression is None):
        raise OptionError("--baseline and --max-regression go together")
    before_report = None if baseline is None else read_report(baseline)
    opened = Bundle.open(bundle)
    require_frames(opened, source)
    options = BundleOptions(backends, threads, seconds, source, streams, batch)
    with Surroundings() as around:
        results = run_bundle(opened, options, _progress)
    series = [(f"{result.artifact} on {result.backend}", result.latency) for result in results]
    warnings = [
        *around.warnings(threads),
        *about_stability(series),
        *about_order(results),
        *about_bounds(results),
    ]
    measured_on = PACK if source is None else shown_address(source)
    report = bundle_json(opened, results, around, source=measured_on, warnings=warnings)
    text = bundle_text(opened, results, around.machine, source=measured_on, warnings=warnings)
    slower: list[str] = []
    if before_report is not None:
        slower = regressions(compare_reports(before_report, report), max_regression)
        for note in report_warnings(before_report, {**report, "warnings": []}):
            _progress(f"baseline: {note}")
    give(report, text, as_json, output)
    if html is not None:
        write(html, html_page([report]).encode())
    if as_markdown is not None:
        write(as_markdown, markdown(report).encode())
    for one in slower:
        _progress(f"REGRESSION: {one}")
    if slower:
        context.exit(REGRESSION)
    strict_exit(context, strict, warnings)


@group.command("block")
@click.option(
    "--shape", "shapes", multiple=True, metavar="C@HxW", callback=_read_shapes,
    help=f"What goes through the block; repeat for several. [default: {', '.join(map(str, SHAPES))}]",
)  # fmt: skip
@click.option(
    "--dialect", type=click.Choice(list(DIALECTS)), default="official", show_default=True,
    help="How the block computes.",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of one inference. [default: cores it may use]"
)
@_shared_options(2.0, "At least so long for each shape on each backend.")
@common_options
def block_command(
    shapes: tuple[Shape, ...],
    dialect: str,
    backends: tuple[str, ...],
    threads: int | None,
    seconds: float,
    as_json: bool,
    output: Path | None,
) -> None:
    """Measure what folding the SSPCAB block gains, shape by shape.

    A block with random weights (k 1, d 1, fp32, batch 1), as torch exports it, as the exporter folds it, and
    that as one node sspcab.edge::SSPCAB (custom-op); checked to be equal, then measured in turns. Only ONNX
    Runtime is given the node: for the other backends the exporter puts its body in place, which is the folded
    form. Needs the packages of the exporter.
    """
    check_output(output)
    with Surroundings() as around:
        used = around.machine.usable_cores if threads is None else threads
        options = BlockOptions(used, backends, dialect, shapes, seconds)
        comparisons = run_blocks(options, _progress)
    warnings = around.warnings(used)
    report = block_json(comparisons, around, warnings=warnings)
    give(report, block_text(comparisons, around.machine, warnings=warnings), as_json, output)


@group.command("tuned")
@click.argument("bundle", type=PATH)
@click.option(
    "--objective", type=click.Choice(get_args(Objective)), default="latency", show_default=True,
    help="What tuning is to be best at.",
)  # fmt: skip
@click.option(
    "--pairs", type=click.IntRange(min=1), default=10, show_default=True,
    help="Pairs of turns that are compared in the end.",
)  # fmt: skip
@_shared_options(2.0, "At least so long for each turn of a pair, and for each setting, twice.")
@common_options
def tuned_command(
    bundle: Path,
    objective: Objective,
    pairs: int,
    backends: tuple[str, ...],
    seconds: float,
    as_json: bool,
    output: Path | None,
) -> None:
    """Put tuning to the test: is its choice as fast as the best setting of BUNDLE?

    Tunes BUNDLE as sspcab-edge tune does (nothing is remembered), measures every setting again with patience,
    and times the choice and the best one in pairs.
    """
    check_output(output)
    opened = Bundle.open(bundle)
    with Surroundings() as around:
        comparison = run_tuned(opened, TunedOptions(objective, backends, pairs, seconds), _progress)
    warnings = around.warnings()
    report = tuned_json(opened, comparison, around, warnings=warnings)
    give(report, tuned_text(opened, comparison, around.machine, warnings=warnings), as_json, output)


def _progress(text: str) -> None:
    click.echo(f"{_NAME}: {text}", err=True)


for _command in (ablation, compare, density, gate, overlap, page, peers, sustained):
    group.add_command(_command)


def main() -> None:
    """Entry point of ``sspcab-bench``."""
    run(group, _NAME)


if __name__ == "__main__":
    main()
