"""The user's pictures, looked at and split by use before anything is computed from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sspcab_edge.bit_depth import BitDepth
from sspcab_edge.errors import OptionError
from sspcab_edge.manifest import Calibration
from sspcab_export.bit_range import measured_bit_depth
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
from sspcab_export.near_duplicates import TOGETHER, find_links
from sspcab_export.options import Suspects
from sspcab_export.pictures import (
    Sample,
    Samples,
    builtin_samples,
    conversions,
    labelled_samples,
    normal_samples,
    read_again,
)
from sspcab_export.splits import Cut, split_samples

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
        correlation: How much of what is judged was seen by what is fitted: see
            :meth:`~sspcab_export.near_duplicates.Links.correlation`.
        cut: How many pictures are near-duplicates in groups that had to be split.
        bit_depth: How many bits are in use in those of 16 per channel.
    """

    normal_fit: tuple[Sample, ...]
    labelled_fit: tuple[Sample, ...]
    ranges: tuple[Sample, ...]
    judge: tuple[Sample, ...]
    scene: Literal["given", "built-in"]
    inspected: Inspected
    notes: tuple[str, ...]
    training: tuple[Sample, ...] = ()
    correlation: float | None = None
    cut: int = 0
    bit_depth: BitDepth = 16


def read_pictures(
    calibration: Path | None,
    validation: Path | None,
    *,
    wants_normal_scores: bool,
    threshold_given: bool,
    for_ranges: bool,
    fits: bool = True,
    for_training: bool = False,
    training: Path | None = None,
    bit_depth: BitDepth | None = None,
) -> Intake:
    """Read the user's pictures, leave out the useless ones, and split the rest; built-in ones without any.

    Args:
        calibration: Folder of normal pictures.
        validation: Folder of labelled ones.
        wants_normal_scores: Whether the threshold has to be fitted to normal ones.
        threshold_given: Whether it needs none at all.
        for_ranges: Whether ranges of int8 are measured.
        fits: Whether anything at all is fitted to normal ones: a threshold, score maps, levels of tiles.
            Otherwise all of them are judged.
        for_training: Whether the host has to see normal pictures before it scores any.
        training: Folder of pictures for that, all of it; None: half of ``calibration``.
        bit_depth: How many bits are in use in images of 16 per channel; None: as many as they hold values of.

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
    if calibration is None and validation is None:
        if wants_normal_scores:
            raise OptionError("a false-alarm rate or quantile needs normal pictures: give --calibration DIR")
        notes = ["no pictures given: judged on built-in natural pictures, not your scene"]
        seen_first: Sequence[Sample] = ()
        _, _, trained, bits = _read_folders(None, None, training, bit_depth, notes)
        if training is not None:
            seen_first = _training_alone(trained, (), notes)
            notes[0] = "only --training given: judged on built-in natural pictures, not your scene"
        builtin = tuple(builtin_samples())
        nothing = Inspected((), (), ())
        return Intake(
            (), (), (), builtin, "built-in", nothing, tuple(notes), tuple(seen_first), bit_depth=bits
        )
    notes = []
    given, told, trained, bits = _read_folders(calibration, validation, training, bit_depth, notes)
    everything = given.samples
    inspected = inspect_pictures(everything)
    if everything:
        require_usable(inspected, (), MINIMUM_PICTURES if for_ranges else 1)
    notes = [*given.notes, *notes, *inspected.notes, *describe(inspected.findings), *told.notes]
    normal = inspected.kept
    labelled: Sequence[Sample] = told.samples
    seen = {sample.digest for sample in everything}
    repeated = sum(sample.digest in seen for sample in labelled)
    if repeated:
        notes.append(f"{repeated} pictures of --validation are in --calibration too: left out of judging")
        labelled = [sample for sample in labelled if sample.digest not in seen]
    links = inspected.links
    cuts: list[Cut] = []
    seen_first = ()
    if for_training and training is not None:
        seen_first = _training_alone(trained, (*normal, *labelled), notes)
    elif for_training:
        halves = split_samples(normal, links, _TRAINING_SHARE)
        notes.append(f"the host is fitted to {len(halves.fit)} of the {len(normal)} calibration pictures")
        seen_first, normal = halves.fit, halves.judge
        cuts.extend(halves.cuts)
    own = split_samples(normal, links, _FIT_SHARE if fits else 0.0, _RANGES_SHARE if for_ranges else 0.0)
    labels_share = 0.0 if normal or threshold_given else _FIT_SHARE
    labels = split_samples(labelled, find_links(labelled if labels_share else ()), labels_share)
    notes.extend(conversions([*normal, *labelled]))
    judge = (*own.judge, *labels.judge)
    if not judge or (normal and fits and not (own.fit and own.judge)) or (for_ranges and not own.ranges):
        raise OptionError(
            f"{len(normal) + len(labelled)} pictures cannot both fit the threshold and judge it"
            f"{' and measure ranges' if for_ranges else ''}: give more"
        )
    cuts += [*own.cuts, *labels.cuts]
    correlation = links.correlation((*seen_first, *own.fit, *own.ranges), own.judge)
    notes.extend(_dependence(cuts, correlation))
    return Intake(
        normal_fit=own.fit,
        labelled_fit=labels.fit,
        ranges=own.ranges,
        judge=judge,
        scene="given",
        inspected=inspected,
        notes=tuple(notes),
        training=tuple(seen_first),
        correlation=correlation,
        cut=sum(cut.pictures for cut in cuts),
        bit_depth=bits,
    )


def _read_folders(
    calibration: Path | None,
    validation: Path | None,
    training: Path | None,
    told: BitDepth | None,
    notes: list[str],
) -> tuple[Samples, Samples, Samples, BitDepth]:
    """What lies in each folder, with one bit depth for all that have 16 bits per channel."""
    nothing = Samples((), ())
    found = (
        nothing if calibration is None else normal_samples(calibration),
        nothing if validation is None else labelled_samples(validation),
        nothing if training is None else normal_samples(training),
    )
    used = [(sample.name, sample.used) for one in found for sample in one.samples]
    bits, texts = measured_bit_depth(used, told)
    notes.extend(texts)
    normal, labelled, trained = (replace(one, samples=read_again(one.samples, bits)) for one in found)
    return normal, labelled, trained, bits


def _dependence(cuts: Sequence[Cut], correlation: float | None) -> list[str]:
    """What should be said of pictures on both sides of a split that have something in common."""
    notes = []
    for cut in cuts:
        alike = "they are too few to tell how much those on either side have in common"
        if cut.likeness is not None:
            alike = f"details of two that are apart correlate by up to {cut.likeness:.2f}"
        notes.append(
            f"{cut.pictures} pictures are near-duplicates of each other, too many for one side: split where "
            f"they are least alike, and {alike}; what is judged was seen in part, add pictures of other times"
        )
    if correlation is not None:
        apart = "separate exposures" if correlation < TOGETHER else "not independent"
        notes.append(
            f"one scene is fitted to and judged: the details of half the judged pictures correlate by "
            f"{correlation:.2f} or more with some that was fitted to ({apart}; copies have {TOGETHER} to 1)"
        )
    return notes


def _training_alone(found: Samples, others: Sequence[Sample], notes: list[str]) -> Sequence[Sample]:
    """All usable pictures of --training that are not among the others: what the host is fitted to."""
    inspected = inspect_pictures(found.samples)
    require_usable(inspected, (), 1)
    texts = (*found.notes, *inspected.notes, *describe(inspected.findings))
    notes.extend(f"--training: {text}" for text in texts)
    elsewhere = {sample.digest for sample in others}
    kept = [sample for sample in inspected.kept if sample.digest not in elsewhere]
    if len(kept) < len(inspected.kept):
        notes.append(
            f"{len(inspected.kept) - len(kept)} pictures of --training are among the others: left out"
        )
    if not kept:
        raise OptionError("--training holds no pictures that are not in --calibration or --validation too")
    notes.append(f"the host is fitted to all {len(kept)} pictures of --training, and nothing else is")
    return kept


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
    judge = intake.judge if intake.scene == "given" else ()
    used = (*intake.training, *intake.normal_fit, *intake.labelled_fit, *intake.ranges, *judge)
    if not used:
        return None
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
        judge=len(judge),
        training=len(intake.training),
        correlation=intake.correlation,
        cut=intake.cut,
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
