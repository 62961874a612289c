"""From checkpoint to verified bundle, every stage in the order in which it happens."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sspcab_edge.bundle import Bundle, check_output, file_entry, staging, write_bundle
from sspcab_edge.errors import HostError, OptionError
from sspcab_edge.manifest import Decision, FileEntry, Gate, Model, Precision, Target
from sspcab_edge.parity import write_pack
from sspcab_export.assemble import assemble_manifest, kept_branches, named_blocks, unjudged_artifact
from sspcab_export.checkpoints import checkpoint_files, read_checkpoint
from sspcab_export.examination import Examination, Examined
from sspcab_export.gates import gate_for, parse_gates, replay_gate, require, rounding_tolerance
from sspcab_export.graph import OPSET, save_graph
from sspcab_export.hosts import HostOptions, LoadedHost, load_host
from sspcab_export.hosts.onnx_graph import load_onnx
from sspcab_export.hygiene import describe
from sspcab_export.intake import (
    Intake,
    Scored,
    Suspects,
    calibration_record,
    find_suspects,
    read_pictures,
    score_pictures,
    without,
)
from sspcab_export.passes import optimise
from sspcab_export.pictures import builtin_samples, load_frame
from sspcab_export.precision.activations import Activations, measure, stress_frames
from sspcab_export.precision.layers import is_quantised
from sspcab_export.precision.lowering import Lowering
from sspcab_export.precision.sensitivity import LayerEffect
from sspcab_export.precision_search import lower
from sspcab_export.progress import Progress, Silent
from sspcab_export.report import as_json, as_markdown
from sspcab_export.thresholds import ThresholdOptions, decide_threshold
from sspcab_export.variants import TARGETS, Variant, check_choice, variant_for
from sspcab_export.verify import Judged, blends_near_threshold, judge_source, source_score
from sspcab_runtime.attestation import record_attestation

__all__ = ["DEFAULT_FLOAT_BUDGET", "Exported", "Progress", "export"]

DEFAULT_FLOAT_BUDGET = 8
"""Most layers kept in float to pass the gate of a lower precision, when nothing else is asked for."""

_BLEND_PAIRS = 24
_MIXES = (0.15, 0.3, 0.45, 0.6, 0.8)
_MIX_PAIRS = 6
_MIX_REACH = 2.0
_MIXED_RANGES = 16


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export.

    Attributes:
        bundle: The bundle, as it lies on disk.
        report: The stable object of ``--json`` and ``report.json``.
    """

    bundle: Bundle
    report: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Answers:
    """What the source said of the pictures."""

    fit: tuple[Scored, ...]
    ranges: tuple[Scored, ...]
    judged: tuple[Judged, ...]
    decision: Decision


