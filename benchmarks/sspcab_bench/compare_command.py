"""``sspcab-bench compare``: is the second slower than the first?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from sspcab_bench.compare import Change, EndToEnd, compare_paired, compare_reports, read_report
from sspcab_bench.giving import check_output, give
from sspcab_bench.options import output_option, source_option
from sspcab_bench.report import head_json
from sspcab_bench.surroundings import Surroundings
from sspcab_bench.text_report import interval_text
from sspcab_edge.bundle import Bundle
from sspcab_edge.command import LocalPath, common_options, json_option
from sspcab_edge.errors import OptionError
from sspcab_runtime.engines import ENGINES
from sspcab_runtime.tables import table
from sspcab_runtime.tuning import Objective

__all__ = ["REGRESSION", "changes_text", "compare", "max_regression_option", "regressions", "report_warnings"]

REGRESSION = 3
"""Exit code where something is slower than is allowed: the project's code for a gate that is not passed."""

_SAME_MACHINE = ("cpu", "affinity_cores", "cpu_limit", "governors", "packages")


def _share(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    number = value.strip().removesuffix("%")
    try:
        share = float(number) / 100 if value.strip().endswith("%") else float(number)
    except ValueError:
        share = -1.0
    if not 0 <= share < 10:
        raise click.BadParameter(f"{value!r} is no share: expected as in 5% or 0.05", context, parameter)
    return share


max_regression_option = click.option(
    "--max-regression", metavar="SHARE", callback=_share, help="Exit 3 where it is slower by more, as in 5%."
)


@click.command("compare", short_help="Is the second slower than the first?")
@click.argument("first", type=LocalPath(exists=True))
@click.argument("second", type=LocalPath(exists=True))
@max_regression_option
@click.option(
    "--objective", type=click.Choice(get_args(Objective)), default="fps", show_default=True,
    help="Of bundles: frames a second of the whole pipeline, or latency of one frame.",
)  # fmt: skip
@click.option(
    "--pairs", type=click.IntRange(6), default=20, show_default=True, help="Of bundles: pairs of turns."
)
@click.option(
    "--seconds", type=click.FloatRange(0, min_open=True), default=0.5, show_default=True,
    help="Of bundles: at least so long for each turn.",
)  # fmt: skip
@click.option(
    "--backend", type=click.Choice(list(ENGINES)), help="Of bundles. [default: the runtime's choice]"
)
@source_option
@output_option
@json_option
@common_options
@click.pass_context
def compare(
    context: click.Context,
    first: Path,
    second: Path,
    max_regression: float | None,
    objective: Objective,
    pairs: int,
    seconds: float,
    backend: str | None,
    source: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Compare two reports of sspcab-bench, or two bundles.

    Two bundles are timed in this run, in pairs of turns from file to verdict, which a noisy machine disturbs
    alike: believe this rather than two reports of different hours. A limit is held against the median of the
    pairs' ratios; of reports, against fps and the median latency.
    """
    check_output(output)
    if first.is_dir() != second.is_dir():
        raise OptionError("one is a file and the other a folder: expected two reports or two bundles")
    if source is not None and not first.is_dir():
        raise OptionError("--source is about bundles: reports were measured on something already")
    if first.is_dir():
        slower = _bundles(
            first, second, objective, pairs, seconds, backend, source, max_regression, output, as_json
        )
    else:
        with Surroundings() as around:
            before, after = read_report(first), read_report(second)
        changes = compare_reports(before, after)
        warnings = report_warnings(before, after)
        slower = regressions(changes, max_regression)
        report: dict[str, Any] = {
            **head_json(around),
            "results": [{name: getattr(change, name) for name in Change.__slots__} for change in changes],
            "max_regression": max_regression,
            "regressions": slower,
            "warnings": warnings,
        }
        give(report, changes_text(changes, slower, max_regression, warnings), as_json, output)
    if slower:
        context.exit(REGRESSION)


def _bundles(
    first: Path,
    second: Path,
    objective: Objective,
    pairs: int,
    seconds: float,
    backend: str | None,
    source: str | None,
    max_regression: float | None,
    output: Path | None,
    as_json: bool,
) -> list[str]:
    with Surroundings() as around:
        opened = Bundle.open(first), Bundle.open(second)
        with (
            EndToEnd.chosen(opened[0], backend, objective, source) as one,
            EndToEnd.chosen(opened[1], backend, objective, source) as other,
        ):
            settings = str(one.setting), str(other.setting)

            def progress(done: int) -> None:
                if done and done % 5 == 0:
                    click.echo(f"sspcab-bench: {done} of {pairs} pairs", err=True)

            found = compare_paired(one, other, pairs=pairs, seconds=seconds, progress=progress)
    warnings = around.warnings()
    slower = []
    if max_regression is not None and found.slower.median > 1 + max_regression:
        slower.append(
            f"{second} takes {found.slower.median:.3f} times as long as {first}, "
            f"allowed {1 + max_regression:.3f}"
        )
    sides = [
        {"path": str(bundle.path), "digest": bundle.digest, "setting": setting, "cost_ms": cost_ms}
        for bundle, setting, cost_ms in zip(opened, settings, (found.first_ms, found.second_ms), strict=True)
    ]
    report: dict[str, Any] = {
        **head_json(around),
        "objective": objective,
        "first": sides[0],
        "second": sides[1],
        "slower": {"median": found.slower.median, "low": found.slower.low, "high": found.slower.high},
        "pairs": list(found.ratios),
        "max_regression": max_regression,
        "regressions": slower,
        "warnings": warnings,
    }  # fmt: skip
    what = "milliseconds a frame, stages overlapped" if objective == "fps" else "median latency, milliseconds"
    text = "\n".join(
        [
            f"{what}, in {len(found.ratios)} pairs of turns",
            table(
                ("bundle", "setting", "ms"),
                [
                    (str(first), settings[0], f"{found.first_ms:.3f}"),
                    (str(second), settings[1], f"{found.second_ms:.3f}"),
                ],
                right=(2,),
            ),
            f"second over first: {found.slower.median:.3f}, 95 % interval {interval_text(found.slower, 3)}",
            *_verdict(slower, max_regression),
            *(f"warning: {warning}" for warning in warnings),
        ]
    )
    give(report, text, as_json, output)
    return slower


def regressions(changes: list[Change], max_regression: float | None) -> list[str]:
    """What is slower than is allowed, in words."""
    if max_regression is None:
        return []
    return [
        f"{change.what}: {change.figure} {change.before:.4g} became {change.after:.4g}, "
        f"{change.slower - 1:.1%} slower, allowed {max_regression:.1%}"
        for change in changes
        if change.judged and change.slower > 1 + max_regression
    ]


def report_warnings(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Why two reports may not be comparable."""
    old, new = before.get("machine", {}), after.get("machine", {})
    warnings = [
        f"the machines differ in {name}: {old.get(name)} before, {new.get(name)} now"
        for name in _SAME_MACHINE
        if old.get(name) != new.get(name)
    ]
    if before.get("source") != after.get("source"):
        warnings.append(f"measured on {before.get('source')} before, on {after.get('source')} now")
    for name, report in (("first", before), ("second", after)):
        warnings += [f"the {name} report warned: {warning}" for warning in report.get("warnings", [])]
    return warnings


def changes_text(
    changes: list[Change], slower: list[str], max_regression: float | None, warnings: list[str]
) -> str:
    """For a terminal."""
    rows = [
        (
            change.what,
            change.figure,
            f"{change.before:.4g}",
            f"{change.after:.4g}",
            f"{change.slower - 1:+.1%}",
        )
        for change in changes
    ]
    return "\n".join(
        [
            table(("result", "figure", "before", "after", "slower"), rows, right=(2, 3, 4)),
            *_verdict(slower, max_regression),
            *(f"warning: {warning}" for warning in warnings),
        ]
    )


def _verdict(slower: list[str], max_regression: float | None) -> list[str]:
    if max_regression is None:
        return []
    return [f"REGRESSION: {one}" for one in slower] or [f"no regression beyond {max_regression:.1%}"]
