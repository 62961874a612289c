"""``sspcab-daemon learn``: a threshold from normal footage, or how much is missing for one."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click
import numpy as np

from sspcab_edge.command import LocalPath, common_options, json_option
from sspcab_edge.errors import EdgeError, OptionError, PictureError
from sspcab_edge.learning import Learned, NotEnough, learn_threshold
from sspcab_edge.local_path import local_path
from sspcab_edge.printable import one_line
from sspcab_edge.protocols import Source
from sspcab_runtime.daemon.config import CameraConfig
from sspcab_runtime.daemon.config_file import read_config
from sspcab_runtime.detector import Detector
from sspcab_runtime.secrets import read_secret
from sspcab_runtime.sources.camera_address import camera_address
from sspcab_runtime.sources.live import NewestFrame
from sspcab_runtime.sources.pictures import at_bit_depth
from sspcab_runtime.sources.streams import StreamOptions
from sspcab_runtime.sources.table import is_live, open_source

__all__ = ["learn"]

_DAY_S = 86400.0
_NOT_ENOUGH = 3


@click.command("learn")
@click.option("--config", "path", type=LocalPath(dir_okay=False), required=True)
@click.option("--camera", required=True, help="Name of the camera in the configuration.")
@click.option("--source", help="Footage to learn from instead of the camera: a video or a folder.")
@click.option("--minutes", type=click.FloatRange(min=0.01), default=60.0, show_default=True)
@click.option(
    "--rate",
    type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
    default=0.001,
    show_default=True,
    help="Wished share of normal frames above the threshold.",
)
@json_option
@common_options
@click.pass_context
def learn(
    context: click.Context,
    path: Path,
    camera: str,
    source: str | None,
    minutes: float,
    rate: float,
    as_json: bool,
) -> None:
    """Judge normal footage and find the threshold that a wished share of its frames exceeds.

    The interval of the true share honours that frames which follow each other are alike. Where the footage
    cannot tell, the exit status is 3 and the text says how much is needed. The alarm table's smoothing and
    k-of-n make false alarms rarer than frames above the threshold.
    """
    config = read_config(path)
    if camera not in config.cameras:
        raise OptionError(f"there is no camera {camera}: expected one of {', '.join(config.cameras)}")
    table = config.cameras[camera]
    folder = path.resolve().parent
    bundle = config.bundles[table.bundle]
    scores: list[float] = []
    with Detector.open(
        folder / local_path(bundle.path), backend=bundle.backend, precision=bundle.precision
    ) as detector:
        footage = _open(table, folder / local_path(config.files or "."), source)
        at_bit_depth(footage, detector.bundle.manifest.preprocess.bit_depth)
        try:
            seconds = _judge(detector, footage, minutes * 60, scores)
        finally:
            footage.close()
    found = learn_threshold(np.asarray(scores), rate)
    if as_json:
        click.echo(json.dumps(_as_json(found, len(scores), rate)))
    else:
        for line in _as_text(found, camera, len(scores), seconds):
            click.echo(line)
    if isinstance(found, NotEnough):
        context.exit(_NOT_ENOUGH)


def _open(table: CameraConfig, files: Path, source: str | None) -> Source:
    if source is not None:
        if is_live(source):
            raise OptionError("--source is footage, a video or a folder: a camera is named by --camera")
        return open_source(source)
    password = None if table.password is None else read_secret(table.password)
    options = StreamOptions(
        open_s=table.open_s, read_s=table.read_s, max_pixels=table.max_pixels, assumed=table.colour,
        transport=table.transport, user=table.user, password=password, width=table.width, height=table.height,
    )  # fmt: skip
    return NewestFrame(camera_address(table.source, files), options)


def _judge(detector: Detector, footage: Source, seconds: float, scores: list[float]) -> float:
    begin = said = time.monotonic()
    while True:
        now = time.monotonic()
        try:
            frame = next(footage, None)
            if frame is None:
                break
            if frame.gap:
                detector.front_end.reset()
            verdict = detector(frame.pixels)
        except PictureError as error:
            click.echo(f"a frame was left out: {one_line(str(error))}", err=True)
            continue
        if verdict.score is not None:
            scores.append(verdict.score)
        if now - said > 5 and sys.stderr.isatty():
            said = now
            click.echo(f"{len(scores)} frames, {now - begin:.0f} of {seconds:.0f} s", err=True)
        if now - begin > seconds:
            break
    if not scores:
        raise EdgeError("the footage gave no scores")
    return time.monotonic() - begin


def _as_json(found: Learned | NotEnough, frames: int, rate: float) -> dict[str, object]:
    shared = {"schema": 1, "frames": frames, "effective": found.effective, "wished": rate}
    if isinstance(found, NotEnough):
        return {**shared, "threshold": None, "needed_share": found.needed_share}
    return {**shared, "threshold": found.threshold, "rate": found.rate, "interval95": [found.low, found.high]}


def _as_text(found: Learned | NotEnough, camera: str, frames: int, seconds: float) -> list[str]:
    worth = f"{frames} frames, worth {found.effective:.0f} independent ones"
    if isinstance(found, NotEnough):
        more = found.needed_share * seconds / 60
        return [f"not enough yet: {worth}; about {more:.0f} minutes are needed for this rate"]
    day = frames / seconds * _DAY_S
    return [
        f"{worth}",
        f"share above: {found.rate:.3%}, 95 % interval {found.low:.3%} to {found.high:.3%} "
        f"({found.low * day:.0f} to {found.high * day:.0f} frames a day)",
        "",
        f"[cameras.{camera}.alarm]",
        f"threshold = {found.threshold:.6g}",
    ]
