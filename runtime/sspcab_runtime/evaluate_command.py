"""``sspcab-edge evaluate``: how good a bundle is on labelled pictures, on this device."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click
import msgspec

from sspcab_edge.command import PATH, common_options, json_option
from sspcab_edge.datasets import LAYOUTS, read_dataset
from sspcab_edge.errors import OptionError
from sspcab_edge.manifest import Precision, Target
from sspcab_runtime.detector import Detector
from sspcab_runtime.engines.table import ENGINES
from sspcab_runtime.evaluation import evaluate
from sspcab_runtime.evaluation_report import (
    Report,
    check_folder,
    report_json,
    report_text,
    write_report,
    write_texts,
)
from sspcab_runtime.paper import find_published, published_for
from sspcab_runtime.progress import Progress
from sspcab_runtime.video_datasets import VIDEO_LAYOUTS, read_videos
from sspcab_runtime.video_evaluation import evaluate_videos
from sspcab_runtime.video_report import video_json, video_text
from sspcab_runtime.worst_cases import draw_worst_cases, worst_cases

__all__ = ["command"]


@click.command("evaluate")
@click.argument("bundle", type=PATH)
@click.argument("dataset", type=PATH)
@click.option(
    "--layout",
    type=click.Choice([*LAYOUTS, *VIDEO_LAYOUTS]),
    help="How DATASET is laid out. [default: pictures, told by its folders]",
)
@click.option(
    "--tracks",
    type=PATH,
    help="Videos: folder with <video>.txt of anomalous regions by track. [default: from masks]",
)
@click.option(
    "--paper",
    metavar="ROW",
    help="Published row to show beside it: draem, cutpaste or cutpaste:CATEGORY. [default: by host]",
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    help="Write report.json, report.md and worst_cases.png into this folder.",
)
@click.option("--force", is_flag=True, help="Replace files in the output folder that are no earlier report.")
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
@click.option(
    "--target",
    type=click.Choice(get_args(Target)),
    help="Target whose artifact to run. [default: tuned, or backend's]",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of one inference. [default: backend's]")
@click.option("--threshold", type=float, help="Judge by this threshold instead of the bundle's.")
@json_option
@common_options
def command(
    bundle: Path,
    dataset: Path,
    layout: str | None,
    tracks: Path | None,
    paper: str | None,
    output: Path | None,
    force: bool,
    backend: str | None,
    precision: str | None,
    target: str | None,
    threads: int | None,
    threshold: float | None,
    as_json: bool,
) -> None:
    """Judge the labelled pictures in DATASET with the detector in BUNDLE: how good is it, on this device.

    DATASET is laid out as MVTec AD, AD 2, LOCO, BTAD or VisA (a category, its test folder, or several
    categories), as Real-IAD, as KolektorSDD, or in two folders such as good and bad, OK and NG. Masks are
    optional; they may lie beside their images or in a folder of their own.

    With --layout avenue or shanghaitech it holds videos: frame AUC, RBDC and TBDC are given, with the scores
    that this device gives and, called non-causal, with those smoothed as in papers.
    """
    if tracks is not None and layout not in VIDEO_LAYOUTS:
        raise OptionError("--tracks is about videos: give --layout avenue or shanghaitech")
    if output is not None:
        check_folder(output, force, never=(bundle, dataset))
    if layout is not None and layout in VIDEO_LAYOUTS:
        if paper is not None:
            raise OptionError("--paper is about pictures: the row of a video host is shown by itself")
        videos = read_videos(dataset, layout, tracks)
    else:
        data = read_dataset(dataset, layout)
    row = None if paper is None else find_published(paper)
    with Progress("evaluating") as progress:
        detector = Detector.open(
            bundle,
            backend=backend,
            precision=precision,
            target=target,
            threads=threads,
            threshold=threshold,
            progress=lambda done, of: progress.update(done, of, "parity inputs, once on this device"),
        )
        with detector:
            if layout is not None and layout in VIDEO_LAYOUTS:
                found = evaluate_videos(
                    detector, videos, layout, lambda done, of: progress.update(done, of, "frames")
                )
                plain = video_json(detector, layout, found)
                text = video_text(detector, layout, found)
                progress.clear()
                if output is not None:
                    write_texts(plain, f"# {bundle.name}\n\n```\n{text}\n```\n", output)
                click.echo(msgspec.json.encode(plain).decode() if as_json else text)
                return
            evaluation = evaluate(detector, data, lambda done, of: progress.update(done, of, "pictures"))
            names = [category.name for category in data.categories]
            row = published_for(detector.bundle.manifest.host, names) if row is None else row
            report = Report(detector, data, evaluation, row)
            if output is not None:
                write_report(report, draw_worst_cases(detector, worst_cases(evaluation)), output)
    click.echo(msgspec.json.encode(report_json(report)).decode() if as_json else report_text(report))
    if output is not None:
        click.echo(f"report in {output}", err=True)
