"""From checkpoint to verified bundle, every stage in the order in which it happens."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, get_args

import msgspec
import onnx_ir as ir

from sspcab_edge.block import BlockSpec
from sspcab_edge.bundle import Bundle, check_output, staging, write_bundle
from sspcab_edge.errors import GateError, HostError, OptionError
from sspcab_edge.local_path import local_path
from sspcab_edge.manifest import Gate, Precision, Target
from sspcab_edge.parity import write_pack
from sspcab_export.assemble import assemble_manifest, kept_branches, named_blocks, unjudged_artifact
from sspcab_export.checkpoints import bundle_beside, checkpoint_files
from sspcab_export.examination import Examination, Examined
from sspcab_export.filming import gather_footage
from sspcab_export.gates import advice, clearance, gate_for, parse_gates, refusal, replay_gate
from sspcab_export.gathering import Wanted, gather_pictures
from sspcab_export.graph import OPSET, save_graph
from sspcab_export.hosts import LoadedHost
from sspcab_export.options import ExportOptions
from sspcab_export.passes import optimise
from sspcab_export.passes.keep_blocks import keep_blocks, still_folded
from sspcab_export.precision.activations import Activations, measure
from sspcab_export.precision.layers import is_quantised
from sspcab_export.precision.lowering import Lowering
from sspcab_export.precision.sensitivity import LayerEffect
from sspcab_export.precision_search import lower
from sspcab_export.progress import Progress, Silent
from sspcab_export.reading import read_model
from sspcab_export.recipe_file import RECIPE_NAME, recipe_text
from sspcab_export.report import as_json, as_markdown
from sspcab_export.rounding import check_repeatable, probe
from sspcab_export.thresholds import ThresholdOptions
from sspcab_export.variants import TARGETS, Variant, check_choice, variant_for
from sspcab_runtime.attestation import record_attestation

__all__ = ["Exported", "Progress", "export", "export_with"]

Given = str | Path | Sequence[str | Path]
"""A checkpoint as the user names it: a file, several, or a folder."""

_P = ParamSpec("_P")


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export.

    Attributes:
        bundle: The bundle, as it lies on disk.
        report: The stable object of ``--json`` and ``report.json``.
    """

    bundle: Bundle
    report: dict[str, Any]


def export_with(checkpoint: Given, options: ExportOptions) -> Exported:
    """Turn a trained checkpoint into a verified bundle.

    Args:
        checkpoint: A file, either or both of DRAEM's two, a folder with one checkpoint, an ONNX file, or a
            program (.pt2, TorchScript) that is vouched for.
        options: What the user tells, of everything else.

    Raises:
        EdgeError: Anything that keeps the bundle from being made; nothing is left at ``output`` then.
        GateError: An artifact does not give the source's verdicts.
    """
    say = options.progress or Silent()
    targets, precisions = options.targets, options.precisions
    given = [checkpoint] if isinstance(checkpoint, (str, Path)) else list(checkpoint)
    files = checkpoint_files(given)
    out = bundle_beside(given, files) if options.output is None else local_path(options.output)
    limits = ThresholdOptions(options.threshold, options.false_alarm_rate, options.quantile)
    check_choice("target", targets, tuple(TARGETS))
    check_choice("precision", precisions, get_args(Precision))
    own_limits = parse_gates(options.gates)
    if options.float_budget < 0:
        raise OptionError(f"the float budget is {options.float_budget}, expected 0 or more layers")
    check_output(out, options.force)
    if options.block_form == "custom-op" and not ("onnx" in targets and "fp32" in precisions):
        raise OptionError(
            "custom-op is a form of the fp32 ONNX artifact: give --target onnx, --precision fp32"
        )

    say.stage("reading the checkpoint")
    loaded, model = read_model(files, options.host, options.name)
    say.note(_describe(loaded))
    if loaded.fit is None:
        say.stage("asking the source twice")
        check_repeatable(loaded.source, probe(loaded))

    wanted = Wanted(
        calibration=None if options.calibration is None else local_path(options.calibration),
        validation=None if options.validation is None else local_path(options.validation),
        training=None if options.training is None else local_path(options.training),
        limits=limits,
        precisions=precisions,
        suspects=options.suspects,
        bit_depth=options.bit_depth,
        framing=options.front_end,
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
        if not blocks and not options.host.allow_no_block:
            raise HostError(
                f"no SSPCAB block was found in {model.name}: export it all the same with --allow-no-block"
            )
        if not loaded.blocks:
            say.note("; ".join(map(_described, blocks)) or "no block in its graph")
        for text in kept_branches(blocks):
            say.note(text)
        if options.block_form == "reference":
            graph, _ = optimise(source.graph(), skip=("fold_sspcab",))
            blocks = tuple(msgspec.structs.replace(block, form="reference") for block in blocks)
        kept: ir.Model | None = None
        if options.block_form == "custom-op":
            kept, blocks = keep_blocks(graph, blocks)
            for text in still_folded(blocks):
                say.note(text)
        decision = found.decision
        manifest = msgspec.structs.replace(
            assemble_manifest(
                loaded, model, blocks, decision, found.record, options.release, found.front_end
            ),
            rounding=found.rounding,
        )
        exam = Examination(
            folder=folder,
            manifest=msgspec.structs.replace(manifest, front_end=found.judged_as),
            judged=found.judged,
            fit=found.fit,
            scene=found.scene,
            tolerance=clearance(decision, found.rounding),
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
                    budget=options.float_budget,
                    show_sensitivity=options.sensitivity,
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
        recipe = recipe_text(files, model.source, options, out.absolute().parent)
        (folder / RECIPE_NAME).write_bytes(recipe.encode("utf-8", errors="replace"))
        bundle = write_bundle(folder, manifest, out, force=options.force)
    for artifact, one in zip(bundle.manifest.artifacts, ordered, strict=True):
        if one.engine is not None and one.engine_parity is not None and artifact.target != "tensorrt":
            record_attestation(bundle, artifact, one.engine, one.engine_parity)
    return Exported(bundle, report)


def _with_arguments(
    stages: Callable[[Given, ExportOptions], Exported], make: Callable[_P, ExportOptions]
) -> Callable[Concatenate[Given, _P], Exported]:
    """A function that takes the options one by one, by their names, types and defaults."""

    def call(checkpoint: Given, /, *args: _P.args, **options: _P.kwargs) -> Exported:
        """Turn a trained checkpoint into a verified bundle.

        Takes the attributes of :class:`~sspcab_export.options.ExportOptions` by name, as in
        ``export("model.ckpt", targets=["openvino"], calibration="good", output="bundle")``, and is
        :func:`export_with` otherwise.
        """
        return stages(checkpoint, make(*args, **options))

    own = list(inspect.signature(stages).parameters.values())[:1]
    told = list(inspect.signature(make).parameters.values())
    functools.update_wrapper(call, stages, ("__module__",), ())
    call.__name__ = call.__qualname__ = "export"
    vars(call)["__signature__"] = inspect.Signature([*own, *told], return_annotation="Exported")
    return call


export = _with_arguments(export_with, ExportOptions)


def _describe(host: LoadedHost) -> str:
    """The host, with the blocks that its checkpoint tells of; those of others are known from their graph."""
    return "; ".join([f"host {host.name}", *map(_described, host.blocks)])


def _described(block: BlockSpec) -> str:
    return (
        f"block at {block.path or 'the root'}: {block.dialect}, k'={block.kernel}, d={block.dilation}, "
        f"r={block.reduction}, {block.channels} channels"
    )


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
