"""``sspcab-run``: verdicts for pictures, folders of pictures, videos or a camera."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import click
import msgspec
import numpy as np

from sspcab_edge.command import PATH, common_options, json_option, run
from sspcab_edge.errors import OptionError, PictureError
from sspcab_edge.manifest import Precision
from sspcab_edge.printable import one_line, printable
from sspcab_edge.protocols import CameraSource, LiveSource, Source
from sspcab_edge.shown_address import shown_text
from sspcab_runtime.detector import Detector
from sspcab_runtime.engines.table import ENGINES
from sspcab_runtime.login import login_options, with_login
from sspcab_runtime.overlay import heat_range
from sspcab_runtime.pipeline import Failure, Result
from sspcab_runtime.progress import Progress
from sspcab_runtime.saving import OverlayFolder
from sspcab_runtime.several import judge_several, named_sources
from sspcab_runtime.sources import open_source
from sspcab_runtime.sources.streams import StreamOptions
from sspcab_runtime.tables import apart

__all__ = ["command", "main"]

_NAME = "sspcab-run"


@dataclass(slots=True)
class _Summary:
    """What a run adds up to.

    Attributes:
        unit: What could not be judged, in words.
        named: Whether lines name the source of a frame, as there are several.
    """

    started_s: float
    latencies_ms: list[float] = field(default_factory=list)
    anomalous: int = 0
    failed: int = 0
    unit: str = "pictures"
    named: bool = False

    def count(self, result: Result) -> None:
        self.latencies_ms.append(result.latency_ms)
        self.anomalous += bool(result.verdict.anomalous)

    def count_failure(self, failure: Failure) -> None:
        self.failed += 1
        if failure.path is None and not self.named:
            self.unit = "frames"

    def line(self) -> str:
        frames = len(self.latencies_ms)
        if not frames:
            return "0 frames"
        elapsed_s = time.perf_counter() - self.started_s
        return (
            f"{frames} frames, {self.anomalous} anomalous, {frames / elapsed_s:.1f} frames/s, "
            f"median latency {np.median(self.latencies_ms):.1f} ms"
        )


@click.command("sspcab-run")
@click.argument("bundle", type=PATH)
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "--backend",
    type=click.Choice(list(ENGINES)),
    help="Backend to run on. [default: tuned, or first installed]",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="Precision to run. [default: tuned, or bundle's first]",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of one inference. [default: backend's]")
@click.option(
    "--streams",
    type=click.IntRange(min=1),
    help="Inferences at the same time: more frames a second, not less latency. [default: 1]",
)
@click.option("--threshold", type=float, help="Judge by this threshold instead of the bundle's.")
@click.option("--save", "folder", type=PATH, help="Write overlays into this folder.")
@click.option(
    "--every-frame",
    is_flag=True,
    help="Of a camera, judge old frames late and drop none. [default: the newest, whenever there is time]",
)
@login_options
@click.option("--limit", type=click.IntRange(min=1), help="Stop after this many frames.")
@click.option("--no-prove", is_flag=True, help="Do not replay the parity pack on a device new to the bundle.")
@click.option(
    "--fallback",
    is_flag=True,
    help="If the chosen backend cannot run here, take the next artifact of the bundle, and say so.",
)
@click.option("--no-tuned", is_flag=True, help="Do not use what sspcab-edge tune found on this device.")
@json_option
@common_options
def command(
    bundle: Path,
    sources: tuple[str, ...],
    backend: str | None,
    precision: str | None,
    threads: int | None,
    streams: int | None,
    threshold: float | None,
    folder: Path | None,
    every_frame: bool,
    user: str | None,
    password: str | None,
    limit: int | None,
    no_prove: bool,
    fallback: bool,
    no_tuned: bool,
    as_json: bool,
) -> None:
    """Judge every frame of every SOURCE with the detector in BUNDLE, a line each.

    SOURCE is a picture, a folder of pictures, a video, a URI (file://, images://, rtsp://, http:// for MJPEG,
    v4l2://, csi://, gst:), or - for a list of them on standard input, one a line or separated by NUL bytes; a
    camera is the only SOURCE. Results go to stdout, everything else to stderr. A picture or frame that cannot
    be decoded whole, or does not show the scene that the bundle was made for, and a SOURCE of several that
    cannot be opened do not stop the others; the exit status is then 1.

    A camera that is faster than the detector loses frames: whenever there is time the newest is judged, and
    the others are counted. One that asks for a login gets --user and --password, by Digest if it offers that;
    nothing is sent unasked.
    """
    if threshold is not None and not np.isfinite(threshold):
        raise OptionError(f"--threshold is {threshold}, expected a finite number")
    names = named_sources(sources)
    options = with_login(StreamOptions(every_frame=every_frame), names, user, password)
    with ExitStack() as opened, Progress(_NAME) as progress:
        alone = opened.enter_context(closing(open_source(names[0], options))) if len(names) == 1 else None
        detector = Detector.open(
            bundle,
            backend=backend,
            precision=precision,
            threads=threads,
            streams=streams,
            threshold=threshold,
            prove=not no_prove,
            fallback=fallback,
            tuned=not no_tuned,
            progress=lambda done, of: progress.update(done, of, "parity inputs, once on this device"),
        )
        with detector:
            heat = heat_range(detector.bundle.manifest.decision, detector.threshold)
            overlays = None if folder is None else OverlayFolder(folder, heat, numbered=alone is None)
            if alone is not None:
                _judge(detector.stream(alone), alone, overlays, limit, as_json, progress)
            else:
                several = _Summary(time.perf_counter(), unit="pictures, frames and sources", named=True)
                _judge(judge_several(detector, names), None, overlays, limit, as_json, progress, several)


def _judge(
    judged: Generator[Result | Failure, None, None],
    source: Source | None,
    overlays: OverlayFolder | None,
    limit: int | None,
    as_json: bool,
    progress: Progress,
    summary: _Summary | None = None,
) -> None:
    """Print a line per frame; sum up on stderr, also when the source is lost on the way."""
    summary = summary or _Summary(time.perf_counter())
    conversions: set[str] = set()
    count = None if source is None else source.count
    try:
        with closing(judged) as results:
            for done, result in enumerate(results, start=1):
                progress.clear()
                if isinstance(result, Failure):
                    summary.count_failure(result)
                    click.echo(f"{_NAME}: {one_line(shown_text(str(result.error)))}", err=True)
                else:
                    summary.count(result)
                    _say_conversion(result, conversions)
                    click.echo(_json_line(result) if as_json else _line(result, summary.named))
                    if overlays is not None:
                        overlays.save(result)
                if done == limit:
                    break
                progress.update(done, count, "frames")
    finally:
        progress.clear()
        click.echo(f"{_NAME}: {summary.line()}{_unjudged(source, summary)}", err=True)
        if overlays is not None:
            sheet = overlays.write_sheet()
            if sheet is not None:
                click.echo(f"{_NAME}: {sheet}", err=True)
    if summary.failed:
        of = summary.failed + len(summary.latencies_ms)
        raise PictureError(f"{summary.failed} of {of} {summary.unit} could not be judged")


def _unjudged(source: Source | None, summary: _Summary) -> str:
    """What a camera sent and nobody judged, for the summary, which counts what was damaged."""
    words = ""
    if isinstance(source, LiveSource):
        source.stop()
        words = f"; {source.received} received, {source.dropped} dropped for newer ones"
    if isinstance(source, CameraSource) and source.damaged:
        summary.failed += source.damaged
        summary.unit = "frames"
        words += f"; {source.damaged} more damaged"
    return words


def _say_conversion(result: Result, said: set[str]) -> None:
    """Mention each kind of conversion once."""
    converted = result.frame.converted
    if converted is not None and converted not in said:
        said.add(converted)
        first = f"frame {result.frame.index}" if result.frame.path is None else printable(result.frame.path)
        click.echo(f"{_NAME}: converting {converted} (first: {first})", err=True)


def _line(result: Result, named: bool) -> str:
    verdict = result.verdict
    word = {True: "anomalous", False: "normal", None: "-"}[verdict.anomalous]
    score, threshold = apart(verdict.score, verdict.threshold)
    if verdict.score is None:
        score = "warming up"
    where = printable(result.frame.path) if result.frame.path else f"frame {result.frame.index}"
    if named and not result.frame.path:
        where = f"{printable(result.frame.source)} {where}"
    if verdict.objects is not None:
        where += f"  {len(verdict.objects)} objects"
        where += f" ({verdict.ignored} more ignored)" if verdict.ignored else ""
    return f"{word:<9}  score {score:<10}  threshold {threshold:<10}  {result.latency_ms:>8.1f} ms  {where}"


def _json_line(result: Result) -> str:
    verdict = result.verdict
    plain = {
        "schema": 1,
        "source": _text(result.frame.source),
        "index": result.frame.index,
        "path": None if result.frame.path is None else _text(result.frame.path),
        "score": verdict.score,
        "threshold": verdict.threshold,
        "anomalous": verdict.anomalous,
        "latency_ms": result.latency_ms,
    }
    if verdict.objects is not None:
        plain["objects"] = [{"box": list(one.box), "score": one.score} for one in verdict.objects]
        plain["ignored"] = verdict.ignored
    return msgspec.json.encode(plain).decode()


def _text(path: str) -> str:
    """A path as JSON can hold it: as it is, or escaped where its bytes are no UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return printable(path)
    return path


def main() -> None:
    """Entry point of ``sspcab-run``."""
    run(command, _NAME)


if __name__ == "__main__":
    main()
