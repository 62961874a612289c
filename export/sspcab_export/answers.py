"""What the source says of the user's pictures: scores to fit to, verdicts to judge by, the threshold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from sspcab_edge.errors import OptionError
from sspcab_edge.front_end_spec import FrontEndSpec, Preprocess
from sspcab_edge.manifest import Decision, Rounding
from sspcab_edge.ports import Entry
from sspcab_edge.preprocess import prepare
from sspcab_edge.protocols import FrontEnd
from sspcab_export.asking import Asked, Unit, ask, ask_unit
from sspcab_export.gates import clearance
from sspcab_export.hosts.base import SourceModel
from sspcab_export.hygiene import describe
from sspcab_export.intake import Intake, find_suspects, without
from sspcab_export.levels import fit_levels
from sspcab_export.mixing import mix
from sspcab_export.options import Suspects
from sspcab_export.pictures import Sample, builtin_samples
from sspcab_export.progress import Progress
from sspcab_export.rounding import measure_rounding, rounding_notes
from sspcab_export.thresholds import ThresholdOptions, decide_threshold
from sspcab_export.verify import Judged, blends_near_threshold, judge_source
from sspcab_runtime.frontends.tiles import Tiles

__all__ = ["Answers", "Asker", "ask_source", "mixed_units", "range_entries"]

MAX_UNITS = 128
"""Most units that ranges or score maps are measured on."""

_UNITS_A_PICTURE = 4
_BLEND_PAIRS = 24
_MIXES = (0.15, 0.3, 0.45, 0.6, 0.8)
_MIX_PAIRS = 6
_MIX_REACH = 2.0
_MIXED_RANGES = 16


@dataclass(frozen=True, slots=True)
class Asker:
    """The source behind a front-end.

    Attributes:
        source: The source of truth.
        preprocess: Holds the size of a unit.
        open: Opens a front-end for the source: no score map, no threshold.
        say: Told what happens.
    """

    source: SourceModel
    preprocess: Preprocess
    open: Callable[[FrontEndSpec], FrontEnd]
    say: Progress

    def ask_all(self, spec: FrontEndSpec, samples: Sequence[Sample], what: str) -> list[Asked]:
        """Pictures through front-end and source."""
        if not samples:
            return []
        self.say.stage(f"{what} through the source")
        front_end = self.open(spec)
        asked = []
        for number, sample in enumerate(samples, 1):
            pixels = sample.pixels()
            asked.append(ask(self.source, front_end, pixels, _UNITS_A_PICTURE, sample.name))
            self.say.step(number, len(samples))
        return asked

    def builtin(self) -> list[tuple[str, Entry]]:
        """Natural pictures of another scene, as units."""
        return [
            (
                f"built-in {sample.name}",
                {"frames": prepare(sample.pixels(), self.preprocess)},
            )
            for sample in builtin_samples()
        ]


@dataclass(frozen=True, slots=True)
class Answers:
    """What the source said.

    Attributes:
        fit: Units of pictures that nothing is judged on.
        ranges: Units that ranges are measured on.
        judged: Pictures, and blends near the threshold.
        decision: The threshold.
        rounding: How far rounding alone moves the source's answers.
        intake: The pictures without those that were left out as suspects.
        front_end: With the levels of its tiles, where they were asked for.
        notes: What should be said.
        gone: How many suspects were left out.
    """

    fit: tuple[Unit, ...]
    ranges: tuple[Unit, ...]
    judged: tuple[Judged, ...]
    decision: Decision
    rounding: Rounding | None
    intake: Intake
    front_end: FrontEndSpec
    notes: tuple[str, ...]
    gone: int


def ask_source(
    asker: Asker,
    intake: Intake,
    front_end: FrontEndSpec,
    limits: ThresholdOptions,
    suspects: Suspects,
    checkpoint_threshold: float | None,
    *,
    levels: bool,
) -> Answers:
    """Ask the source for everything that the export needs to know.

    Args:
        asker: The source.
        intake: The user's pictures.
        front_end: How they become units.
        limits: What threshold the user asks for.
        suspects: What to do with normal pictures that the source takes for anomalies.
        checkpoint_threshold: The one that the checkpoint holds.
        levels: Whether to fit levels of tiles.

    Raises:
        HostError: The source fails, or gives a score that is not finite.
        OptionError: Too few pictures are left, or suspects are refused.
        PictureError: A picture does not show what the front-end was set up for.
    """
    samples = (*intake.normal_fit, *intake.labelled_fit, *intake.ranges)
    asked = asker.ask_all(front_end, samples, "fit pictures")
    if levels:
        front_end = _with_levels(asker, front_end, asked[: len(intake.normal_fit)])
        asked = asker.ask_all(front_end, samples, "fit pictures, tiles on one scale,")
    asker.say.stage("judge pictures through the source")
    total = len(intake.judge)
    judged = judge_source(
        asker.source, asker.open(front_end), intake.judge, lambda done: asker.say.step(done, total)
    )

    scored = list(zip(samples, asked, strict=True))
    normal = {sample.digest for sample in intake.inspected.kept}
    own = [(sample, _score(one)) for sample, one in scored if sample.digest in normal]
    own += [
        (one.sample, one.expected.score)
        for one in judged
        if one.sample is not None and one.sample.digest in normal
        if one.expected is not None and one.expected.score is not None
    ]
    found, gone = find_suspects(intake, own, suspects)
    intake = without(intake, gone)
    judged = [_unlabelled(one, gone) for one in judged]
    left = {sample.digest: one for sample, one in scored}
    fit_normal = [left[sample.digest] for sample in intake.normal_fit]
    fit_labelled = [left[sample.digest] for sample in intake.labelled_fit]
    labels = [
        (_score(one), bool(sample.label))
        for sample, one in zip(intake.labelled_fit, fit_labelled, strict=True)
    ]
    good = [_score(one) for one in fit_normal]
    if limits.threshold is not None and not intake.normal_fit:  # nothing is fitted: all are judged
        good = [score for sample, score in own if sample.digest not in gone]
    decision = decide_threshold(limits, good, labels, checkpoint_threshold)
    texts = tuple(describe(found))
    if found and suspects == "keep":
        texts = tuple(f"{text} (kept, as told)" for text in texts)
    if decision.note:
        texts = (*texts, decision.note)
    asker.say.stage("asking the source again, with other rounding")
    rounding = measure_rounding(asker.source, judged, decision)
    texts = (*texts, *rounding_notes(rounding))
    blends = _blends(asker, judged, intake, decision, rounding)
    return Answers(
        fit=_few([*fit_normal, *fit_labelled]),
        ranges=_few([left[sample.digest] for sample in intake.ranges]),
        judged=(*judged, *blends),
        decision=decision,
        rounding=rounding,
        intake=intake,
        front_end=front_end,
        notes=texts,
        gone=len(gone),
    )


def mixed_units(asker: Asker, answers: Answers) -> list[Unit]:
    """Fit units mixed with foreign ones, so that score maps are fitted above normal scores too.

    Those that score far above the threshold are left out: nothing flips there, and a foreign picture is not
    what ranges were measured for.
    """
    if not answers.fit:
        return []
    threshold, normal = answers.decision.threshold, answers.decision.normal
    limit = np.inf
    if threshold is not None and normal is not None:
        limit = threshold + _MIX_REACH * max(threshold - normal.median, normal.iqr)
    asker.say.stage("mixing fit pictures")
    ordered = sorted(answers.fit, key=lambda one: one.score)
    foreign = asker.builtin()
    mixes: list[Unit] = []
    done = 0
    for pair in range(min(_MIX_PAIRS, len(ordered))):
        base = ordered[pair * (len(ordered) - 1) // max(1, min(_MIX_PAIRS, len(ordered)) - 1)]
        _, other = foreign[pair % len(foreign)]
        for share in _MIXES:
            unit = ask_unit(asker.source, mix(base.entry, other, share))
            if unit.score <= limit:
                mixes.append(unit)
            done += 1
            asker.say.step(done, _MIX_PAIRS * len(_MIXES))
    return mixes


def range_entries(asker: Asker, answers: Answers) -> list[Entry]:
    """Units that ranges are measured on: those meant for it, else fit units, else built-in pictures.

    Some are mixed half and half with built-in ones: anomalies excite what normal pictures do not, and ranges
    of normal pictures alone would cut their scores off (on the demo detector the largest error of an int8
    score falls from 0.14 to 0.02, that of normal pictures does not rise).
    """
    foreign = [entry for _, entry in asker.builtin()]
    own = [one.entry for one in answers.ranges or answers.fit]
    mixed = [mix(entry, foreign[i % len(foreign)], 0.5) for i, entry in enumerate(own[:_MIXED_RANGES])]
    return [*own, *mixed] or foreign


def _with_levels(asker: Asker, spec: FrontEndSpec, asked: Sequence[Asked]) -> FrontEndSpec:
    front_end = asker.open(spec)
    if spec.tiles is None or not isinstance(front_end, Tiles):
        raise OptionError("--tile-levels is about tiles: give --tiles")
    count = len(front_end.rows) * len(front_end.columns)
    fitted = fit_levels([one.scores for one in asked], front_end.numbers, count)
    return msgspec.structs.replace(spec, tiles=msgspec.structs.replace(spec.tiles, levels=fitted))


def _score(asked: Asked) -> float:
    assert asked.verdict.score is not None
    return asked.verdict.score


def _few(asked: Sequence[Asked]) -> tuple[Unit, ...]:
    """Units of these pictures, the worst of each first; never fewer than one a picture."""
    worst = [one.units[0] for one in asked]
    others = [unit for one in asked for unit in one.units[1:]]
    room = max(0, MAX_UNITS - len(worst))
    if len(others) > room:
        step = len(others) / room if room else 0.0
        others = [others[int(n * step)] for n in range(room)]
    return (*worst, *others)


def _unlabelled(one: Judged, digests: frozenset[str]) -> Judged:
    if one.sample is None or one.item is None or one.sample.digest not in digests:
        return one
    return Judged(replace(one.item, label=None), one.sample, one.expected)


def _blends(
    asker: Asker,
    judged: Sequence[Judged],
    intake: Intake,
    decision: Decision,
    rounding: Rounding | None,
) -> list[Judged]:
    """Blends of judge units near the threshold, with the source's answers."""
    if decision.threshold is None:
        return []
    asker.say.stage("mixing judge pictures near the threshold")
    foreign = asker.builtin() if intake.scene == "given" else []
    pairs = min(_BLEND_PAIRS, max(3, len(judged) // 3))
    blends = blends_near_threshold(
        asker.source,
        judged,
        foreign,
        decision,
        clearance(decision, rounding),
        pairs,
        lambda done: asker.say.step(done, pairs * 7),
    )
    if not blends:
        asker.say.note("no blend lies near the threshold: no picture scores on one side of it")
    return blends
