"""From checkpoint to verified bundle, every stage in the order in which it happens."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import msgspec

from sspcab_edge.bundle import Bundle, check_output, file_entry, staging, write_bundle
from sspcab_edge.errors import HostError, OptionError
from sspcab_edge.manifest import (
    Decision,
    FileEntry,
    Gate,
    Manifest,
    Model,
    Precision,
    Target,
)
from sspcab_edge.parity import write_pack
from sspcab_edge.protocols import Engine
from sspcab_export.assemble import assemble_manifest, kept_branches, named_blocks, unjudged_artifact
from sspcab_export.checkpoints import checkpoint_files, read_checkpoint
from sspcab_export.graph import OPSET, save_graph
from sspcab_export.hosts import HostOptions, LoadedHost, load_host
from sspcab_export.hosts.onnx_graph import load_onnx
from sspcab_export.passes import optimise
from sspcab_export.pictures import (
    Sample,
    builtin_samples,
    conversions,
    labelled_samples,
    load_frame,
    normal_samples,
)
from sspcab_export.report import as_json, as_markdown
from sspcab_export.splits import split_samples
from sspcab_export.thresholds import ThresholdOptions, decide_threshold
from sspcab_export.verify import (
    Judged,
    blends_near_threshold,
    gate_for,
    judge_artifact,
    judge_source,
    require,
    source_score,
)
from sspcab_runtime.attestation import record_attestation
from sspcab_runtime.detector import Detector
from sspcab_runtime.engines.table import open_engine
from sspcab_runtime.frontends.table import open_front_end

__all__ = ["TARGETS", "Exported", "Progress", "export"]

TARGETS: dict[Target, str] = {
    "onnx": "sspcab_export.to_onnx",
    "openvino": "sspcab_export.to_openvino",
}
"""Target -> module with ``export_files(graph, folder, precision)``."""

BACKENDS: dict[Target, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
"""Target -> the backend whose verdicts the gate judges."""

_FIT_SHARE = 0.5
_BLEND_PAIRS = 24


class Progress(Protocol):
    """Told what is happening; the command line prints it, a library call may ignore it."""

    def stage(self, text: str) -> None:
        """A new stage begins."""

    def step(self, done: int, total: int) -> None:
        """So much of the stage is done."""

    def note(self, text: str) -> None:
        """Something the user should know; it also stands in the report."""


class _Silent:
    def stage(self, text: str) -> None:
        del text

    def step(self, done: int, total: int) -> None:
        del done, total

    def note(self, text: str) -> None:
        del text


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
class _Pictures:
    """The user's pictures by use; ``scene`` says whether they are the user's at all."""

    normal_fit: tuple[Sample, ...]
    labelled_fit: tuple[Sample, ...]
    judge: tuple[Sample, ...]
    scene: Literal["given", "built-in"]
    notes: tuple[str, ...]


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
        precisions: Arithmetic of the artifacts, each once.
        calibration: Folder of normal pictures: the threshold is fitted to half, the gate judges on the rest.
        validation: Labelled pictures in the MVTec AD layout: judged on, and fitted to without calibration.
        threshold: The threshold itself, on the source's score scale.
        false_alarm_rate: Share of normal frames that may be flagged (default 0.01).
        quantile: Quantile of the normal scores to use as threshold instead.
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
    say = progress or _Silent()
    out = Path(output)
    limits = ThresholdOptions(threshold, false_alarm_rate, quantile)
    _check_choice("target", targets, tuple(TARGETS))
    _check_choice("precision", precisions, ("fp32",))
    check_output(out, force)

    say.stage("reading the checkpoint")
    given = [checkpoint] if isinstance(checkpoint, (str, Path)) else list(checkpoint)
    options = HostOptions(dialect, dilation, input_size, normalisation, allow_no_block)
    host, model = _read(checkpoint_files(given), options, name)
    say.note(_describe(host))
    for assumption in host.assumptions:
        say.note(f"assumed: {assumption}")

    say.stage("reading pictures")
    pictures = _pictures(calibration, validation, limits)
    for text in pictures.notes:
        say.note(text)

    say.stage("fitting the threshold")
    decision = _fit(host, pictures, limits, say)
    if decision.note is not None:
        say.note(decision.note)

    say.stage("judge pictures through the source")
    gate = gate_for("fp32", decision)
    judged = _judge_inputs(host, pictures, decision, gate, say)

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
        path = folder / "model.fp32.onnx"
        save_graph(graph, path)
        opset = int(graph.opset_imports.get("", OPSET))
        del graph
        files = {}
        for target in targets:
            say.stage(f"converting for {target}")
            module = _module(TARGETS[target])
            files[target] = module.export_files(path, folder, "fp32")
        artifacts = tuple(unjudged_artifact(folder, target, files[target], opset, gate) for target in targets)
        pack = write_pack(folder, [one.item for one in judged])
        manifest = assemble_manifest(host, model, blocks, decision, artifacts, pack, release)
        manifest, engines = _gated(folder, manifest, judged, gate, pictures.scene, say)
        require(manifest)
        if "onnx" not in targets:
            path.unlink()
        notes = (*pictures.notes, *((decision.note,) if decision.note else ()))
        report = as_json(manifest, str(out))
        (folder / "report.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
        )
        (folder / "report.md").write_text(as_markdown(manifest, notes), encoding="utf-8")
        bundle = write_bundle(folder, manifest, out, force=force)
    for artifact in bundle.manifest.artifacts:
        record_attestation(bundle, artifact, engines[artifact.name], artifact.parity)
    return Exported(bundle, report)


def _check_choice(what: str, chosen: Sequence[str], known: Sequence[str]) -> None:
    if not chosen:
        raise OptionError(f"no {what} given, expected one or more of {', '.join(known)}")
    for one in chosen:
        if one not in known:
            raise OptionError(f"unknown {what} {one!r}: expected one of {', '.join(known)}")
    if len(set(chosen)) != len(chosen):
        raise OptionError(f"a {what} is given twice: {', '.join(chosen)}")


def _module(name: str) -> ModuleType:
    return importlib.import_module(name)


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


def _pictures(
    calibration: str | Path | None, validation: str | Path | None, limits: ThresholdOptions
) -> _Pictures:
    """Read the user's pictures and split them; the built-in ones where there are none."""
    if calibration is None and validation is None:
        if limits.wants_normal_scores:
            raise OptionError("a false-alarm rate or quantile needs normal pictures: give --calibration DIR")
        note = "no pictures given: judged on built-in natural pictures, not your scene"
        return _Pictures((), (), tuple(builtin_samples()), "built-in", (note,))
    notes: list[str] = []
    normal = normal_samples(Path(calibration)) if calibration is not None else []
    labelled = labelled_samples(Path(validation)) if validation is not None else []
    seen = {sample.digest for sample in normal}
    repeated = [sample for sample in labelled if sample.digest in seen]
    if repeated:
        notes.append(
            f"{len(repeated)} pictures of --validation are in --calibration too: left out of judging"
        )
        labelled = [sample for sample in labelled if sample.digest not in seen]
    fit_normal = split_samples(normal, _FIT_SHARE)
    fit_labels = split_samples(labelled, 0.0 if normal or limits.threshold is not None else _FIT_SHARE)
    duplicates = fit_normal.duplicates + fit_labels.duplicates
    if duplicates:
        notes.append(f"{duplicates} near-duplicate pictures: kept on the same side of the split")
    notes.extend(conversions([*normal, *labelled]))
    judge = (*fit_normal.judge, *fit_labels.judge)
    if not judge or (normal and not (fit_normal.fit and fit_normal.judge)):
        raise OptionError(
            f"{len(normal) + len(labelled)} pictures cannot both fit the threshold and judge it: "
            "give more, or ones that are not near-duplicates"
        )
    return _Pictures(fit_normal.fit, fit_labels.fit, judge, "given", tuple(notes))


