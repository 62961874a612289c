"""Fitting a bundle's threshold to normal pictures of the site, on the device that will judge them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import click
import msgspec

from sspcab_edge.bundle import Bundle, replace_manifest
from sspcab_edge.command import PATH, common_options, json_option
from sspcab_edge.datasets import read_normal_images
from sspcab_edge.decision import (
    DEFAULT_FALSE_ALARM_RATE,
    quantiles,
    threshold_from_quantile,
    threshold_from_rate,
)
from sspcab_edge.errors import GateError, OptionError
from sspcab_edge.front_end_spec import VIDEO_KINDS
from sspcab_edge.local_path import local_path
from sspcab_edge.manifest import Decision, Manifest
from sspcab_edge.protocols import Source
from sspcab_runtime.attestation import record_attestation
from sspcab_runtime.detector import Detector
from sspcab_runtime.engines.table import ENGINES
from sspcab_runtime.pipeline import Failure
from sspcab_runtime.progress import Progress
from sspcab_runtime.replay import judge_replay, replay
from sspcab_runtime.sources.files import open_path
from sspcab_runtime.sources.films import find_films
from sspcab_runtime.sources.pictures import Pictures
from sspcab_runtime.tables import number, table

__all__ = ["fit", "normal_scores"]

_LOG = logging.getLogger(__name__)


def fit(
    bundle_path: str | Path,
    folder: str | Path | None,
    *,
    rate: float | None = None,
    quantile: float | None = None,
    threshold: float | None = None,
    backend: str | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Bundle:
    """Give a bundle a threshold that suits its site, as its next release.

    The pictures, or videos of hosts that look at those, are run through the runtime, as live frames are. The
    parity pack is replayed under the new threshold before the manifest is replaced, so that the bundle still
    proves itself afterwards.

    Args:
        bundle_path: The bundle, which must be writable.
        folder: Normal pictures or videos; None only with ``threshold``.
        rate: Share of normal frames that may be flagged; 0.01 when nothing else is given.
        quantile: Instead, the quantile of the normal scores.
        threshold: Instead, this value.
        backend: Which backend scores the pictures; None takes the first installed one.
        threads: For one inference.
        progress: Called with (frames seen, frames in all).

    Raises:
        OptionError: More than one of ``rate``, ``quantile`` and ``threshold``, or one out of range.
        PictureError: No pictures, or one that cannot be decoded: a threshold is not fitted to part of them.
        GateError: The artifact does not give the source's verdicts under the new threshold.
        OutputError: The bundle is not writable.
        BundleError, MissingPackageError, EngineError: As :meth:`Detector.open`.
    """
    if sum(value is not None for value in (rate, quantile, threshold)) > 1:
        raise OptionError("give one of false-alarm rate, quantile and threshold, not several")
    if threshold is not None and not math.isfinite(threshold):
        raise OptionError(f"threshold is {threshold}, expected a finite number")
    if folder is None and threshold is None:
        raise OptionError("give a folder of normal pictures (or videos), or a threshold")
    with Detector.open(bundle_path, backend=backend, threads=threads, prove=False) as detector:
        bundle, artifact = detector.bundle, detector.artifact
        sources = () if folder is None else _sources(bundle.manifest, local_path(folder))
        compared = replay(bundle, artifact, detector.engine)
        scores = normal_scores(detector, sources, progress)
        decision = _decide(scores, rate, quantile, threshold)
        on = f"{detector.engine.backend} {detector.engine.version}"
        parity = judge_replay(artifact, compared, decision.threshold, on)
        if not parity.passed:
            hint = "choose a threshold away from them" if parity.flips else "see sspcab-edge verify"
            raise GateError(
                f"{artifact.name} on {on} would not prove itself with threshold "
                f"{decision.threshold}: {parity.flips} of {parity.pictures} parity inputs flip, scores "
                f"differ by {parity.max_abs_score_diff:.3g}; {hint}"
            )
        release = bundle.manifest.release + 1
        changed = msgspec.structs.replace(bundle.manifest, decision=decision, release=release)
        fitted = replace_manifest(bundle, changed)
        record_attestation(fitted, artifact, detector.engine, parity)
    return fitted


def normal_scores(
    detector: Detector,
    sources: Sequence[Callable[[], Source]],
    progress: Callable[[int, int], None] | None = None,
) -> list[float]:
    """The score of every frame that has one; a front-end that warms up gives none.

    Args:
        detector: Open.
        sources: Each opens pictures, or one video, which are taken from their beginning.
        progress: Called with (frames seen, frames in all, as far as that is known).

    Raises:
        PictureError: A frame cannot be decoded.
        OptionError: No frame of a source has a score.
        EngineError: The engine failed.
    """
    scores: list[float] = []
    seen = 0
    for opened in sources:
        detector.front_end.reset()
        before = len(scores)
        with closing(opened()) as source:
            total = seen + (source.count or 0)
            for result in detector.stream(source):
                if isinstance(result, Failure):
                    raise result.error
                if result.verdict.score is not None:
                    scores.append(result.verdict.score)
                seen += 1
                if progress is not None:
                    progress(seen, max(seen, total))
            if len(scores) == before:
                raise OptionError(f"no frame of {source.uri} gets a score: it is too short to warm up on")
    return scores


def _sources(manifest: Manifest, folder: Path) -> list[Callable[[], Source]]:
    """What the bundle's front-end looks at: all pictures as one source, or every video."""
    if manifest.front_end.kind in VIDEO_KINDS:
        return [partial(open_path, film) for film in find_films(folder)]
    images = read_normal_images(folder)
    for note in images.notes:
        _LOG.warning("%s", note)
    return [lambda: Pictures("fit", images.paths)]


