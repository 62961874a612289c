"""The user's pictures, looked at and split by use before anything is computed from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import OptionError
from sspcab_edge.manifest import Calibration, Preprocess
from sspcab_export.hosts.base import SourceModel
from sspcab_export.hygiene import (
    MINIMUM_PICTURES,
    Finding,
    Inspected,
    describe,
    fingerprint,
    inspect_pictures,
    require_usable,
    suspects,
)
from sspcab_export.pictures import (
    Sample,
    builtin_samples,
    conversions,
    labelled_samples,
    load_frame,
    normal_samples,
)
from sspcab_export.splits import Split, split_samples
from sspcab_export.verify import source_score

__all__ = [
    "Intake",
    "Scored",
    "Suspects",
    "calibration_record",
    "find_suspects",
    "read_pictures",
    "score_pictures",
    "without",
]

Suspects = Literal["exclude", "keep", "refuse"]

_FIT_SHARE = 0.5
_RANGES_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Intake:
    """Pictures by use.

    Attributes:
        normal_fit: Normal ones for threshold and score maps.
        labelled_fit: Labelled ones for them, where there are no others.
        ranges: Normal ones for the ranges of int8.
        judge: For the gate.
        scene: Whether they are the user's at all.
        inspected: What was found in the calibration pictures.
        notes: What should be said.
    """

    normal_fit: tuple[Sample, ...]
    labelled_fit: tuple[Sample, ...]
    ranges: tuple[Sample, ...]
    judge: tuple[Sample, ...]
    scene: Literal["given", "built-in"]
    inspected: Inspected
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scored:
    """A picture that nothing is judged on, with what the source says of it.

    Attributes:
        sample: The picture.
        pixels: (h, w, 3) uint8 RGB at graph size.
        score: The source's.
    """

    sample: Sample
    pixels: npt.NDArray[np.uint8]
    score: float


def read_pictures(
    calibration: Path | None,
    validation: Path | None,
    *,
    wants_normal_scores: bool,
    threshold_given: bool,
    for_ranges: bool,
) -> Intake:
    """Read the user's pictures, leave out the useless ones, and split the rest; built-in ones without any.

    Raises:
        PictureError: A folder holds no pictures, or one cannot be decoded.
        OptionError: Too few pictures for what is asked, or none.
    """
    if for_ranges and calibration is None:
        raise OptionError(
            "int8 needs normal pictures of the scene to measure ranges on: give --calibration DIR "
            f"({MINIMUM_PICTURES} or more)"
        )
    if calibration is None and validation is None:
        if wants_normal_scores:
            raise OptionError("a false-alarm rate or quantile needs normal pictures: give --calibration DIR")
        note = "no pictures given: judged on built-in natural pictures, not your scene"
        nothing = Inspected((), (), ())
        return Intake((), (), (), tuple(builtin_samples()), "built-in", nothing, (note,))
    everything = normal_samples(calibration) if calibration is not None else []
    inspected = inspect_pictures(everything)
    if everything:
        require_usable(inspected, (), MINIMUM_PICTURES if for_ranges else 1)
    notes = [*inspected.notes, *describe(inspected.findings)]
    normal = inspected.kept
    labelled = labelled_samples(validation) if validation is not None else []
    seen = {sample.digest for sample in everything}
    repeated = sum(sample.digest in seen for sample in labelled)
    if repeated:
        notes.append(f"{repeated} pictures of --validation are in --calibration too: left out of judging")
        labelled = [sample for sample in labelled if sample.digest not in seen]
    own = split_samples(normal, _FIT_SHARE, _RANGES_SHARE if for_ranges else 0.0)
    labels = split_samples(labelled, 0.0 if normal or threshold_given else _FIT_SHARE)
    notes.extend(conversions([*normal, *labelled]))
    judge = (*own.judge, *labels.judge)
    if not judge or (normal and not (own.fit and own.judge)):
        raise OptionError(
            f"{len(normal) + len(labelled)} pictures cannot both fit the threshold and judge it: "
            "give more, or ones that are not near-duplicates"
        )
    if for_ranges and not own.ranges:
        own = _ranges_from_judge(own)
    return Intake(
        own.fit, labels.fit, own.ranges, (*own.judge, *labels.judge), "given", inspected, tuple(notes)
    )


def _ranges_from_judge(split: Split) -> Split:
    """Half of the judge pictures for ranges, where near-duplicates left none."""
    half = len(split.judge) // 2
    if not half:
        raise OptionError(
            "the calibration pictures are near-duplicates of each other: too few remain to measure ranges, "
            "fit and judge; give pictures that differ"
        )
    return Split(split.fit, split.judge[half:], split.judge[:half], split.duplicates)


def score_pictures(
    source: SourceModel, samples: Sequence[Sample], preprocess: Preprocess, progress: Callable[[int], None]
) -> list[Scored]:
    """The source's score of each picture.

    Raises:
        HostError: A score is not finite.
        PictureError: A picture cannot be decoded any more.
    """
    scored = []
    for number, sample in enumerate(samples, 1):
        pixels = load_frame(sample, preprocess)
        scored.append(Scored(sample, pixels, source_score(source, pixels)[0]))
        progress(number)
    return scored


def find_suspects(
    intake: Intake, scored: Sequence[tuple[Sample, float]], treatment: Suspects
) -> tuple[tuple[Finding, ...], frozenset[str]]:
    """Calibration pictures that the source takes for anomalies, and the digests of those to leave out.

    Raises:
        OptionError: There are some and the user wants none, or so many that the folder is not normal.
    """
    if not intake.inspected.kept:
        return (), frozenset()
    found = suspects(scored)
    if found and treatment == "refuse":
        raise OptionError(f"{describe(found)[0]}; remove them, or choose --suspects exclude or keep")
    if treatment == "keep":
        return found, frozenset()
    require_usable(intake.inspected, found)
    names = {finding.name for finding in found}
    return found, frozenset(sample.digest for sample, _ in scored if sample.name in names)


def calibration_record(intake: Intake, suspected: int) -> Calibration | None:
    """What the manifest says of the pictures; None where there were none of the user's."""
    if intake.scene == "built-in":
        return None
    used = (*intake.normal_fit, *intake.labelled_fit, *intake.ranges, *intake.judge)
    reasons = Counter(
        finding.kind for finding in intake.inspected.findings if finding.kind != "near-duplicate"
    )
    excluded: dict[str, int] = {str(kind): count for kind, count in sorted(reasons.items())}
    if suspected:
        excluded["suspect"] = suspected
    return Calibration(
        fingerprint=fingerprint(used),
        ranges=len(intake.ranges),
        fit=len(intake.normal_fit) + len(intake.labelled_fit),
        judge=len(intake.judge),
        excluded=excluded,
    )


def without(intake: Intake, digests: frozenset[str]) -> Intake:
    """The pictures without suspects: they are not fitted to, and are judged on without a label.

    Raises:
        OptionError: Nothing is left to fit or measure on.
    """
    if not digests:
        return intake
    left = replace(
        intake,
        normal_fit=tuple(s for s in intake.normal_fit if s.digest not in digests),
        ranges=tuple(s for s in intake.ranges if s.digest not in digests),
        judge=tuple(replace(s, label=None) if s.digest in digests else s for s in intake.judge),
    )
    if (intake.normal_fit and not left.normal_fit) or (intake.ranges and not left.ranges):
        raise OptionError(
            "no calibration pictures are left without the suspected anomalies: give more normal pictures"
        )
    return left
