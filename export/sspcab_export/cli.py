"""``sspcab-export``: a trained checkpoint becomes a verified bundle. Imports without torch and onnx."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import click
import msgspec

from sspcab_edge.bundle import Bundle, check_output, is_bundle
from sspcab_edge.command import PATH, common_options, json_option, run
from sspcab_edge.errors import EngineError, GateError, MissingPackageError, OptionError
from sspcab_edge.local_path import local_path
from sspcab_edge.manifest import Artifact, Precision, Target
from sspcab_export.checkpoints import bundle_beside, checkpoint_files
from sspcab_export.command_options import GroupedCommand, GroupedOption, declared_options, take
from sspcab_export.front_end_options import FrontEndOptions
from sspcab_export.host_options import HostOptions
from sspcab_export.needs import check_program
from sspcab_export.options import ExportOptions
from sspcab_export.progress import ConsoleProgress
from sspcab_export.recipe_file import read_recipe
from sspcab_export.summary import print_export, print_plans

__all__ = ["command", "main"]

_EXAMPLES = """
\b
Examples:
  sspcab-export model.pt --target tensorrt
      the shortest: model-bundle, judged on built-in images, and the plan where a GPU is; says what is missing
  sspcab-export run.pckl -o bundle --calibration good/
      DRAEM's two files (run.pckl, run_seg.pckl), threshold from normal pictures
  sspcab-export model.ckpt -o bundle --target onnx --target openvino --validation mvtec/bottle
      an anomalib checkpoint, judged on labelled pictures in the MVTec AD layout
  sspcab-export model.onnx -o bundle
      an ONNX file that holds the block; parity on built-in pictures, not your scene
  sspcab-export model.ckpt -o bundle --target openvino --precision int8 --calibration good/
      int8: ranges from a quarter of the pictures, verdicts judged on those that nothing was fitted to
  sspcab-export weights.pth --factory my.network:make --score error --input-size 256x256 -o bundle
      any network: its code makes the module, the score is the error of its reconstruction
  sspcab-export cutpaste.pth -o bundle --calibration good/ --density kde
      CutPaste: the density is fitted to half of the normal pictures, and lies in the graph
  sspcab-export model.ckpt -o bundle --calibration good/ --tiles --region 0,200,2448,1600
      5-megapixel frames: a part of them, in tiles at full resolution
  sspcab-export model.ckpt -o bundle --target tensorrt --precision fp16 --calibration good/
      a typed graph for TensorRT 10.3 to 11; its plan is built on the device:
  sspcab-export bundle --target tensorrt
      on the device: build the plans of a bundle and replay its parity pack on them
"""


@click.command(name="sspcab-export", epilog=_EXAMPLES, cls=GroupedCommand)
@click.argument("checkpoint", nargs=-1, type=PATH)
@declared_options(ExportOptions, HostOptions, FrontEndOptions)
@click.option(
    "--require-plan", is_flag=True, cls=GroupedOption, group="Precision and gate",
    help="With --target tensorrt: fail unless plans can be built and proved on this machine.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, cls=GroupedOption, group="Common",
    help="Make nothing: say what CHECKPOINT is, what is assumed of it and what it still needs. Exits with 2 "
    "where something is missing.",
)  # fmt: skip
@click.option(
    "--recipe", "recipe_path", type=PATH, metavar="FILE.toml", cls=GroupedOption,
    group="Common", help="Take options, and CHECKPOINT, from this file, by the same names; every bundle "
    "holds the recipe that made it. What is given here wins.",
)  # fmt: skip
@json_option
@common_options
def command(
    checkpoint: tuple[Path, ...],
    recipe_path: Path | None,
    dry_run: bool,
    require_plan: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Turn CHECKPOINT into a verified bundle.

    CHECKPOINT is what training left: either or both of DRAEM's two .pckl files, one file with both state
    dicts, .safetensors, an anomalib .ckpt, CutPaste's weights, a folder with one of these, or an ONNX file.
    Of any other network: its weights with --factory, or a program (.pt2, TorchScript) with --trust. The
    bundle is made only if every artifact gives the same verdicts as the source; a failed gate exits with 3.

    CHECKPOINT may be a bundle: with --target tensorrt its plans are built and proved on this machine (neither
    torch nor onnx is needed); with another target or precision it gains that artifact.
    """
    if recipe_path is not None:
        checkpoint = _follow(recipe_path, checkpoint, values)
    if not checkpoint:
        raise click.UsageError("Missing argument 'CHECKPOINT...'.")
    targets, precisions = values["targets"], values["precisions"]
    if require_plan and "tensorrt" not in targets:
        raise OptionError("--require-plan is about TensorRT: give --target tensorrt with it")
    if len(checkpoint) == 1 and is_bundle(checkpoint[0]):
        if dry_run:
            raise OptionError(
                f"--dry-run is about checkpoints; sspcab-edge inspect {checkpoint[0]} shows a bundle"
            )
        if values["output"] is not None:
            raise OptionError(f"{checkpoint[0]} is a bundle and is added to in place: leave -o out")
        _add_to(checkpoint[0], targets, precisions, require_plan, as_json)
        return
    nested = {"host": take(HostOptions, values), "front_end": take(FrontEndOptions, values)}
    options = take(ExportOptions, values, nested)
    if dry_run:
        _try_out(checkpoint, options, as_json)
        return
    check_output(
        local_path(options.output or bundle_beside(checkpoint, checkpoint_files(checkpoint))), options.force
    )
    check_program(checkpoint_files(checkpoint), options.host)
    if require_plan:
        _require_device()
    # torch's OpenMP threads spin while they wait: on a busy machine that costs several times the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from sspcab_export.pipeline import export_with
    except ModuleNotFoundError as error:
        raise MissingPackageError(str(error.name), "export", "sspcab-export") from error
    progress = ConsoleProgress()
    try:
        exported = export_with(checkpoint, dataclasses.replace(options, progress=progress))
    except GateError as error:
        if as_json and error.report is not None:
            click.echo(msgspec.json.encode(error.report))
        raise
    finally:
        progress.finish()
    report = exported.report
    if "tensorrt" in options.targets:
        report = {**report, "plans": _plans(exported.bundle, (), require_plan)}
    if as_json:
        click.echo(json.dumps(report))
        return
    print_export(report, options.sensitivity)