def _decide(
    scores: Sequence[float], rate: float | None, quantile: float | None, threshold: float | None
) -> Decision:
    if threshold is not None:
        normal = quantiles(scores) if scores else None
        return Decision(threshold=threshold, policy="given", normal=normal)
    if quantile is not None:
        return threshold_from_quantile(scores, quantile)
    return threshold_from_rate(scores, DEFAULT_FALSE_ALARM_RATE if rate is None else rate)


@click.command("fit")
@click.argument("bundle", type=PATH)
@click.argument("folder", metavar="[DIR]", required=False, type=PATH)
@click.option(
    "--false-alarm-rate",
    "rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help=f"Share of normal frames that may be flagged. [default: {DEFAULT_FALSE_ALARM_RATE}]",
)
@click.option("--quantile", type=click.FloatRange(0, 1), help="Quantile of the normal scores instead.")
@click.option("--threshold", type=float, help="This threshold instead; DIR is then only described.")
@click.option("--backend", type=click.Choice(list(ENGINES)), help="Backend that scores the pictures.")
@json_option
@common_options
def command(
    bundle: Path,
    folder: Path | None,
    rate: float | None,
    quantile: float | None,
    threshold: float | None,
    backend: str | None,
    as_json: bool,
) -> None:
    """Fit the threshold of BUNDLE to the normal pictures in DIR and write it as the next release.

    For detectors of clips or objects DIR holds videos, or is one.
    """
    before = Bundle.open(bundle).manifest
    with Progress("scoring normal pictures") as progress:
        after = fit(
            bundle,
            folder,
            rate=rate,
            quantile=quantile,
            threshold=threshold,
            backend=backend,
            progress=progress.update,
        )
    old, new = before.decision, after.manifest.decision
    if as_json:
        plain = {
            "schema": 1,
            "bundle": str(bundle),
            "digest": after.digest,
            "release": after.manifest.release,
            "before": msgspec.to_builtins(old),
            "after": msgspec.to_builtins(new),
        }
        click.echo(msgspec.json.encode(plain).decode())
        return
    rows = [_row("before", before.release, old), _row("now", after.manifest.release, new)]
    header = ("", "release", "threshold", "policy", "pictures", "min", "q25", "median", "q75", "max")
    click.echo(table(header, rows, right=(1, 2, 4, 5, 6, 7, 8, 9)))
    click.echo("min to max: scores of normal pictures")
    if new.note is not None:
        click.echo(f"note: {new.note}", err=True)


def _row(name: str, release: int, decision: Decision) -> tuple[str, ...]:
    spread = decision.normal
    figures: tuple[float | None, ...] = (None,) * 5
    if spread is not None:
        figures = (spread.minimum, spread.q25, spread.median, spread.q75, spread.maximum)
    policy = decision.policy if decision.parameter is None else f"{decision.policy} {decision.parameter:g}"
    shown = (number(figure) for figure in figures)
    return (name, str(release), number(decision.threshold, 6), policy, str(decision.fitted_on), *shown)
