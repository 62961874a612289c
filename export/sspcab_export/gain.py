"""A bundle gains targets: artifacts for another engine from the graphs that it holds already.

Nothing of torch or onnx is needed, so it works on a device. A TensorRT artifact at fp32 or fp16 is the ONNX
file that is there; an OpenVINO one is converted from it and replays the bundle's parity pack. Another
precision needs pictures and the float32 graph: that is an export of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import msgspec

from sspcab_edge.bundle import Bundle, replace_manifest, staging, write_bundle
from sspcab_edge.errors import OptionError
from sspcab_edge.manifest import Artifact, Manifest, Precision, Target
from sspcab_export.gates import require
from sspcab_export.progress import Progress
from sspcab_export.to_openvino import export_files
from sspcab_runtime.attestation import record_attestation
from sspcab_runtime.engines.table import open_engine
from sspcab_runtime.replay import judge_replay, replay

__all__ = ["add_targets"]


def add_targets(
    bundle: Bundle, targets: Sequence[Target], precisions: Sequence[Precision], say: Progress
) -> tuple[Bundle, tuple[str, ...]]:
    """The bundle with artifacts for these targets, in place, and the names of those that are new.

    Args:
        bundle: An opened bundle.
        targets: What it shall run on.
        precisions: Of each; none is what it has for the target, or else all that can be made for it.
        say: Told what happens.

    Raises:
        OptionError: The bundle holds no graph to make an artifact from.
        GateError: A new artifact does not give the source's verdicts.
        MissingPackageError: OpenVINO is asked for and not installed.
        OutputError: The bundle cannot be written.
    """
    has = {(a.target, a.precision): a for a in bundle.manifest.artifacts}
    added: list[str] = []
    for target in targets:
        there = [precision for kind, precision in has if kind == target]
        for precision in precisions or there or _offered(bundle):
            if (target, precision) in has:
                continue
            base = _graph_for(bundle, target, precision)
            if target == "openvino":
                bundle = _converted(bundle, base, say)
            else:
                shared = msgspec.structs.replace(base, target=target)
                bundle = replace_manifest(bundle, _with(bundle, shared))
            has = {(a.target, a.precision): a for a in bundle.manifest.artifacts}
            added.append(f"{target}-{precision}")
    return bundle, tuple(added)


def _offered(bundle: Bundle) -> list[Precision]:
    found: list[Precision] = []
    for artifact in bundle.manifest.artifacts:
        if artifact.target != "openvino" and artifact.flavour is None and artifact.precision not in found:
            found.append(artifact.precision)
    return found or ["fp32"]


def _graph_for(bundle: Bundle, target: Target, precision: Precision) -> Artifact:
    """The artifact whose ONNX file ``target`` can take at ``precision``."""
    flavour = None
    if precision == "int8":
        flavour = "signed" if target == "tensorrt" else "unsigned"
    for artifact in bundle.manifest.artifacts:
        if (
            artifact.files[0].endswith(".onnx")
            and artifact.precision == precision
            and artifact.flavour == flavour
        ):
            return artifact
    names = ", ".join(artifact.name for artifact in bundle.manifest.artifacts)
    threshold = bundle.manifest.decision.threshold
    given = "" if threshold is None else f" --threshold {threshold!r}"
    asked = f"--target {target} --precision {precision}"
    raise OptionError(
        f"{bundle.path} holds no graph for {target}-{precision} (it has {names}): export the checkpoint "
        f"again with {asked}, or its float32 graph: sspcab-export {bundle.path}/model.fp32.onnx "
        f"{asked}{given} --calibration DIR -o NEW"
    )


def _converted(bundle: Bundle, base: Artifact, say: Progress) -> Bundle:
    """The bundle with an OpenVINO artifact made of ``base`` and proved on its parity pack."""
    say.stage(f"converting {base.name} for openvino")
    with staging(bundle.path) as folder:
        for entry in bundle.manifest.files:
            (folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.file(entry.path), folder / entry.path)
        files = export_files(folder / base.files[0], folder, base.precision)
        size = sum((folder / file).stat().st_size for file in files)
        artifact = msgspec.structs.replace(base, target="openvino", files=files, size_bytes=size)
        staged = Bundle(folder, bundle.manifest, digest="")
        say.stage("replaying the parity pack")
        with open_engine(staged, artifact, backend="openvino", single=True) as engine:
            compared = replay(staged, artifact, engine, progress=say.step)
        on = f"{engine.backend} {engine.version}"
        parity = judge_replay(artifact, compared, bundle.manifest.decision.threshold, on)
        artifact = msgspec.structs.replace(artifact, parity=parity)
        require([artifact])
        grown = write_bundle(folder, _with(bundle, artifact), bundle.path, force=True)
    record_attestation(grown, artifact, engine, parity)
    return grown


def _with(bundle: Bundle, artifact: Artifact) -> Manifest:
    old = bundle.manifest
    return msgspec.structs.replace(old, artifacts=(*old.artifacts, artifact), release=old.release + 1)
