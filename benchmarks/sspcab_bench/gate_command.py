"""``sspcab-bench gate``: can this machine tell a slowdown?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sspcab_bench.gate_check import check_gate
from sspcab_bench.giving import check_output, give
from sspcab_bench.options import (
    backend_option,
    bundle_argument,
    objective_option,
    output_option,
    source_option,
)
from sspcab_bench.report import head_json
from sspcab_bench.surroundings import Surroundings
from sspcab_bench.text_report import machine_lines, title, warning_lines
from sspcab_edge.bundle import Bundle
from sspcab_edge.command import common_options, json_option
from sspcab_runtime.tuning import Objective

__all__ = ["gate"]


@click.command("gate", short_help="Can this machine tell a slowdown?")
@bundle_argument
@click.option(
    "--runs", type=click.IntRange(1), default=20, show_default=True, help="Comparisons of each kind."
)
@click.option(
    "--pairs", type=click.IntRange(6), default=20, show_default=True, help="Pairs of turns in each."
)
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=0.3, show_default=True, help="Of each turn."
)
@click.option("--added", type=click.FloatRange(0, 10), default=0.10, show_default=True, help="Share put in.")
@click.option("--limit", type=click.FloatRange(0, 10), default=0.05, show_default=True, help="Share allowed.")
@objective_option
@source_option
@backend_option
@output_option
@json_option
@common_options
def gate(
    bundle: Path,
    runs: int,
    pairs: int,
    seconds: float,
    added: float,
    limit: float,
    objective: Objective,
    source: str | None,
    backend: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Try sspcab-bench compare on this machine: BUNDLE against itself, and against itself slowed.

    The slowdown is put into the engine, which waits, busy, for a share of each call. Says how often the limit
    catches it, and how often it lets equals pass.
    """
    check_output(output)
    opened = Bundle.open(bundle)
    with Surroundings() as around:
        found = check_gate(
            opened, backend=backend, source=source, objective=objective, runs=runs, pairs=pairs,
            seconds=seconds, added=added, limit=limit,
            progress=lambda text: click.echo(f"sspcab-bench: {text}", err=True),
        )  # fmt: skip
    warnings = around.warnings()
    report: dict[str, Any] = {
        **head_json(around, opened),
        "objective": objective,
        "added": added,
        "limit": limit,
        "runs": runs,
        "caught": found.caught,
        "passed": found.passed,
        "slowed": list(found.slowed),
        "same": list(found.same),
        "warnings": warnings,
    }
    text = "\n".join(
        [
            title(opened),
            *machine_lines(around.machine),
            "",
            f"{added:.0%} added to the engine: {found.caught} of {runs} comparisons caught it at {limit:.0%} "
            f"(ratios {min(found.slowed):.3f} to {max(found.slowed):.3f})",
            f"nothing added: {found.passed} of {runs} passed "
            f"(ratios {min(found.same):.3f} to {max(found.same):.3f})",
            *warning_lines(warnings),
        ]
    )
    give(report, text, as_json, output)
