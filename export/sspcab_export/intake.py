"""The user's pictures, looked at and split by use before anything is computed from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sspcab_edge.errors import OptionError
from sspcab_edge.manifest import Calibration
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
from sspcab_export.options import Suspects
from sspcab_export.pictures import (
    Sample,
    Samples,
    builtin_samples,
    conversions,
    labelled_samples,
    normal_samples,
)
from sspcab_export.splits import Split, split_samples

__all__ = [
    "Intake",
    "calibration_record",
    "find_suspects",
    "read_pictures",
    "without",
]

_FIT_SHARE = 0.5
_RANGES_SHARE = 0.25
_TRAINING_SHARE = 0.5


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
        training: Normal ones that the host is fitted to before it scores any.
    """

    normal_fit: tuple[Sample, ...]
    labelled_fit: tuple[Sample, ...]
    ranges: tuple[Sample, ...]
    judge: tuple[Sample, ...]
    scene: Literal["given", "built-in"]
    inspected: Inspected
    notes: tuple[str, ...]
    training: tuple[Sample, ...] = ()


def read_pictures(
    calibration: Path | None,
    validation: Path | None,
    *,
    wants_normal_scores: bool,
    threshold_given: bool,
    for_ranges: bool,
    for_training: bool = False,
    training: Path | None = None,
) -> Intake:
    """Read the user's pictures, leave out the useless ones, and split the rest; built-in ones without any.

    Args:
        calibration: Folder of normal pictures.
        validation: Folder of labelled ones.
        wants_normal_scores: Whether the threshold has to be fitted to normal ones.
        threshold_given: Whether it needs none at all.
        for_ranges: Whether ranges of int8 are measured.
        for_training: Whether the host has to see normal pictures before it scores any.
        training: Folder of pictures for that; None: half of ``calibration``.

    Raises:
        PictureError: A folder holds no pictures, or one cannot be decoded.
        OptionError: Too few pictures for what is asked, or none.
    """
    if for_ranges and calibration is None:
        raise OptionError(
            "int8 needs normal pictures of the scene to measure ranges on: give --calibration DIR "
            f"({MINIMUM_PICTURES} or more)"
        )
    if training is not None and not for_training:
        raise OptionError("--training is for hosts that are fitted to pictures at export: this one is not")
    if for_training and calibration is None and training is None:
        raise OptionError(
            "this host scores by how far a picture lies from normal ones: give --calibration DIR, "
            "or what its density was fitted to with --density-arrays"
        )
    if calibration is None and validation is None and training is not None:
        calibration, training = training, None
    if calibration is None and validation is None:
        if wants_normal_scores:
            raise OptionError("a false-alarm rate or quantile needs normal pictures: give --calibration DIR")
        note = "no pictures given: judged on built-in natural pictures, not your scene"
        nothing = Inspected((), (), ())
        return Intake((), (), (), tuple(builtin_samples()), "built-in", nothing, (note,))
    given = normal_samples(calibration) if calibration is not None else Samples((), ())
    everything = given.samples
    inspected = inspect_pictures(everything)
    if everything:
        require_usable(inspected, (), MINIMUM_PICTURES if for_ranges else 1)
    notes = [*given.notes, *inspected.notes, *describe(inspected.findings)]
    normal = inspected.kept
    labelled: Sequence[Sample] = ()
    if validation is not None:
        told = labelled_samples(validation)
        labelled = told.samples
        notes.extend(told.notes)
    seen = {sample.digest for sample in everything}
    repeated = sum(sample.digest in seen for sample in labelled)
    if repeated:
        notes.append(f"{repeated} pictures of --validation are in --calibration too: left out of judging")
        labelled = [sample for sample in labelled if sample.digest not in seen]
    seen_first: Sequence[Sample] = ()
    if for_training:
        seen_first, normal = _for_training(training, normal, labelled, notes)
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
    judge = (*own.judge, *labels.judge)
    return Intake(own.fit, labels.fit, own.ranges, judge, "given", inspected, tuple(notes), tuple(seen_first))


def _for_training(
    folder: Path | None, normal: Sequence[Sample], labelled: Sequence[Sample], notes: list[str]
) -> tuple[Sequence[Sample], tuple[Sample, ...]]:
    """Pictures that the host is fitted to, and those that are left for everything else."""
    if folder is None:
        halves = split_samples(normal, _TRAINING_SHARE)
        notes.append(f"the host is fitted to {len(halves.fit)} of the {len(normal)} calibration pictures")
        return halves.fit, halves.judge
    found = normal_samples(folder)
    inspected = inspect_pictures(found.samples)
    require_usable(inspected, (), 1)
    texts = (*found.notes, *inspected.notes, *describe(inspected.findings))
    notes.extend(f"--training: {text}" for text in texts)
    others = {sample.digest for sample in (*normal, *labelled)}
    kept = [sample for sample in inspected.kept if sample.digest not in others]
    if len(kept) < len(inspected.kept):
        notes.append(
            f"{len(inspected.kept) - len(kept)} pictures of --training are among the others: left out"
        )
    if not kept:
        raise OptionError("--training holds no pictures that are not in --calibration or --validation too")
    return kept, tuple(normal)


def _ranges_from_judge(split: Split) -> Split:
    """Half of the judge pictures for ranges, where near-duplicates left none."""
    half = len(split.judge) // 2
    if not half:
        raise OptionError(
            "the calibration pictures are near-duplicates of each other: too few remain to measure ranges, "
            "fit and judge; give pictures that differ"
        )
    return Split(split.fit, split.judge[half:], split.judge[:half], split.duplicates)


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
    used = (*intake.training, *intake.normal_fit, *intake.labelled_fit, *intake.ranges, *intake.judge)
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
        training=len(intake.training),
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
