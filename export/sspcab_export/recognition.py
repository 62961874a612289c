"""What an export would do, found out without making anything: ``--dry-run``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from sspcab_edge.bundle import file_entry
from sspcab_edge.errors import GraphError
from sspcab_edge.local_path import local_path
from sspcab_export.assemble import named_blocks
from sspcab_export.checkpoints import bundle_beside, checkpoint_files
from sspcab_export.checkpoints.kinds import container
from sspcab_export.needs import MissingOptions, Need
from sspcab_export.options import ExportOptions
from sspcab_export.passes import optimise
from sspcab_export.reading import read_model

__all__ = ["print_recognition", "recognise"]


def recognise(checkpoint: Sequence[str | Path], options: ExportOptions) -> dict[str, Any]:
    """What a checkpoint is, what is assumed of it and what it still needs, as ``--dry-run --json`` gives it.

    ``host``, ``blocks`` and ``input`` are None as long as ``needs`` keep them from being known. Options of no
    use are an error, as in the export itself.

    Raises:
        EdgeError: Whatever an export would refuse before it looks at images.
    """
    files = checkpoint_files(checkpoint)
    output = bundle_beside(checkpoint, files) if options.output is None else local_path(options.output)
    entries = [file_entry(path, str(path)) for path in files]
    report: dict[str, Any] = {
        "schema": 1,
        "checkpoint": [
            {"path": one.path, "container": container(path), "size_bytes": one.size, "sha256": one.sha256}
            for path, one in zip(files, entries, strict=True)
        ],
        "host": None,
        "blocks": None,
        "input": None,
        "map": None,
        "threshold": None,
        "assumptions": [],
        "overrides": {},
        "targets": list(options.targets),
        "precisions": list(options.precisions),
        "bundle": str(output),
        "exists": output.exists(),
        "needs": [],
    }
    try:
        host, _ = read_model(files, options.host, options.name)
    except MissingOptions as error:
        return {**report, "said": error.what, "needs": [_plain(need) for need in error.needs]}
    blocks = host.blocks
    if not blocks and host.fit is None:
        try:
            blocks = named_blocks(optimise(host.source.graph())[1], blocks)
        except GraphError as error:
            report["said"] = str(error)
    size = host.preprocess
    return {
        **report,
        "host": host.name,
        "blocks": msgspec.to_builtins(blocks),
        "input": {"width": size.width, "height": size.height, "resize": size.resize},
        "map": None if host.map_size is None else {"width": host.map_size[1], "height": host.map_size[0]},
        "threshold": host.threshold,
        "assumptions": list(host.assumptions),
        "overrides": dict(host.overrides),
        "needs": [_plain(need) for need in _of_known(host.fit is not None, not blocks, options)],
    }


def _of_known(to_fit: bool, no_block: bool, options: ExportOptions) -> list[Need]:
    """What a network needs besides being understood."""
    needs = []
    if no_block and not options.host.allow_no_block:
        needs.append(Need("--allow-no-block", "", "there is no SSPCAB block in it"))
    told = (options.calibration, options.training, options.host.density_arrays, *options.host.statistics)
    if to_fit and not any(one is not None for one in told):
        needs.append(Need("--calibration", "DIR", "a folder of normal images that the host is fitted to"))
    if "int8" in options.precisions and options.calibration is None and not needs:
        needs.append(Need("--calibration", "DIR", "a folder of normal images that int8 is measured on"))
    return needs


def _plain(need: Need) -> dict[str, str]:
    return {"option": need.flag, "value": need.value, "why": need.why}


def print_recognition(report: dict[str, Any]) -> None:
    """The same for people."""
    for one in report["checkpoint"]:
        click.echo(f"checkpoint  {one['path']}: {one['container']}, {one['size_bytes']} bytes")
    if "said" in report:
        click.echo(f"            {report['said']}")
    if report["host"] is not None:
        click.echo(f"host        {report['host']}")
        size = report["input"]
        click.echo(f"input       {size['width']}x{size['height']}, {size['resize']}")
    for block in report["blocks"] or []:
        click.echo(
            f"block       {block['path'] or 'the root'}: {block['dialect']}, k'={block['kernel']}, "
            f"d={block['dilation']}, r={block['reduction']}, {block['channels']} channels"
        )
    if report["threshold"] is not None:
        click.echo(f"threshold   {report['threshold']:.6g}, from the checkpoint")
    for text in report["assumptions"]:
        click.echo(f"assumed     {text}")
    for name, value in report["overrides"].items():
        click.echo(f"overridden  {name} = {value}")
    made = ", ".join(
        f"{target}-{precision}" for precision in report["precisions"] for target in report["targets"]
    )
    there = ", which is there already: --force replaces it" if report["exists"] else ""
    click.echo(f"bundle      {report['bundle']}{there}: {made}")
    for need in report["needs"]:
        click.echo(f"needs       {need['option']} {need['value']}, {need['why']}".replace(" , ", ", "))