def _try_out(checkpoint: tuple[Path, ...], options: ExportOptions, as_json: bool) -> None:
    """Say what would be done; exit with 2 where something is missing."""
    try:
        from sspcab_export.recognition import print_recognition, recognise
    except ModuleNotFoundError as error:
        raise MissingPackageError(str(error.name), "export", "sspcab-export") from error
    report = recognise(checkpoint, options)
    if as_json:
        click.echo(json.dumps(report))
    else:
        print_recognition(report)
    if report["needs"]:
        raise click.exceptions.Exit(2)


def _follow(path: Path, checkpoint: tuple[Path, ...], values: dict[str, Any]) -> tuple[Path, ...]:
    """Put what a recipe says to what was given, which wins; the checkpoint of the two."""
    given = {name for name, value in values.items() if not (value is None or value is False or value == ())}
    recipe = read_recipe(path, given | ({"checkpoint"} if checkpoint else set()))
    for name, line in recipe.lines.items():
        if name in given:
            click.echo(f"{path}:{line}: another value was given, which wins", err=True)
    for note in recipe.notes:
        click.echo(note, err=True)
    values.update(recipe.values)
    return checkpoint or recipe.checkpoint


def _add_to(
    path: Path,
    targets: tuple[Target, ...],
    precisions: tuple[Precision, ...],
    require_plan: bool,
    as_json: bool,
) -> None:
    """Give a bundle the targets it lacks, and build its plans where TensorRT is one of them."""
    from sspcab_export.gain import add_targets

    if not targets:
        raise OptionError(f"{path} is a bundle: say with --target what it shall run on")
    progress = ConsoleProgress()
    try:
        bundle, added = add_targets(Bundle.open(path), targets, precisions, progress)
    finally:
        progress.finish()
    report: dict[str, Any] = {
        "schema": 1,
        "bundle": str(path),
        "release": bundle.manifest.release,
        "artifacts": [artifact.name for artifact in bundle.manifest.artifacts],
        "added": list(added),
    }
    if "tensorrt" in targets:
        report["plans"] = _plans(bundle, precisions, require_plan)
    if as_json:
        click.echo(json.dumps(report))
        return
    click.echo(f"bundle     {path}, release {bundle.manifest.release}")
    click.echo(f"artifacts  {', '.join(report['artifacts'])}")
    click.echo(f"added      {', '.join(added) or 'nothing: it has them already'}")
    print_plans(report.get("plans", []))


def _require_device() -> None:
    """Refuse before a long export what would fail behind it."""
    from sspcab_runtime.engines.tensorrt import can_build

    reason = can_build()
    if reason is not None:
        raise EngineError(f"--require-plan, and no TensorRT plan can be built here: {reason}")


def _plans(bundle: Bundle, precisions: tuple[str, ...], require_plan: bool) -> list[dict[str, Any]]:
    """Build and prove a bundle's plans where that is possible; what came of it, a record each."""
    from sspcab_runtime.engines.tensorrt import prepare_bundle

    progress = ConsoleProgress()
    stages: set[str] = set()

    def report(artifact: Artifact, what: str, done: int, of: int) -> None:
        text = f"{artifact.name}: {what}"
        if text not in stages:
            stages.add(text)
            progress.stage(text)
        progress.step(done, of)

    try:
        prepared = prepare_bundle(bundle, precisions=precisions, require_plan=require_plan, progress=report)
    finally:
        progress.finish()
    return [
        {
            "artifact": one.artifact.name,
            "plan": None if one.plan is None else str(one.plan),
            "built": one.built,
            "seconds": one.seconds,
            "size_bytes": one.size_bytes,
            "tensorrt": one.version,
            "device": one.device,
            "reason": one.reason,
        }
        for one in prepared
    ]


def main() -> None:
    """Entry point of ``sspcab-export``."""
    run(command, "sspcab-export")


if __name__ == "__main__":
    main()