def _fit(host: LoadedHost, pictures: _Pictures, limits: ThresholdOptions, say: Progress) -> Decision:
    """Scores of the fit pictures through the source, and the threshold from them."""
    samples = (*pictures.normal_fit, *pictures.labelled_fit)
    scores = []
    for number, sample in enumerate(samples, 1):
        scores.append(source_score(host.source, load_frame(sample, host.preprocess))[0])
        say.step(number, len(samples))
    split = len(pictures.normal_fit)
    labelled = [(s, bool(p.label)) for s, p in zip(scores[split:], pictures.labelled_fit, strict=True)]
    return decide_threshold(limits, scores[:split], labelled, host.threshold)


def _judge_inputs(
    host: LoadedHost, pictures: _Pictures, decision: Decision, gate: Gate, say: Progress
) -> list[Judged]:
    """Judge pictures and blends near the threshold, with the source's answers."""
    total = len(pictures.judge)
    judged = judge_source(host.source, pictures.judge, host.preprocess, lambda done: say.step(done, total))
    if decision.threshold is None:
        return judged
    say.stage("mixing judge pictures near the threshold")
    foreign = []
    if pictures.scene == "given":
        foreign = [(f"built-in {s.name}", load_frame(s, host.preprocess)) for s in builtin_samples()]
    pairs = min(_BLEND_PAIRS, max(3, len(judged) // 3))
    blends = blends_near_threshold(
        host.source, judged, foreign, decision, gate, pairs, lambda done: say.step(done, pairs * 7)
    )
    if not blends:
        say.note("no blend lies near the threshold: no picture scores on one side of it")
    return [*judged, *blends]


def _gated(
    folder: Path,
    manifest: Manifest,
    judged: Sequence[Judged],
    gate: Gate,
    scene: Literal["given", "built-in"],
    say: Progress,
) -> tuple[Manifest, dict[str, Engine]]:
    """The manifest with every artifact judged through the runtime, and the (closed) engines that did it."""
    staged = Bundle(folder, manifest, digest="")
    threshold = manifest.decision.threshold
    artifacts, engines = [], {}
    for artifact in manifest.artifacts:
        say.stage(f"judging {artifact.name}")
        engine = open_engine(staged, artifact, backend=BACKENDS[artifact.target])
        front_end = open_front_end(manifest, artifact, threshold)
        with Detector(staged, artifact, engine, front_end, threshold) as detector:
            parity = judge_artifact(
                detector, judged, threshold, gate, scene, lambda done: say.step(done, len(judged))
            )
        artifacts.append(msgspec.structs.replace(artifact, parity=parity))
        engines[artifact.name] = engine
    return msgspec.structs.replace(manifest, artifacts=tuple(artifacts)), engines
