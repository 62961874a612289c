"""What ``sspcab-export`` prints for people, from the report that ``--json`` gives."""

from __future__ import annotations

import shlex
from typing import Any

import click

__all__ = ["print_export", "print_plans"]


def print_export(report: dict[str, Any], with_sensitivity: bool) -> None:
    """What was made, what it still lacks, and the next command."""
    threshold = report["threshold"]
    shown = "none" if threshold is None else f"{threshold:.6g} ({report['decision']['policy']})"
    click.echo(f"bundle     {report['bundle']}")
    click.echo(f"threshold  {shown}")
    click.echo("artifact              MB  pictures  flips   bound  score diff   map diff  AUROC")
    for artifact in report["artifacts"]:
        parity = artifact["parity"]
        flips = "–" if parity["flips"] is None else str(parity["flips"])
        maps = "–" if parity["max_abs_map_diff"] is None else f"{parity['max_abs_map_diff']:.1e}"
        source, own = parity["auroc_source"], parity["auroc_artifact"]
        auroc = "–" if source is None else f"{source:.4f} -> {own:.4f}"
        bound = "–" if parity["flips_upper95"] is None else f"{parity['flips_upper95']:.2%}"
        name = f"{artifact['target']}-{artifact['precision']}"
        click.echo(
            f"{name:<16}{artifact['size_bytes'] / 1e6:>8.1f}  {parity['pictures']:>8}  {flips:>5}  "
            f"{bound:>6}  {parity['max_abs_score_diff']:>10.1e}  {maps:>9}  {auroc}"
        )
        if artifact["float_layers"]:
            click.echo(f"{'':<16}in float: {', '.join(artifact['float_layers'])}")
    for form, layers in report["sensitivity"].items() if with_sensitivity else ():
        _sensitivity(form, layers)
    print_plans(report.get("plans", []))
    bundle = shlex.quote(report["bundle"])
    if threshold is None:
        click.echo(
            "missing    a threshold: scores come without labels, and the daemon does not arm; fit one to "
            f"normal images: sspcab-edge fit {bundle} DIR"
        )
    if any(artifact["parity"]["scene"] == "built-in" for artifact in report["artifacts"]):
        click.echo(
            "missing    your scene: verdicts were compared on built-in images; give --calibration DIR, a "
            "folder of normal ones"
        )
    click.echo(f"next       sspcab-run {bundle} IMAGES")


def print_plans(plans: list[dict[str, Any]]) -> None:
    """A line for every plan: built, found, or why it is not there."""
    for plan in plans:
        if plan["reason"] is not None:
            click.echo(f"{plan['artifact']}: {plan['reason']}")
        else:
            how = "built" if plan["built"] else "found in the cache"
            cost = f"{plan['seconds']:.1f} s, {plan['size_bytes'] / 1e6:.1f} MB"
            where = f"{plan['device']} with TensorRT {plan['tensorrt']}"
            click.echo(f"{plan['artifact']}: plan {how} ({cost}), proved on {where}")


def _sensitivity(name: str, layers: list[dict[str, Any]]) -> None:
    click.echo(f"sensitivity: each layer at {name} alone, on fit pictures")
    click.echo(f"{'flips':>7}  {'mean score diff':>15}  {'max':>9}  layer")
    for layer in layers:
        flips = "–" if layer["flips"] is None else str(layer["flips"])
        click.echo(
            f"{flips:>7}  {layer['mean_abs_score_diff']:>15.2e}  {layer['max_abs_score_diff']:>9.1e}  "
            f"{layer['layer']}"
        )
