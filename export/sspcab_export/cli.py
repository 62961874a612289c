"""``sspcab-export``: a trained checkpoint becomes a verified bundle. Imports without torch and onnx."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from sspcab_edge.block import DIALECTS
from sspcab_edge.command import common_options, json_option, run
from sspcab_edge.errors import MissingPackageError
from sspcab_export.progress import ConsoleProgress

__all__ = ["command", "main"]

_TARGETS = ("onnx", "openvino")
_PRECISIONS = ("fp32",)
_NORMALISATIONS = ("none", "imagenet")

_EXAMPLES = """
\b
Examples:
  sspcab-export run.pckl -o bundle --calibration good/
      DRAEM's two files (run.pckl, run_seg.pckl), threshold from normal pictures
  sspcab-export model.ckpt -o bundle --target onnx --target openvino --validation mvtec/bottle
      an anomalib checkpoint, judged on labelled pictures in the MVTec AD layout
  sspcab-export model.onnx -o bundle
      an ONNX file that holds the block; parity on built-in pictures, not your scene
"""


class _Size(click.ParamType[tuple[int, int]]):
    """HEIGHTxWIDTH, or one number for a square."""

    name = "HxW"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
            self.fail(f"{value!r} is no size: expected HEIGHTxWIDTH in pixels, as in 256x256", param, ctx)
        return int(parts[0]), int(parts[-1])


@click.command(name="sspcab-export", epilog=_EXAMPLES)
@click.argument("checkpoint", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The bundle to make.")
@click.option(
    "--target", "targets", multiple=True, type=click.Choice(_TARGETS), default=("onnx",), show_default=True,
    help="Engine to export for; repeat for several.",
)  # fmt: skip
@click.option(
    "--precision", "precisions", multiple=True, type=click.Choice(_PRECISIONS), default=("fp32",),
    show_default=True, help="Arithmetic of the artifacts.",
)  # fmt: skip
@click.option(
    "--calibration", type=click.Path(path_type=Path),
    help="Folder of normal pictures of your scene: half fit the threshold, the rest are judged.",
)  # fmt: skip
@click.option(
    "--validation", type=click.Path(path_type=Path),
    help="Labelled pictures in the MVTec AD layout (good/ and a folder per defect): judged, with AUROC; "
    "without --calibration half of them fit the threshold (best F1).",
)  # fmt: skip
@click.option("--threshold", type=float, help="The threshold itself, on the model's own score scale.")
@click.option(
    "--false-alarm-rate", type=float, help="Share of normal frames that may be flagged. [default: 0.01]"
)
@click.option("--quantile", type=float, help="Quantile of the normal scores to take as threshold instead.")
@click.option(
    "--dialect", metavar="NAME",
    help=f"Dialect of the blocks ({', '.join(DIALECTS)}), overriding what their keys tell.",
)  # fmt: skip
@click.option(
    "--dilation",
    type=int,
    help="Dilation d of the blocks, which no checkpoint stores. [default: 1]",
)
@click.option("--input-size", type=_Size(), help="Input of the graph in pixels. [default: the host's]")
@click.option(
    "--normalisation", type=click.Choice(_NORMALISATIONS),
    help="What is done to [0, 1] pixels, where the checkpoint cannot tell.",
)  # fmt: skip
@click.option("--allow-no-block", is_flag=True, help="Export a network that holds no SSPCAB block.")
@click.option("--name", help="Name of the model. [default: the checkpoint's file name]")
@click.option(
    "--release",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="The bundle's release number.",
)
@click.option("--force", is_flag=True, help="Replace an older bundle at the output, in one step.")
@json_option
@common_options
def command(
    checkpoint: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Turn CHECKPOINT into a verified bundle.

    CHECKPOINT is what training left: either or both of DRAEM's two .pckl files, one file with both state
    dicts, .safetensors, an anomalib .ckpt, a folder with one of these, or an ONNX file. The bundle is made
    only if every artifact gives the same verdicts as the source; a failed gate exits with 3.
    """
    # torch's OpenMP threads spin while they wait: on a busy machine that costs several times the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from sspcab_export.pipeline import export
    except ModuleNotFoundError as error:
        raise MissingPackageError(str(error.name), "export", "sspcab-export") from error
    progress = ConsoleProgress()
    try:
        exported = export(checkpoint, progress=progress, **options)
    finally:
        progress.finish()
    if as_json:
        click.echo(json.dumps(exported.report))
        return
    _print(exported.report)


def _print(report: dict[str, Any]) -> None:
    threshold = report["threshold"]
    shown = "none" if threshold is None else f"{threshold:.6g} ({report['decision']['policy']})"
    click.echo(f"bundle     {report['bundle']}")
    click.echo(f"threshold  {shown}")
    click.echo("artifact              MB  pictures  flips  score diff   map diff  AUROC")
    for artifact in report["artifacts"]:
        parity = artifact["parity"]
        flips = "–" if parity["flips"] is None else str(parity["flips"])
        maps = "–" if parity["max_abs_map_diff"] is None else f"{parity['max_abs_map_diff']:.1e}"
        source, own = parity["auroc_source"], parity["auroc_artifact"]
        auroc = "–" if source is None else f"{source:.4f} -> {own:.4f}"
        name = f"{artifact['target']}-{artifact['precision']}"
        click.echo(
            f"{name:<16}{artifact['size_bytes'] / 1e6:>8.1f}  {parity['pictures']:>8}  {flips:>5}  "
            f"{parity['max_abs_score_diff']:>10.1e}  {maps:>9}  {auroc}"
        )
    click.echo(f"next       sspcab-run {report['bundle']} PICTURES")


def main() -> None:
    """Entry point of ``sspcab-export``."""
    run(command, "sspcab-export")


if __name__ == "__main__":
    main()
