"""What ``gathering`` does with pictures, for hosts that look at clips or at objects in videos.

The front-end runs over every video from its beginning, as on a device; what its frames are used for follows
from where they lie (see :class:`~sspcab_export.footage.Footage`).
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_edge.errors import OptionError
from sspcab_edge.front_end_spec import FrontEndSpec, Preprocess
from sspcab_edge.local_path import local_path
from sspcab_edge.manifest import Calibration, Decision, Model, OtherRounding, Rounding
from sspcab_edge.parity import PackItem
from sspcab_edge.ports import Array, Entry, Port, object_ports
from sspcab_edge.protocols import FrontEnd, Request
from sspcab_export.asking import Asked, Unit, answered, ask_unit, entry_of, spread
from sspcab_export.footage import Footage, Use, find_footage, frames_of
from sspcab_export.front_end_options import FrontEndOptions
from sspcab_export.gates import clearance
from sspcab_export.gathering import Gathered, Wanted, source_front_end, with_bit_depth
from sspcab_export.hosts import LoadedHost
from sspcab_export.hosts.base import Scored, VideoInputs
from sspcab_export.mixing import mix
from sspcab_export.object_framing import make_video_front_end
from sspcab_export.progress import Progress, Silent
from sspcab_export.rounding import measure_rounding, rounding_notes
from sspcab_export.synthetic import builtin_entries, foreign_entries, stress_entries
from sspcab_export.thresholds import decide_threshold
from sspcab_export.verify import Judged, blends_near_threshold

__all__ = ["collect_objects", "gather_footage"]

MAX_UNITS = 256
"""Most units that ranges or score maps are measured on."""

MAX_TRAINING = 2000
"""Most units that a host is fitted to."""

MAX_JUDGED = 600
"""Most frames of all videos that artifacts are judged on."""

MIN_SCORES = 20
"""Fewest frames with a verdict that a threshold is fitted to."""

_UNITS_A_FRAME = 4
_BLEND_PAIRS = 24
_MIXES = (0.15, 0.3, 0.45, 0.6, 0.8)
_MIX_PAIRS = 6


_T = TypeVar("_T")


@dataclass(slots=True)
class _Seen:
    """What was collected on the way through the videos."""

    scores: list[float] = field(default_factory=list)
    fit: list[Unit] = field(default_factory=list)
    ranges: list[Unit] = field(default_factory=list)
    judge: list[tuple[str, Request, bool]] = field(default_factory=list)
    frames: dict[Use, int] = field(default_factory=lambda: {"fit": 0, "ranges": 0, "judge": 0})


def gather_footage(loaded: LoadedHost, model: Model, wanted: Wanted, folder: Path, say: Progress) -> Gathered:
    """Ask the source about the user's videos; without any, about synthetic objects of no scene.

    Raises:
        EdgeError: Videos, front-end or source are not fit for it.
    """
    _check(loaded, wanted)
    loaded = with_bit_depth(_scaled(loaded, wanted.framing.flow_scale), wanted.bit_depth or 16)
    if wanted.calibration is None:
        return _without_videos(loaded, model, wanted, folder, say)
    say.stage("reading videos")
    footage = find_footage(wanted.calibration, say, wanted.bit_depth)
    loaded = with_bit_depth(loaded, footage[0].bit_depth)
    spec = make_video_front_end(wanted.framing, loaded, footage[0].size, folder)
    ranges = "int8" in wanted.precisions
    if loaded.fit is not None:
        loaded, model, spec = _fitted(loaded, model, footage, spec, folder, ranges, say)
    host = with_bit_depth(loaded, footage[0].bit_depth)
    say.stage("videos through the source")
    seen = _walk(host, source_front_end(host, model, spec, folder), footage, ranges, say)
    if len(seen.scores) < MIN_SCORES:
        raise OptionError(
            f"{len(seen.scores)} frames of the calibration videos can be fitted to, expected {MIN_SCORES} or "
            "more: give longer videos"
        )
    notes = [
        f"{sum(seen.frames.values())} frames of {len(footage)} videos: {seen.frames['fit']} to fit, "
        f"{seen.frames['ranges']} for ranges, {seen.frames['judge']} to judge"
    ]
    if not seen.fit:
        raise OptionError(
            "no object was found in the first half of the calibration videos: lower --min-area, choose other "
            "--proposals, or give other videos"
        )
    decision = decide_threshold(wanted.limits, seen.scores, [], host.threshold)
    if decision.note:
        notes.append(decision.note)
    for text in notes:
        say.note(text)
    judged = _judged(host, source_front_end(host, model, spec, folder), seen.judge, say)
    fit = _thinned(seen.fit)
    say.stage("asking the source again, with other rounding")
    rounding = measure_rounding(host.source, judged, decision)
    for text in rounding_notes(rounding):
        say.note(text)
        notes.append(text)
    blends = _blends(host, judged, fit, decision, rounding, say)
    own = _thinned(seen.ranges) or fit
    inputs = _ports(host)
    return Gathered(
        host=host,
        model=model,
        front_end=spec,
        judged_as=spec,
        decision=decision,
        rounding=rounding,
        judged=(*judged, *blends),
        fit=(*fit, *(_mixed(host, fit, decision, say) if wanted.lower_forms else ())),
        ranges=lambda: _range_entries(own),
        stress=stress_entries(inputs),
        record=Calibration(
            fingerprint=hashlib.sha256("".join(sorted(one.digest for one in footage)).encode()).hexdigest(),
            ranges=seen.frames["ranges"],
            fit=seen.frames["fit"],
            judge=len(judged),
            training=0,
            excluded={},
        ),
        scene="given",
        notes=tuple(notes),
    )


def collect_objects(
    videos: str | Path,
    *,
    crop: tuple[int, int],
    window: Sequence[int],
    pairs: Sequence[tuple[int, int]],
    framing: FrontEndOptions | None = None,
    most: int = MAX_TRAINING,
    progress: Progress | None = None,
) -> list[Entry]:
    """Objects as a bundle's front-end will cut them out: what a detector should be trained on.

    Args:
        videos: A video, or a folder of them.
        crop: (height, width) of an object in pixels.
        window: Frames of its appearance, counted from the one it is found in.
        pairs: Frames from and to which each flow goes, likewise.
        framing: How objects are found; None: as the export does when nothing else is asked for.
        most: Most objects, evenly over all videos.
        progress: Told what happens.

    Returns:
        Entries with ``appearance`` uint8 (T, height, width, 3) RGB and ``flow`` float32 (T', height, width,
        2).

    Raises:
        PictureError: There are no videos.
        OptionError: The parts of ``framing`` do not fit.
        SourceError: A video is damaged.
    """
    say = progress or Silent()
    footage = find_footage(local_path(videos), say)
    inputs, _ = object_ports(*crop, window, pairs)
    nobody = LoadedHost(
        name="any host",
        source=_NoSource(),
        blocks=(),
        preprocess=Preprocess(width=crop[1], height=crop[0], resize="opencv-linear"),
        map_size=None,
        threshold=None,
        overrides={},
        assumptions=(),
        video=VideoInputs(inputs, 0.0),
    )
    model = Model(name="", source=(), digest="")
    kept: _Sample[Entry] = _Sample(most)
    with tempfile.TemporaryDirectory(prefix="sspcab-") as scratch:
        folder = Path(scratch)
        spec = make_video_front_end(framing or FrontEndOptions(), nobody, footage[0].size, folder)
        for _, _, request, _ in _requests(source_front_end(nobody, model, spec, folder), footage, say):
            for number in range(_entries(request)):
                if kept.takes():
                    kept.add(entry_of(request, number))
    return kept.items


class _NoSource:
    """Stands where a source would be: nothing is asked."""

    def infer(self, inputs: Mapping[str, Array]) -> tuple[npt.NDArray[np.float32], None]:
        raise NotImplementedError(f"no network to ask about {sorted(inputs)}")

    def infer_otherwise(self, inputs: Mapping[str, Array]) -> tuple[Scored, OtherRounding]:
        raise NotImplementedError(f"no network to ask about {sorted(inputs)}")

    def graph(self) -> ir.Model:
        raise NotImplementedError("no network")


def _check(loaded: LoadedHost, wanted: Wanted) -> None:
    if wanted.validation is not None:
        raise OptionError(
            f"--validation is for pictures, and {loaded.name} looks at videos: judge labelled ones with "
            "sspcab-edge evaluate BUNDLE DIR --layout avenue"
        )
    if wanted.training is not None:
        raise OptionError("--training is for pictures: give videos with --calibration")
    if wanted.calibration is not None:
        return
    if loaded.fit is not None:
        raise OptionError(
            f"{loaded.name} scores by how unusual its errors are: give --calibration VIDEOS of normal "
            "scenes, or what they gave with --statistics"
        )
    if "int8" in wanted.precisions:
        raise OptionError(
            "int8 needs videos of normal scenes to measure ranges on: give --calibration VIDEOS"
        )
    if wanted.limits.wants_normal_scores:
        raise OptionError("a false-alarm rate or quantile needs normal videos: give --calibration VIDEOS")
    if wanted.framing.frame_size is None:
        raise OptionError("areas and boxes are in pixels of a frame: say its size with --frame-size HxW")


def _scaled(loaded: LoadedHost, scale: float) -> LoadedHost:
    """The host, its flow in pixels times ``scale``."""
    assert loaded.video is not None
    inputs = tuple(
        msgspec.structs.replace(port, scale=port.scale * scale) if port.pairs else port
        for port in loaded.video.inputs
    )
    return replace(loaded, video=replace(loaded.video, inputs=inputs))


def _without_videos(
    loaded: LoadedHost, model: Model, wanted: Wanted, folder: Path, say: Progress
) -> Gathered:
    size = wanted.framing.frame_size
    assert size is not None
    spec = make_video_front_end(wanted.framing, loaded, size, folder)
    inputs = _ports(loaded)
    note = "no videos given: judged on synthetic motion of built-in pictures, not your scene"
    say.note(note)
    units = [ask_unit(loaded.source, entry) for entry in builtin_entries(inputs)]
    judged = tuple(
        Judged(PackItem(f"built-in {n}", "picture", unit.entry, unit.score, None, unit.map), None, None)
        for n, unit in enumerate(units)
    )
    decision = decide_threshold(wanted.limits, [], [], loaded.threshold)
    rounding = measure_rounding(loaded.source, judged, decision)
    notes = (note, *((decision.note,) if decision.note else ()), *rounding_notes(rounding))
    return Gathered(
        host=loaded,
        model=model,
        front_end=spec,
        judged_as=spec,
        decision=decision,
        rounding=rounding,
        judged=judged,
        fit=(),
        ranges=lambda: [unit.entry for unit in units],
        stress=stress_entries(inputs),
        record=None,
        scene="built-in",
        notes=notes,
    )


def _ports(host: LoadedHost) -> tuple[Port, ...]:
    assert host.video is not None
    return host.video.inputs


def _fitted(
    host: LoadedHost,
    model: Model,
    footage: Sequence[Footage],
    spec: FrontEndSpec,
    folder: Path,
    ranges: bool,
    say: Progress,
) -> tuple[LoadedHost, Model, FrontEndSpec]:
    """The host fitted to the first part of the videos, through the front-end that will be deployed."""
    assert host.fit is not None
    say.stage("looking for objects to fit the host to")
    kept: _Sample[Entry] = _Sample(MAX_TRAINING)
    front_end = source_front_end(host, model, spec, folder)
    for one, index, request, _ in _requests(front_end, footage, say):
        if request.inputs and one.use(index, 0, ranges=ranges) == "fit":
            for number in range(_entries(request)):
                if kept.takes():
                    kept.add(entry_of(request, number))
    if not kept.items:
        raise OptionError(
            "no object was found in the first half of the calibration videos: lower --min-area, choose other "
            "--proposals, or give other videos"
        )
    say.stage(f"fitting the host to {len(kept.items)} objects")
    fitted = host.fit(kept.items, lambda done: say.step(done, len(kept.items)))
    model = msgspec.structs.replace(model, overrides=fitted.overrides, assumptions=fitted.assumptions)
    assert fitted.video is not None
    empty_score = fitted.video.empty_score
    fitted = replace(fitted, video=VideoInputs(_ports(host), empty_score))
    if spec.objects is not None and empty_score is not None:
        objects = msgspec.structs.replace(spec.objects, empty_score=empty_score)
        spec = msgspec.structs.replace(spec, objects=objects)
    return fitted, model, spec


class _Sample(Generic[_T]):
    """At most so many items, evenly over all that were offered: every second is dropped when it is full."""

    def __init__(self, most: int) -> None:
        self.items: list[_T] = []
        self._most, self._stride, self._offered = most, 1, 0

    def takes(self) -> bool:
        """Whether the next item is one to :meth:`add`."""
        if len(self.items) >= self._most:
            self.items = self.items[::2]
            self._stride *= 2
        self._offered += 1
        return (self._offered - 1) % self._stride == 0

    def add(self, item: _T) -> None:
        """Keep it."""
        self.items.append(item)


def _requests(
    front_end: FrontEnd, footage: Sequence[Footage], say: Progress
) -> Iterator[tuple[Footage, int, Request, bool]]:
    """Every request that frames lead to: the video, the frame's number, whether it is the video's first."""
    total, done = sum(one.frames for one in footage), 0
    for one in footage:
        front_end.reset()
        first = True
        for frame in frames_of(one):
            request = front_end.push(frame)
            done += 1
            say.step(done, total)
            if request is not None:
                index = (request.frame or frame).index
                yield one, index, replace(request, frame=None), first
                first = False


def _walk(
    host: LoadedHost, front_end: FrontEnd, footage: Sequence[Footage], ranges: bool, say: Progress
) -> _Seen:
    seen = _Seen()
    fit: _Sample[Unit] = _Sample(2 * MAX_UNITS)
    measured: _Sample[Unit] = _Sample(2 * MAX_UNITS)
    gap = _window(host)
    most = max(1, MAX_JUDGED // len(footage))
    taken: dict[str, int] = {}
    for one, index, request, _ in _requests(front_end, footage, say):
        use = one.use(index, gap, ranges=ranges)
        if use == "judge":
            count = taken.get(one.name, 0)
            if count < most:
                taken[one.name] = count + 1
                seen.judge.append((f"{one.name} frame {index}", request, count == 0))
        if use in (None, "judge"):
            continue
        asked = answered(host.source, front_end, request, _UNITS_A_FRAME)
        if asked.verdict.score is None:
            continue
        seen.frames[use] += 1
        if use == "fit":
            seen.scores.append(asked.verdict.score)
        for unit in asked.units:
            kept = fit if use == "fit" else measured
            if kept.takes():
                kept.add(unit)
    seen.frames["judge"] = len(seen.judge)
    seen.fit, seen.ranges = fit.items, measured.items
    return seen


def _window(host: LoadedHost) -> int:
    """Frames that one verdict reaches over."""
    reach = [0]
    for port in _ports(host):
        reach += [*port.window, *(offset for pair in port.pairs for offset in pair)]
    return max(reach) - min(reach)


def _judged(
    host: LoadedHost, front_end: FrontEnd, asked: Sequence[tuple[str, Request, bool]], say: Progress
) -> tuple[Judged, ...]:
    """The source's verdicts of the judge frames, from where judging begins."""
    say.stage("judge frames through the source")
    judged = []
    for number, (name, request, starts) in enumerate(asked, 1):
        if starts:
            front_end.reset()
        one: Asked = answered(host.source, front_end, request, 1)
        if one.verdict.score is not None:
            item = None
            if one.units:
                unit = one.units[0]
                item = PackItem(name, "picture", unit.entry, unit.score, None, unit.map)
            judged.append(Judged(item, None, one.verdict, request, starts))
        say.step(number, len(asked))
    if not any(one.item is not None for one in judged):
        raise OptionError(
            "no object was found in the last part of the calibration videos, which is judged: give longer "
            "ones"
        )
    return tuple(judged)


