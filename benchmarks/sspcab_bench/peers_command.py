"""``sspcab-bench peers``: the same graph through the vendors' own tools."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sspcab_bench.giving import check_output, give
from sspcab_bench.options import bundle_argument, output_option
from sspcab_bench.peer_tools import TOOLS, against_tool, find_tool
from sspcab_bench.peer_torch import FORMS, against_torch
from sspcab_bench.peers import PEERS, Against, against_peer
from sspcab_bench.report import head_json
from sspcab_bench.surroundings import Surroundings
from sspcab_bench.text_report import interval_text, machine_lines, title, warning_lines
from sspcab_edge.bundle import Bundle
from sspcab_edge.command import LocalPath, common_options, json_option
from sspcab_edge.errors import MissingPackageError
from sspcab_runtime.engines import ENGINES, backends_for, installed
from sspcab_runtime.tables import table

__all__ = ["peers"]


@click.command("peers", short_help="The same graph through the vendors' own calls and tools.")
@bundle_argument
@click.option("--threads", type=click.IntRange(min=1), help="Threads of one inference. [default: backend's]")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True,
    help="Of each comparison; of each turn of a vendor's tool.",
)  # fmt: skip
@click.option(
    "--rounds",
    type=click.IntRange(0),
    default=6,
    show_default=True,
    help="Turns of the vendor's tool; 0 leaves it.",
)
@click.option(
    "--checkpoint", multiple=True, type=LocalPath(exists=True),
    help="What BUNDLE was exported from: compare with torch too; repeat where it is several files.",
)  # fmt: skip
@click.option(
    "--torch", "forms", multiple=True, type=click.Choice(FORMS), default=FORMS,
    help="With --checkpoint, only this form; repeat for several. [default: all]",
)  # fmt: skip
@click.option(
    "--backend", "backends", multiple=True, type=click.Choice(list(ENGINES)),
    help="Only this backend; repeat for several. [default: all that are installed]",
)  # fmt: skip
@output_option
@json_option
@common_options
def peers(
    bundle: Path,
    checkpoint: tuple[Path, ...],
    forms: tuple[str, ...],
    backends: tuple[str, ...],
    threads: int | None,
    seconds: float,
    rounds: int,
    output: Path | None,
    as_json: bool,
) -> None:
    """Measure what the runtime's engine call adds to the vendor's own, on BUNDLE's graphs.

    In turns on the same inputs: our call, which checks its inputs and copies its results, and the plain call
    of ONNX Runtime or OpenVINO; then OpenVINO's benchmark_app and TensorRT's trtexec, which feed random data,
    where there is one; and with --checkpoint torch, eager and compiled (which takes minutes).
    """
    check_output(output)
    opened = Bundle.open(bundle)
    with Surroundings() as around:
        found = list(_measure(opened, checkpoint, forms, backends, threads, seconds, rounds))
    if not found:
        raise MissingPackageError("onnxruntime or openvino", "onnxruntime", "peers")
    warnings = around.warnings(threads)
    report: dict[str, Any] = {
        **head_json(around, opened),
        "threads": threads,
        "results": [asdict(one) for one in found],
        "warnings": warnings,
    }
    rows = [
        (one.artifact, one.peer, f"{one.ours_ms:.3f}", f"{one.peer_ms:.3f}", f"{one.added_ms.median:+.4f}",
         interval_text(one.added_ms, 4), f"{one.ratio.median:.4f}", interval_text(one.ratio, 4))
        for one in found
    ]  # fmt: skip
    text = "\n".join(
        [
            title(opened),
            *machine_lines(around.machine),
            "",
            "median ms of one inference, ours and the peer's, in turns",
            table(
                (
                    "artifact",
                    "peer",
                    "ours ms",
                    "peer ms",
                    "added ms",
                    "95 % interval",
                    "ratio",
                    "95 % interval",
                ),
                rows,
                right=range(2, 8),
            ),
            *warning_lines(warnings),
        ]
    )
    give(report, text, as_json, output)


def _measure(
    bundle: Bundle,
    checkpoint: tuple[Path, ...],
    forms: tuple[str, ...],
    backends: tuple[str, ...],
    threads: int | None,
    seconds: float,
    rounds: int,
) -> Iterator[Against]:
    for artifact in bundle.manifest.artifacts:
        for backend in backends_for(artifact.target):
            if not installed(backend) or (backends and backend not in backends):
                continue
            if backend in PEERS:
                _progress(f"{artifact.name} against plain {backend}")
                yield against_peer(bundle, artifact, backend, threads=threads, seconds=seconds)
            tool = TOOLS.get(backend)
            program = None if tool is None or rounds == 0 else find_tool(tool)
            if tool is not None and program is not None:
                _progress(f"{artifact.name} against {tool.program}")
                yield against_tool(bundle, artifact, backend, program, rounds=rounds, seconds=seconds)
    for form in forms if checkpoint else ():
        _progress(f"the runtime's choice against torch, {form}")
        only = backends[0] if backends else None
        yield against_torch(bundle, checkpoint, form, backend=only, seconds=seconds)


def _progress(text: str) -> None:
    click.echo(f"sspcab-bench: {text}", err=True)
