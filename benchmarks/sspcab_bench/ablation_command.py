"""``sspcab-bench ablation``: what each choice is worth."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click

from sspcab_bench.ablation import Measured, choices, run_ablation
from sspcab_bench.giving import check_output, give, strict_exit
from sspcab_bench.options import objective_option, output_option, source_option, strict_option
from sspcab_bench.report import head_json
from sspcab_bench.surroundings import Surroundings
from sspcab_bench.text_report import interval_text, machine_lines, warning_lines
from sspcab_edge.bundle import Bundle
from sspcab_edge.command import PATH, common_options, json_option
from sspcab_edge.manifest import Precision
from sspcab_runtime.engines import ENGINES
from sspcab_runtime.tables import table
from sspcab_runtime.tune_command import setting_json
from sspcab_runtime.tuning import Objective

__all__ = ["ablation"]


@click.command("ablation", short_help="What each choice is worth: forms, precisions, backends, threads.")
@click.argument("bundles", type=PATH, nargs=-1, required=True)
@click.option(
    "--backend", "backends", multiple=True, type=click.Choice(list(ENGINES)),
    help="Only this backend; repeat for several. [default: all that are installed]",
)  # fmt: skip
@click.option(
    "--precision", "precisions", multiple=True, type=click.Choice(get_args(Precision)),
    help="Only this precision; repeat for several. [default: all]",
)  # fmt: skip
@click.option(
    "--threads", multiple=True, type=click.IntRange(min=1),
    help="Threads of one inference; repeat for several. [default: backend's]",
)  # fmt: skip
@objective_option
@source_option
@click.option("--rounds", type=click.IntRange(6), default=12, show_default=True, help="Turns of each.")
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=0.5, show_default=True,
    help="At least so long for each turn.",
)  # fmt: skip
@output_option
@strict_option
@json_option
@common_options
@click.pass_context
def ablation(
    context: click.Context,
    bundles: tuple[Path, ...],
    backends: tuple[str, ...],
    precisions: tuple[str, ...],
    threads: tuple[int, ...],
    objective: Objective,
    source: str | None,
    rounds: int,
    seconds: float,
    output: Path | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Measure every way to run BUNDLES in turns, from file to verdict, against the first.

    What folding the block gains on the whole network:

        sspcab-export model.ckpt --block-form reference -o reference
        sspcab-export model.ckpt -o folded
        sspcab-bench ablation reference folded --objective latency
    """
    check_output(output)
    opened = [Bundle.open(path) for path in bundles]
    with Surroundings() as around:
        found = choices(opened, backends=backends, precisions=precisions, threads=threads or (None,))
        measured = run_ablation(
            found, objective=objective, source=source, rounds=rounds, seconds=seconds,
            progress=lambda done: click.echo(f"sspcab-bench: {done} of {rounds} rounds", err=True),
        )  # fmt: skip
    warnings = around.warnings()
    report: dict[str, Any] = {
        **head_json(around),
        "objective": objective,
        "rounds": rounds,
        "seconds": seconds,
        "results": [_row_json(one) for one in measured],
        "warnings": warnings,
    }
    what = "ms a frame, stages overlapped" if objective == "fps" else "median latency in ms"
    rows = [_row(one) for one in measured]
    text = "\n".join(
        [
            *machine_lines(around.machine),
            "",
            f"{what}, {rounds} rounds of turns",
            table(
                ("bundle", "artifact", "form", "backend", "threads", "ms", "times the first",
                 "95 % interval", "flips", "AUROC"),
                rows, right=range(4, 10),
            ),
            *warning_lines(warnings),
        ]
    )  # fmt: skip
    give(report, text, as_json, output)
    strict_exit(context, strict, warnings)


def _row(one: Measured) -> tuple[str, ...]:
    setting, parity = one.choice.setting, one.choice.setting.artifact.parity
    return (
        str(one.choice.bundle.path), setting.artifact.name, one.choice.form, setting.backend,
        "auto" if setting.threads is None else str(setting.threads), f"{one.cost_ms:.3f}",
        f"{one.times_first.median:.3f}", interval_text(one.times_first, 3),
        f"{parity.flips} of {parity.pictures}",
        "-" if parity.auroc_artifact is None else f"{parity.auroc_artifact:.4f}",
    )  # fmt: skip


def _row_json(one: Measured) -> dict[str, Any]:
    artifact = one.choice.setting.artifact
    return {
        "bundle": str(one.choice.bundle.path),
        "digest": one.choice.bundle.digest,
        "form": one.choice.form,
        **setting_json(one.choice.setting),
        "cost_ms": one.cost_ms,
        "times_first": asdict(one.times_first),
        "pictures": artifact.parity.pictures,
        "flips": artifact.parity.flips,
        "auroc_artifact": artifact.parity.auroc_artifact,
    }
