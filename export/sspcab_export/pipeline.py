"""From checkpoint to verified bundle, every stage in the order in which it happens."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import msgspec
import onnx_ir as ir

from sspcab_edge.block import BlockForm
from sspcab_edge.bundle import Bundle, check_output, staging, write_bundle
from sspcab_edge.errors import GateError, HostError, OptionError
from sspcab_edge.manifest import Gate, Precision, Target
from sspcab_edge.parity import write_pack
from sspcab_export.assemble import assemble_manifest, kept_branches, named_blocks, unjudged_artifact
from sspcab_export.checkpoints import checkpoint_files
from sspcab_export.examination import Examination, Examined
from sspcab_export.filming import gather_footage
from sspcab_export.framing import FrontEndOptions
from sspcab_export.gates import advice, gate_for, parse_gates, refusal, replay_gate, score_rounding
from sspcab_export.gathering import Wanted, gather_pictures
from sspcab_export.graph import OPSET, save_graph
from sspcab_export.hosts import HostOptions, LoadedHost
from sspcab_export.intake import Suspects
from sspcab_export.passes import optimise
from sspcab_export.passes.keep_blocks import keep_blocks, still_folded
from sspcab_export.precision.activations import Activations, measure
from sspcab_export.precision.layers import is_quantised
from sspcab_export.precision.lowering import Lowering
from sspcab_export.precision.sensitivity import LayerEffect
from sspcab_export.precision_search import lower
from sspcab_export.progress import Progress, Silent
from sspcab_export.reading import read_model
from sspcab_export.report import as_json, as_markdown
from sspcab_export.rounding import check_repeatable, probe
from sspcab_export.thresholds import ThresholdOptions
from sspcab_export.variants import TARGETS, Variant, check_choice, variant_for
from sspcab_runtime.attestation import record_attestation

__all__ = ["DEFAULT_FLOAT_BUDGET", "Exported", "Progress", "export"]

DEFAULT_FLOAT_BUDGET = 8
"""Most layers kept in float to pass the gate of a lower precision, when nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export.

    Attributes:
        bundle: The bundle, as it lies on disk.
        report: The stable object of ``--json`` and ``report.json``.
    """

    bundle: Bundle
    report: dict[str, Any]


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
    training: str | Path | None = None,
    host: HostOptions | None = None,
    front_end: FrontEndOptions | None = None,
    block_form: BlockForm = "folded",
    name: str | None = None,
    release: int = 1,
    force: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Turn a trained checkpoint into a verified bundle.

    Args:
        checkpoint: A file, either or both of DRAEM's two, a folder with one checkpoint, an ONNX file, or a
            program (.pt2, TorchScript) that is vouched for.
        output: The bundle folder to make.
        targets: What to export for, each once.
        precisions: Arithmetic of the artifacts, each once; int8 needs ``calibration``.
        calibration: Folder of normal pictures, or of videos for hosts that look at those: the threshold is
            fitted to half, int8 ranges are measured on a quarter, the gate judges on the rest.
        validation: Labelled images in a layout of :data:`sspcab_edge.datasets.LAYOUTS`: judged on, and fitted
            to without calibration.
        threshold: The threshold itself, on the source's score scale.
        false_alarm_rate: Share of normal frames that may be flagged (default 0.01).
        quantile: Quantile of the normal scores to use as threshold instead.
        gates: Limits instead of the defaults, as in ``int8:rate=0.03``; see :mod:`sspcab_export.gates`.
        float_budget: Most layers to keep in float at a lower precision so that the gate is passed.
        sensitivity: Measure what each layer does at each lower precision, and put it into the report.
        suspects: What to do with calibration pictures that the source takes for anomalies.
        training: Normal pictures for hosts that are fitted to some at export, as CutPaste's density is; they
            get half of ``calibration`` without.
        host: What the checkpoint cannot tell, or what wins over what it tells.
        front_end: How frames become what the network looks at; None: whole frames.
        block_form: ``custom-op`` keeps each block as one node in the fp32 ONNX artifact, for engines that
            bring a kernel of their own; ``reference`` keeps its branches, to measure what folding gains.
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
    if block_form == "custom-op" and not ("onnx" in targets and "fp32" in precisions):
        raise OptionError(
            "custom-op is a form of the fp32 ONNX artifact: give --target onnx, --precision fp32"
        )

    say.stage("reading the checkpoint")
    given = [checkpoint] if isinstance(checkpoint, (str, Path)) else list(checkpoint)
    told, framing = host or HostOptions(), front_end or FrontEndOptions()
    loaded, model = read_model(checkpoint_files(given), told, name)
    say.note(_describe(loaded))
    if loaded.fit is None:
        say.stage("asking the source twice")
        check_repeatable(loaded.source, probe(loaded))

    wanted = Wanted(
        calibration=None if calibration is None else Path(calibration),
        validation=None if validation is None else Path(validation),
        training=None if training is None else Path(training),
        limits=limits,
        precisions=precisions,
        suspects=suspects,
        framing=framing,
    )
    gather = gather_pictures if loaded.video is None else gather_footage
    with staging(out) as folder:
        found = gather(loaded, model, wanted, folder, say)
        loaded, model, source = found.host, found.model, found.host.source
        for assumption in loaded.assumptions:
            say.note(f"assumed: {assumption}")
        notes = list(found.notes)
        say.stage("making the graph")
        graph, blocks = optimise(source.graph())
        blocks = named_blocks(blocks, loaded.blocks)
        if not blocks and not told.allow_no_block:
            raise HostError(
                f"no SSPCAB block was found in {model.name}: export it all the same with --allow-no-block"
            )
        for text in kept_branches(blocks):
            say.note(text)
        if block_form == "reference":
            graph, _ = optimise(source.graph(), skip=("fold_sspcab",))
            blocks = tuple(msgspec.structs.replace(block, form="reference") for block in blocks)
        kept: ir.Model | None = None
        if block_form == "custom-op":
            kept, blocks = keep_blocks(graph, blocks)
            for text in still_folded(blocks):
                say.note(text)
        decision = found.decision
        manifest = msgspec.structs.replace(
            assemble_manifest(loaded, model, blocks, decision, found.record, release, found.front_end),
            rounding=found.rounding,
        )
        exam = Examination(
            folder=folder,
            manifest=msgspec.structs.replace(manifest, front_end=found.judged_as),
            judged=found.judged,
            fit=found.fit,
            scene=found.scene,
            tolerance=score_rounding(decision, found.rounding),
            say=say,
        )
        examined: list[Examined] = []
        effects: dict[str, tuple[LayerEffect, ...]] = {}
        measured: Activations | None = None
        for variant, takers in _variants(targets, precisions).items():
            gate = gate_for(variant.precision, decision, found.scene, own_limits, found.rounding)
            if variant.precision == "fp32":
                made = _as_it_is(graph if kept is None else kept, variant, takers, gate, exam)
            else:
                if is_quantised(graph):
                    raise OptionError(
                        f"{model.name} is quantised already: give the float32 model for {variant.precision}"
                    )
                if measured is None:
                    entries = found.ranges()
                    say.stage(f"measuring ranges on {len(entries)} inputs")
                    measured = measure(graph, entries, partial(_step, say, len(entries)))
                activations = measured
                if variant.precision == "fp16":
                    activations = measured.joined(measure(graph, found.stress, lambda done: None))
                lowered = lower(
                    Lowering(graph, activations, variant.precision, variant.flavour),
                    variant,
                    takers,
                    gate,
                    exam,
                    budget=float_budget,
                    show_sensitivity=sensitivity,
                )
                made = list(lowered.examined)
                effects[variant.name] = lowered.effects
                if lowered.kept:
                    notes.append(f"{variant.name}: kept in float to pass the gate: {', '.join(lowered.kept)}")
            examined.extend(made)
            text = refusal(one.artifact for one in made)
            if text:
                judged = tuple(one.artifact for one in examined)
                raise GateError(
                    text + advice(judged, decision, found.rounding),
                    as_json(msgspec.structs.replace(manifest, artifacts=judged), None, effects),
                )
        del graph
        pack = write_pack(folder, [one.item for one in found.judged if one.item is not None])
        ordered = _in_order(examined, targets, precisions)
        artifacts = tuple(
            msgspec.structs.replace(
                one.artifact,
                replay=replay_gate(
                    one.artifact.precision, one.artifact.parity, decision, pack.inputs, found.rounding
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


def _describe(host: LoadedHost) -> str:
    blocks = "; ".join(
        f"block at {b.path or 'the root'}: {b.dialect}, k'={b.kernel}, d={b.dilation}, r={b.reduction}, "
        f"{b.channels} channels"
        for b in host.blocks
    )
    return f"host {host.name}; {blocks or 'no block'}"


def _step(say: Progress, of: int, done: int) -> None:
    say.step(done, of)


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