def export(
    checkpoint: str | Path | Sequence[str | Path],
    *,
    output: str | Path,
    targets: Sequence[Target] = ("onnx",),
    precisions: Sequence[Precision] = ("fp32",),
    calibration: str | Path | None = None,
    validation: str | Path | None = None,
    threshold: float | None = None,
    false_alarm_rate: float | None = None,
    quantile: float | None = None,
    gates: Sequence[str] = (),
    float_budget: int = DEFAULT_FLOAT_BUDGET,
    sensitivity: bool = False,
    suspects: Suspects = "exclude",
    dialect: str | None = None,
    dilation: int | None = None,
    input_size: tuple[int, int] | None = None,
    normalisation: Literal["none", "imagenet"] | None = None,
    allow_no_block: bool = False,
    name: str | None = None,
    release: int = 1,
    force: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Turn a trained checkpoint into a verified bundle.

    Args:
        checkpoint: A file, either or both of DRAEM's two, a folder with one checkpoint, or an ONNX file.
        output: The bundle folder to make.
        targets: What to export for, each once.
        precisions: Arithmetic of the artifacts, each once; int8 needs ``calibration``.
        calibration: Folder of normal pictures: the threshold is fitted to half, int8 ranges are measured on a
            quarter, the gate judges on the rest.
        validation: Labelled pictures in the MVTec AD layout: judged on, and fitted to without calibration.
        threshold: The threshold itself, on the source's score scale.
        false_alarm_rate: Share of normal frames that may be flagged (default 0.01).
        quantile: Quantile of the normal scores to use as threshold instead.
        gates: Limits instead of the defaults, as in ``int8:rate=0.03``; see :mod:`sspcab_export.gates`.
        float_budget: Most layers to keep in float at a lower precision so that the gate is passed.
        sensitivity: Measure what each layer does at each lower precision, and put it into the report.
        suspects: What to do with calibration pictures that the source takes for anomalies.
        dialect: Dialect of the blocks, overriding what their keys tell.
        dilation: d of the blocks, which no checkpoint stores (default 1).
        input_size: (height, width) of the graph's input in pixels.
        normalisation: Overrides what the layout tells.
        allow_no_block: Export a network without the block.
        name: What to call the model (default: the checkpoint's file name).
        release: The bundle's release number.
        force: Replace an older bundle at ``output``.
        progress: Told what happens.

    Raises:
        EdgeError: Anything that keeps the bundle from being made; nothing is left at ``output`` then.
        GateError: An artifact does not give the source's verdicts.
    """
    say = progress or Silent()
    out = Path(output)
    limits = ThresholdOptions(threshold, false_alarm_rate, quantile)
    check_choice("target", targets, tuple(TARGETS))
    check_choice("precision", precisions, get_args(Precision))
    own_limits = parse_gates(gates)
    if float_budget < 0:
        raise OptionError(f"the float budget is {float_budget}, expected 0 or more layers")
    check_output(out, force)

    say.stage("reading the checkpoint")
    given = [checkpoint] if isinstance(checkpoint, (str, Path)) else list(checkpoint)
    options = HostOptions(dialect, dilation, input_size, normalisation, allow_no_block)
    host, model = _read(checkpoint_files(given), options, name)
    say.note(_describe(host))
    for assumption in host.assumptions:
        say.note(f"assumed: {assumption}")

    say.stage("reading pictures")
    intake = read_pictures(
        None if calibration is None else Path(calibration),
        None if validation is None else Path(validation),
        wants_normal_scores=limits.wants_normal_scores,
        threshold_given=limits.threshold is not None,
        for_ranges="int8" in precisions,
    )
    notes = list(intake.notes)
    for text in notes:
        say.note(text)

    intake, answers, suspected, gone = _ask_source(host, intake, limits, suspects, say)
    for text in (*suspected, *((answers.decision.note,) if answers.decision.note else ())):
        notes.append(text)
        say.note(text)

    with staging(out) as folder:
        say.stage("making the graph")
        graph, blocks = optimise(host.source.graph())
        blocks = named_blocks(blocks, host.blocks)
        if not blocks and not allow_no_block:
            raise HostError(
                f"no SSPCAB block was found in {model.name}: export it all the same with --allow-no-block"
            )
        for text in kept_branches(blocks):
            say.note(text)
        record = calibration_record(intake, gone)
        manifest = assemble_manifest(host, model, blocks, answers.decision, record, release)
        lower_forms = any(precision != "fp32" for precision in precisions)
        fit = [*answers.fit, *(_mixes(host, answers, say) if lower_forms else ())]
        exam = Examination(
            folder=folder,
            manifest=manifest,
            judged=answers.judged,
            fit=fit,
            scene=intake.scene,
            tolerance=rounding_tolerance(answers.decision),
            say=say,
        )
        examined: list[Examined] = []
        effects: dict[str, tuple[LayerEffect, ...]] = {}
        measured: Activations | None = None
        for variant, wanted in _variants(targets, precisions).items():
            gate = gate_for(variant.precision, answers.decision, intake.scene, own_limits)
            if variant.precision == "fp32":
                made = _as_it_is(graph, variant, wanted, gate, exam)
            else:
                if is_quantised(graph):
                    raise OptionError(
                        f"{model.name} is quantised already: give the float32 model for {variant.precision}"
                    )
                if measured is None:
                    measured = _measure(graph, host, answers, say)
                activations = measured
                if variant.precision == "fp16":
                    activations = measured.joined(_measure_stress(graph, host))
                lowered = lower(
                    Lowering(graph, activations, variant.precision, variant.flavour),
                    variant,
                    wanted,
                    gate,
                    exam,
                    budget=float_budget,
                    show_sensitivity=sensitivity,
                )
                made = list(lowered.examined)
                effects[variant.name] = lowered.effects
                if lowered.kept:
                    notes.append(f"{variant.name}: kept in float to pass the gate: {', '.join(lowered.kept)}")
            require(one.artifact for one in made)
            examined.extend(made)
        del graph
        pack = write_pack(folder, [one.item for one in answers.judged])
        ordered = _in_order(examined, targets, precisions)
        artifacts = tuple(
            msgspec.structs.replace(
                one.artifact,
                replay=replay_gate(
                    one.artifact.precision, one.artifact.parity, answers.decision, pack.inputs
                ),
            )
            for one in ordered
        )
        manifest = msgspec.structs.replace(manifest, artifacts=artifacts, parity_pack=pack)
        _drop_unlisted(folder, {file for artifact in artifacts for file in artifact.files})
        report = as_json(manifest, str(out), effects)
        (folder / "report.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
        )
        (folder / "report.md").write_text(as_markdown(manifest, tuple(notes), effects), encoding="utf-8")
        bundle = write_bundle(folder, manifest, out, force=force)
    for artifact, one in zip(bundle.manifest.artifacts, ordered, strict=True):
        if one.engine is not None and one.engine_parity is not None and artifact.target != "tensorrt":
            record_attestation(bundle, artifact, one.engine, one.engine_parity)
    return Exported(bundle, report)


def _read(files: Sequence[Path], options: HostOptions, name: str | None) -> tuple[LoadedHost, Model]:
    """The host and the model's identity, from checkpoint files or one ONNX file."""
    source: tuple[FileEntry, ...]
    if any(path.suffix == ".onnx" for path in files):
        if len(files) > 1:
            raise OptionError(f"{len(files)} files given, expected one ONNX file alone")
        host = load_onnx(files[0], options)
        source = (file_entry(files[0], files[0].name),)
        digest, stem = source[0].sha256, files[0].stem
    else:
        checkpoint = read_checkpoint(files)
        host = load_host(checkpoint, options)
        source, digest, stem = checkpoint.source, checkpoint.digest, checkpoint.name
    identity = Model(
        name=name or stem,
        source=source,
        digest=digest,
        overrides=host.overrides,
        assumptions=host.assumptions,
    )
    return host, identity


def _describe(host: LoadedHost) -> str:
    blocks = "; ".join(
        f"block at {b.path or 'the root'}: {b.dialect}, k'={b.kernel}, d={b.dilation}, r={b.reduction}, "
        f"{b.channels} channels"
        for b in host.blocks
    )
    return f"host {host.name}; {blocks or 'no block'}"


def _ask_source(
    host: LoadedHost, intake: Intake, limits: ThresholdOptions, suspects: Suspects, say: Progress
) -> tuple[Intake, _Answers, tuple[str, ...], int]:
    """The source's answers and the threshold; what is said of suspects, and how many were left out."""
    source, size = host.source, host.preprocess
    samples = (*intake.normal_fit, *intake.labelled_fit, *intake.ranges)
    if samples:
        say.stage("fit pictures through the source")
    scored = score_pictures(source, samples, size, lambda done: say.step(done, len(samples)))
    say.stage("judge pictures through the source")
    total = len(intake.judge)
    judged = judge_source(source, intake.judge, size, lambda done: say.step(done, total))

    normal = {sample.digest for sample in intake.inspected.kept}
    own = [(one.sample, one.score) for one in scored if one.sample.digest in normal]
    own += [(j.sample, j.item.score) for j in judged if j.sample is not None and j.sample.digest in normal]
    found, gone = find_suspects(intake, own, suspects)
    intake = without(intake, gone)
    judged = [_unlabelled(one, gone) for one in judged]
    left = {one.sample.digest: one for one in scored}
    fit_normal = [left[sample.digest] for sample in intake.normal_fit]
    fit_labelled = [left[sample.digest] for sample in intake.labelled_fit]
    labels = [(one.score, bool(one.sample.label)) for one in fit_labelled]
    decision = decide_threshold(limits, [one.score for one in fit_normal], labels, host.threshold)
    blends = _blends(host, judged, intake, decision, say)
    answers = _Answers(
        fit=(*fit_normal, *fit_labelled),
        ranges=tuple(left[sample.digest] for sample in intake.ranges),
        judged=(*judged, *blends),
        decision=decision,
    )
    texts = tuple(describe(found))
    if found and suspects == "keep":
        texts = tuple(f"{text} (kept, as told)" for text in texts)
    return intake, answers, texts, len(gone)


def _unlabelled(one: Judged, digests: frozenset[str]) -> Judged:
    if one.sample is None or one.sample.digest not in digests:
        return one
    return Judged(replace(one.item, label=None), one.sample)


def _blends(
    host: LoadedHost, judged: Sequence[Judged], intake: Intake, decision: Decision, say: Progress
) -> list[Judged]:
    """Blends of judge pictures near the threshold, with the source's answers."""
    if decision.threshold is None:
        return []
    say.stage("mixing judge pictures near the threshold")
    foreign = []
    if intake.scene == "given":
        foreign = [(f"built-in {s.name}", load_frame(s, host.preprocess)) for s in builtin_samples()]
    pairs = min(_BLEND_PAIRS, max(3, len(judged) // 3))
    blends = blends_near_threshold(
        host.source,
        judged,
        foreign,
        decision,
        rounding_tolerance(decision),
        pairs,
        lambda done: say.step(done, pairs * 7),
    )
    if not blends:
        say.note("no blend lies near the threshold: no picture scores on one side of it")
    return blends


def _mixes(host: LoadedHost, answers: _Answers, say: Progress) -> list[Scored]:
    """Fit pictures mixed with foreign ones, so that score maps are fitted above normal scores too.

    Those that score far above the threshold are left out: nothing flips there, and a foreign picture is not
    what ranges were measured for.
    """
    if not answers.fit:
        return []
    threshold, normal = answers.decision.threshold, answers.decision.normal
    limit = np.inf
    if threshold is not None and normal is not None:
        limit = threshold + _MIX_REACH * max(threshold - normal.median, normal.iqr)
    say.stage("mixing fit pictures")
    ordered = sorted(answers.fit, key=lambda one: one.score)
    foreign = [(s, load_frame(s, host.preprocess)) for s in builtin_samples()]
    mixes: list[Scored] = []
    done = 0
    for pair in range(min(_MIX_PAIRS, len(ordered))):
        base = ordered[pair * (len(ordered) - 1) // max(1, min(_MIX_PAIRS, len(ordered)) - 1)]
        other, pixels = foreign[pair % len(foreign)]
        for share in _MIXES:
            frame = _mix(base.pixels, pixels, share)
            score = source_score(host.source, frame)[0]
            if score <= limit:
                mixes.append(Scored(other, frame, score))
            done += 1
            say.step(done, _MIX_PAIRS * len(_MIXES))
    return mixes


def _mix(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], share: float) -> npt.NDArray[np.uint8]:
    mixed = one.astype(np.float32) * (1 - share) + other.astype(np.float32) * share
    return np.asarray(np.rint(mixed), dtype=np.uint8)


def _variants(targets: Sequence[Target], precisions: Sequence[Precision]) -> dict[Variant, list[Target]]:
    """The forms of the graph that are needed, and which targets take each."""
    wanted: dict[Variant, list[Target]] = {}
    for precision in precisions:
        for target in targets:
            wanted.setdefault(variant_for(target, precision), []).append(target)
    return wanted


def _as_it_is(
    graph: ir.Model, variant: Variant, targets: Sequence[Target], gate: Gate, exam: Examination
) -> list[Examined]:
    """The artifacts of the float32 graph."""
    path = exam.folder / variant.file
    save_graph(graph, path)
    opset = int(graph.opset_imports.get("", OPSET))
    made = []
    for target in targets:
        exam.say.stage(f"converting for {target}")
        files = importlib.import_module(TARGETS[target]).export_files(path, exam.folder, "fp32")
        artifact = unjudged_artifact(exam.folder, target, variant, files, opset, gate)
        made.append(exam.examine(artifact, variant, gate, None))
    return made


def _measure(graph: ir.Model, host: LoadedHost, answers: _Answers, say: Progress) -> Activations:
    """Ranges on the pictures meant for them; on fit pictures or built-in ones where there are none.

    Some of them are measured again, mixed half and half with a foreign picture: anomalies excite what normal
    pictures do not, and ranges of normal pictures alone would cut their scores off (on the demo detector the
    largest error of an int8 score falls from 0.14 to 0.02, that of normal pictures does not rise).
    """
    foreign = [load_frame(sample, host.preprocess) for sample in builtin_samples()]
    own = [one.pixels for one in answers.ranges or answers.fit]
    mixed = [_mix(pixels, foreign[i % len(foreign)], 0.5) for i, pixels in enumerate(own[:_MIXED_RANGES])]
    frames = [*own, *mixed] or foreign
    say.stage(f"measuring ranges on {len(frames)} pictures")
    return measure(graph, frames, lambda done: say.step(done, len(frames)))


def _measure_stress(graph: ir.Model, host: LoadedHost) -> Activations:
    size = host.preprocess
    return measure(graph, stress_frames(size.height, size.width), lambda done: None)


def _in_order(
    examined: Sequence[Examined], targets: Sequence[Target], precisions: Sequence[Precision]
) -> list[Examined]:
    """Artifacts by precision, then target, as the user named them: devices take the first they can run."""
    return sorted(
        examined,
        key=lambda one: (precisions.index(one.artifact.precision), targets.index(one.artifact.target)),
    )


def _drop_unlisted(folder: Path, wanted: set[str]) -> None:
    """Remove graphs that were only a step on the way to an artifact."""
    for path in folder.glob("model.*.onnx"):
        if path.name not in wanted:
            path.unlink()
