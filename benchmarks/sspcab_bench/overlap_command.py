"""``sspcab-bench overlap``: is everything hidden behind the slowest stage?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import click

from sspcab_bench.film import make_film, make_pictures
from sspcab_bench.giving import check_output, give, strict_exit
from sspcab_bench.inputs import require_frames
from sspcab_bench.options import (
    backend_option,
    bundle_argument,
    output_option,
    precision_option,
    size_option,
    source_option,
    strict_option,
)
from sspcab_bench.overlap import Overlap, measure_overlap
from sspcab_bench.report import head_json
from sspcab_bench.surroundings import Surroundings
from sspcab_bench.text_report import interval_text, machine_lines, title, warning_lines
from sspcab_edge.bundle import Bundle
from sspcab_edge.command import common_options, json_option
from sspcab_edge.protocols import Source
from sspcab_runtime.sources import open_source
from sspcab_runtime.tables import table

__all__ = ["overlap"]

_FILM_FPS = 25.0
_FILM_S = 20.0
_PICTURES = 60


@click.command("overlap", short_help="Is everything hidden behind the slowest stage?")
@bundle_argument
@click.option(
    "--frames", type=click.Choice(("h264", "jpeg")), default="h264", show_default=True,
    help="What to make of the parity pack: a film, or JPEG files.",
)  # fmt: skip
@size_option
@source_option
@click.option(
    "--engine-ms", type=click.FloatRange(0, 1e4), metavar="MS",
    help="Instead of the engine, wait so long: an accelerator beside the CPU. [default: the real engine]",
)  # fmt: skip
@click.option("--rounds", type=click.IntRange(6), default=12, show_default=True, help="Turns of each.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=2.0, show_default=True,
    help="At least so long for each turn.",
)  # fmt: skip
@backend_option
@precision_option
@output_option
@strict_option
@json_option
@common_options
@click.pass_context
def overlap(
    context: click.Context,
    bundle: Path,
    frames: Literal["h264", "jpeg"],
    size: tuple[int, int],
    source: str | None,
    engine_ms: float | None,
    rounds: int,
    seconds: float,
    backend: str | None,
    precision: str | None,
    output: Path | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Measure the whole pipeline against its slowest stage alone, on BUNDLE, in turns.

    1.00 means that decoding, preparing and finishing cost no time beside the slowest stage. Says too what CPU
    time a frame takes outside decoder and engine. With --engine-ms the engine only waits, as for a GPU: then
    the time around it is all that is measured.
    """
    check_output(output)
    opened = Bundle.open(bundle)
    with Surroundings() as around, ExitStack() as stack:
        measured_on, opener = _frames(opened, frames, size, source, stack)
        found = measure_overlap(
            opened, opener, backend=backend, precision=precision, engine_ms=engine_ms, rounds=rounds,
            seconds=seconds,
            progress=lambda done: click.echo(f"sspcab-bench: {done} of {rounds} rounds", err=True),
        )  # fmt: skip
    warnings = around.warnings()
    report: dict[str, Any] = {
        **head_json(around, opened),
        "source": measured_on,
        "engine_ms": engine_ms,
        "rounds": rounds,
        "seconds": seconds,
        **asdict(found),
        "warnings": warnings,
    }
    text = "\n".join(
        [
            title(opened),
            *machine_lines(around.machine),
            "",
            *_lines(found, measured_on),
            *warning_lines(warnings),
        ]
    )
    give(report, text, as_json, output)
    strict_exit(context, strict, warnings)


def _frames(
    bundle: Bundle,
    kind: Literal["h264", "jpeg"],
    size: tuple[int, int],
    source: str | None,
    stack: ExitStack,
) -> tuple[str, Callable[[], Source]]:
    """What frames come from, in words, and what opens it."""
    require_frames(bundle, source)
    if source is not None:
        open_source(source).close()
        return source, lambda: open_source(source)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sspcab-overlap-")))
    width, height = size
    words = f"{width}x{height} {'H.264' if kind == 'h264' else 'JPEG files'}, made of the parity pack"
    click.echo(f"sspcab-bench: making {words}", err=True)
    if kind == "jpeg":
        make_pictures(bundle, folder / "pictures", width=width, height=height, count=_PICTURES)
        return words, lambda: open_source(str(folder / "pictures"))
    film = folder / "film.mkv"
    make_film(bundle, film, width=width, height=height, fps=_FILM_FPS, seconds=_FILM_S)
    return words, lambda: open_source(str(film))


def _lines(found: Overlap, measured_on: str) -> list[str]:
    rows = [
        (name, f"{cost.wall_ms:.3f}", f"{1e3 / cost.wall_ms:.1f}", f"{cost.cpu_ms:.3f}")
        for name, cost in ({f"{name} alone": cost for name, cost in found.alone.items()}
                           | {"all, overlapped": found.stream}).items()
    ]  # fmt: skip
    return [
        f"{found.artifact} on {found.backend}, frames from {measured_on}",
        table(("", "ms a frame", "fps", "CPU ms"), rows, right=(1, 2, 3)),
        "",
        f"overlapped, {found.share.median:.3f} of the speed of {found.slowest} alone, "
        f"95 % interval {interval_text(found.share, 3)}",
        f"CPU outside decoder and engine {found.own_cpu_ms.median:.3f} ms a frame, "
        f"95 % interval {interval_text(found.own_cpu_ms, 3)}",
    ]