def _entries(request: Request) -> int:
    return max((len(array) for array in request.inputs.values()), default=0)


def _thinned(units: Sequence[Unit]) -> tuple[Unit, ...]:
    return tuple(units[n] for n in spread(len(units), MAX_UNITS))


def _blends(
    host: LoadedHost,
    judged: Sequence[Judged],
    fit: Sequence[Unit],
    decision: Decision,
    rounding: Rounding | None,
    say: Progress,
) -> list[Judged]:
    """Mixes of judged objects near the threshold; of foreign motion, where all are on one side of it."""
    if decision.threshold is None:
        return []
    say.stage("mixing objects near the threshold")
    found = blends_near_threshold(
        host.source,
        judged,
        [(f"foreign {n}", entry) for n, entry in enumerate(foreign_entries([unit.entry for unit in fit]))],
        decision,
        clearance(decision, rounding),
        min(_BLEND_PAIRS, max(3, len(judged) // 3)),
        lambda done: say.step(done, _BLEND_PAIRS * 7),
    )
    if not found:
        say.note("no blend lies near the threshold: no object scores on one side of it")
    return found


def _mixed(host: LoadedHost, fit: Sequence[Unit], decision: Decision, say: Progress) -> list[Unit]:
    """Fit units mixed with foreign motion, so that score maps are fitted above normal scores too."""
    say.stage("mixing fit objects")
    ordered = sorted(fit, key=lambda one: one.score)
    foreign = foreign_entries([unit.entry for unit in fit])
    pairs = min(_MIX_PAIRS, len(ordered))
    mixes = []
    for pair in range(pairs):
        base = ordered[pair * (len(ordered) - 1) // max(1, pairs - 1)]
        mixes += [ask_unit(host.source, mix(base.entry, foreign[pair % len(foreign)], s)) for s in _MIXES]
        say.step(pair + 1, pairs)
    threshold, normal = decision.threshold, decision.normal
    if threshold is None or normal is None:
        return mixes
    limit = threshold + 2 * max(threshold - normal.median, normal.iqr)
    return [unit for unit in mixes if unit.score <= limit]


def _range_entries(units: Sequence[Unit]) -> list[Entry]:
    """Normal objects, and some mixed half and half with foreign motion: anomalies excite what they do not."""
    own = [unit.entry for unit in units]
    foreign = foreign_entries(own)
    mixed = [mix(entry, foreign[n % len(foreign)], 0.5) for n, entry in enumerate(own[: len(foreign)])]
    return [*own, *mixed]
