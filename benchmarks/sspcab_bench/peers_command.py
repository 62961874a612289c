"""``sspcab-bench peers``: the same graph through the vendors' own tools."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sspcab_bench.giving import check_output, give
from sspcab_bench.options import bundle_argument, output_option
from sspcab_bench.peers import PEERS, Against, against_benchmark_app, against_peer, find_benchmark_app
from sspcab_bench.report import head_json
from sspcab_bench.surroundings import Surroundings
from sspcab_bench.text_report import interval_text, machine_lines, title, warning_lines
from sspcab_edge.bundle import Bundle
from sspcab_edge.command import common_options, json_option
from sspcab_edge.errors import MissingPackageError
from sspcab_runtime.engines import backends_for, installed
from sspcab_runtime.tables import table

__all__ = ["peers"]


@click.command("peers", short_help="The same graph through the vendors' own calls and tools.")
@bundle_argument
@click.option("--threads", type=click.IntRange(min=1), help="Threads of one inference. [default: backend's]")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=5.0, show_default=True,
    help="Of each comparison; of each turn of benchmark_app.",
)  # fmt: skip
@click.option(
    "--rounds",
    type=click.IntRange(0),
    default=6,
    show_default=True,
    help="Turns of benchmark_app; 0 leaves it.",
)
@output_option
@json_option
@common_options
def peers(
    bundle: Path, threads: int | None, seconds: float, rounds: int, output: Path | None, as_json: bool
) -> None:
    """Measure what the runtime's engine call adds to the vendor's own, on BUNDLE's graphs.

    In turns on the same inputs: our call, which checks its inputs and copies its results, and the plain call
    of ONNX Runtime or OpenVINO; then OpenVINO's benchmark_app, which feeds random data, where there is one.
    """
    check_output(output)
    opened = Bundle.open(bundle)
    with Surroundings() as around:
        app = find_benchmark_app() if rounds else None
        found: list[Against] = []
        for artifact in opened.manifest.artifacts:
            for backend in backends_for(artifact.target):
                if backend not in PEERS or not installed(backend):
                    continue
                click.echo(f"sspcab-bench: {artifact.name} against plain {backend}", err=True)
                found.append(against_peer(opened, artifact, backend, threads=threads, seconds=seconds))
                if backend == "openvino" and app is not None:
                    click.echo(f"sspcab-bench: {artifact.name} against benchmark_app", err=True)
                    found.append(against_benchmark_app(opened, artifact, app, rounds=rounds, seconds=seconds))
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
