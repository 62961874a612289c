"""What the source is asked before artifacts are made: here of pictures, in ``filming`` of videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from sspcab_edge.bit_depth import BitDepth
from sspcab_edge.front_end_spec import FrontEndSpec
from sspcab_edge.manifest import Calibration, Decision, Gate, Model, Precision, Rounding
from sspcab_edge.ports import Entry
from sspcab_edge.protocols import FrontEnd
from sspcab_export.answers import Asker, ask_source, mixed_units, range_entries
from sspcab_export.asking import Unit, spread, units_of
from sspcab_export.assemble import assemble_manifest, unjudged_artifact
from sspcab_export.framing import make_front_end
from sspcab_export.front_end_options import FrontEndOptions
from sspcab_export.graph import OPSET
from sspcab_export.hosts import LoadedHost
from sspcab_export.intake import calibration_record, read_pictures
from sspcab_export.options import Suspects
from sspcab_export.pictures import Sample
from sspcab_export.precision.activations import stress_frames
from sspcab_export.progress import Progress
from sspcab_export.thresholds import ThresholdOptions
from sspcab_export.variants import Variant
from sspcab_export.verify import Judged
from sspcab_runtime.frontends.table import open_front_end

__all__ = ["Gathered", "Scene", "Wanted", "gather_pictures", "source_front_end", "with_bit_depth"]

Scene = Literal["given", "built-in"]

_TRAINING_UNITS = 4
_MOST_TRAINING_UNITS = 2000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user gives and asks for; see :func:`sspcab_export.pipeline.export`."""

    calibration: Path | None
    validation: Path | None
    training: Path | None
    limits: ThresholdOptions
    precisions: Sequence[Precision]
    suspects: Suspects
    framing: FrontEndOptions
    bit_depth: BitDepth | None = None

    @property
    def lower_forms(self) -> bool:
        """Whether any precision below fp32 is asked for."""
        return any(precision != "fp32" for precision in self.precisions)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the source said.

    Attributes:
        host: The host, fitted where it had to be.
        model: Its identity.
        front_end: Of the bundle.
        judged_as: The front-end that verdicts were judged through.
        decision: The threshold.
        rounding: How far rounding alone moves the source's answers; None where nothing could be asked.
        judged: Judge inputs with the source's answers.
        fit: Units that nothing is judged on, for score maps.
        ranges: Gives what ranges of int8 are measured on.
        stress: What besides, for the range of fp16.
        record: Of the pictures or videos; None where they were not the user's.
        scene: Whether they were.
        notes: What should be said.
    """

    host: LoadedHost
    model: Model
    front_end: FrontEndSpec
    judged_as: FrontEndSpec
    decision: Decision
    rounding: Rounding | None
    judged: tuple[Judged, ...]
    fit: tuple[Unit, ...]
    ranges: Callable[[], list[Entry]]
    stress: list[Entry]
    record: Calibration | None
    scene: Scene
    notes: tuple[str, ...]


def gather_pictures(
    loaded: LoadedHost, model: Model, wanted: Wanted, folder: Path, say: Progress
) -> Gathered:
    """Read the user's pictures and ask the source about them.

    Args:
        loaded: The host.
        model: Its identity.
        wanted: What the user gives and asks for.
        folder: The bundle in the making; the front-end's pictures are written there.
        say: Told what happens.

    Raises:
        EdgeError: Pictures, front-end or source are not fit for it.
    """
    say.stage("reading pictures")
    intake = read_pictures(
        wanted.calibration,
        wanted.validation,
        wants_normal_scores=wanted.limits.wants_normal_scores,
        threshold_given=wanted.limits.threshold is not None,
        for_ranges="int8" in wanted.precisions,
        fits=wanted.limits.threshold is None or wanted.lower_forms or wanted.framing.levels,
        for_training=loaded.fit is not None,
        training=wanted.training,
        bit_depth=wanted.bit_depth,
    )
    loaded = with_bit_depth(loaded, intake.bit_depth)
    notes = list(intake.notes)
    framing = wanted.framing
    framing.refuse_objects(loaded.name)
    judge = intake.judge if intake.scene == "given" else ()
    scene = (*intake.training, *intake.normal_fit, *intake.labelled_fit, *judge)
    spec = make_front_end(framing, loaded.preprocess, scene, folder)
    if loaded.fit is not None:
        loaded = _fitted(loaded, model, intake.training, spec, folder, say)
        loaded = with_bit_depth(loaded, intake.bit_depth)
        model = msgspec.structs.replace(model, overrides=loaded.overrides, assumptions=loaded.assumptions)
    host = loaded
    asker = Asker(host.source, host.preprocess, lambda own: source_front_end(host, model, own, folder), say)
    if intake.scene == "built-in" and not framing.plain:
        notes.append("the front-end was not judged: no pictures of the scene were given")
    for text in notes:
        say.note(text)
    answers = ask_source(
        asker,
        intake,
        spec if intake.scene == "given" else FrontEndSpec(),
        wanted.limits,
        wanted.suspects,
        host.threshold,
        levels=framing.levels,
    )
    for text in answers.notes:
        say.note(text)
    if answers.intake.scene == "given":
        spec = answers.front_end
    size = host.preprocess
    return Gathered(
        host=host,
        model=model,
        front_end=spec,
        judged_as=spec if intake.scene == "given" else FrontEndSpec(),
        decision=answers.decision,
        rounding=answers.rounding,
        judged=answers.judged,
        fit=(*answers.fit, *(mixed_units(asker, answers) if wanted.lower_forms else ())),
        ranges=lambda: range_entries(asker, answers),
        stress=[{"frames": frame} for frame in stress_frames(size.height, size.width)],
        record=calibration_record(answers.intake, answers.gone),
        scene=intake.scene,
        notes=(*notes, *answers.notes),
    )


def with_bit_depth(host: LoadedHost, bit_depth: BitDepth) -> LoadedHost:
    """The host, for images with so many bits in use."""
    return replace(host, preprocess=msgspec.structs.replace(host.preprocess, bit_depth=bit_depth))


def source_front_end(host: LoadedHost, model: Model, spec: FrontEndSpec, folder: Path) -> FrontEnd:
    """A front-end for the source: the bundle's, with scores as they are and no threshold."""
    manifest = assemble_manifest(host, model, (), Decision(threshold=None, policy="none"), None, 1, spec)
    artifact = unjudged_artifact(folder, "onnx", Variant("fp32"), (), OPSET, Gate())
    return open_front_end(manifest, artifact, None, folder)


def _fitted(
    host: LoadedHost,
    model: Model,
    samples: Sequence[Sample],
    spec: FrontEndSpec,
    folder: Path,
    say: Progress,
) -> LoadedHost:
    """The host fitted to normal pictures as its network will see them."""
    assert host.fit is not None
    front_end = source_front_end(host, model, spec, folder)
    entries = [
        unit
        for sample in samples
        for unit in units_of(front_end, sample.pixels(), _TRAINING_UNITS, sample.name)
    ]
    entries = [entries[n] for n in spread(len(entries), _MOST_TRAINING_UNITS)]
    say.stage(f"fitting the host to {len(samples)} normal pictures")
    return host.fit(entries, lambda done: say.step(done, len(entries)))
