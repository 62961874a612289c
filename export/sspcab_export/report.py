"""Reports of an export: stable JSON, and Markdown for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sspcab_edge.block import BlockSpec
from sspcab_edge.manifest import SCHEMA, Manifest, Parity
from sspcab_export.precision.sensitivity import LayerEffect

__all__ = ["as_json", "as_markdown", "sensitivity_table"]

_ARTIFACT_KEYS = (
    "target",
    "precision",
    "flavour",
    "files",
    "size_bytes",
    "opset",
    "float_layers",
    "score_map",
    "parity",
)


Effects = Mapping[str, Sequence[LayerEffect]]
"""Sensitivity of layers, by form of the graph."""


def as_json(manifest: Manifest, bundle: str | None, effects: Effects) -> dict[str, Any]:
    """The stable object that ``sspcab-export --json`` prints and ``report.json`` holds; ``bundle`` is None
    where a gate was not passed and none was made."""
    plain: dict[str, Any] = msgspec.to_builtins(manifest)
    return {
        "schema": SCHEMA,
        "bundle": bundle,
        "host": manifest.host,
        "model": plain["model"],
        "blocks": plain["blocks"],
        "preprocess": plain["preprocess"],
        "threshold": manifest.decision.threshold,
        "decision": plain["decision"],
        "artifacts": [{key: artifact[key] for key in _ARTIFACT_KEYS} for artifact in plain["artifacts"]],
        "rounding": plain["rounding"],
        "calibration": plain["calibration"],
        "sensitivity": {
            name: msgspec.to_builtins(list(layers)) for name, layers in effects.items() if layers
        },
        "parity_inputs": manifest.parity_pack.inputs,
        "tools": plain["tools"],
    }


def as_markdown(manifest: Manifest, notes: tuple[str, ...], effects: Effects) -> str:
    """The report that lies in the bundle for people.

    Args:
        manifest: The bundle's, finished but for its list of files.
        notes: What was said during the export.
        effects: What each layer does at lower precision, where that was measured.
    """
    model, decision, size = manifest.model, manifest.decision, manifest.preprocess
    threshold = "none" if decision.threshold is None else f"{decision.threshold:.6g}"
    fitted = f", fitted on {decision.fitted_on} pictures" if decision.fitted_on else ""
    lines = [
        f"# {model.name}",
        "",
        f"Host **{manifest.host}**, input {size.width}x{size.height} ({size.resize}), "
        f"threshold **{threshold}** ({decision.policy}{fitted}).",
        "",
        "| file | bytes | SHA-256 |",
        "|---|---|---|",
        *(f"| {entry.path} | {entry.size} | `{entry.sha256}` |" for entry in model.source),
        "",
        "## Blocks",
        "",
        "| path | dialect | k' | d | r | channels | form |",
        "|---|---|---|---|---|---|---|",
        *map(_block_row, manifest.blocks),
        "",
        "## Parity: source against artifact, from file to verdict",
        "",
        "| artifact | MB | pictures | blends | flips | 95 % bound | score diff | map diff | margin "
        "| AUROC source | AUROC artifact | gate | judged on |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for artifact in manifest.artifacts:
        p = artifact.parity
        cells = [
            artifact.name,
            f"{artifact.size_bytes / 1e6:.1f}",
            str(p.pictures),
            str(p.blends),
            _flips(p),
            _number(p.flips_upper95),
            _number(p.max_abs_score_diff),
            _number(p.max_abs_map_diff),
            _number(p.margin),
            _number(p.auroc_source),
            _number(p.auroc_artifact),
            "passed" if p.passed else "NOT PASSED",
            p.engine,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += _rounding(manifest)
    if any(a.parity.scene == "built-in" for a in manifest.artifacts):
        lines += [
            "",
            "Judged on built-in natural pictures: **not your scene**. Give --calibration to judge on it.",
        ]
    if decision.normal is not None:
        n = decision.normal
        lines += [
            "",
            f"Scores of normal pictures: minimum {n.minimum:.4g}, quartiles {n.q25:.4g}, {n.median:.4g}, "
            f"{n.q75:.4g}, maximum {n.maximum:.4g}.",
        ]
    for artifact in manifest.artifacts:
        if artifact.float_layers:
            lines += ["", f"Layers of {artifact.name} in float: {', '.join(artifact.float_layers)}."]
    for name, layers in effects.items():
        if layers:
            lines += ["", f"## Sensitivity: each layer at {name} alone", "", *sensitivity_table(layers)]
    told = [
        *(f"overridden: {name} = {value}" for name, value in sorted(model.overrides.items())),
        *(f"assumed: {text}" for text in model.assumptions),
        *notes,
    ]
    if told:
        lines += ["", "## Notes", "", *(f"* {text}" for text in told)]
    tools = ", ".join(f"{name} {version}" for name, version in sorted(manifest.tools.items()))
    lines += ["", f"Made {manifest.created} with {tools}."]
    return "\n".join(lines) + "\n"


def sensitivity_table(effects: Sequence[LayerEffect]) -> list[str]:
    """The lines of a Markdown table, the worst layer first."""
    return [
        "| layer | flips | mean score diff | max score diff |",
        "|---|---|---|---|",
        *(
            f"| {e.layer} | {_number(e.flips)} | {_number(e.mean_abs_score_diff)} "
            f"| {_number(e.max_abs_score_diff)} |"
            for e in effects
        ),
    ]


def _rounding(manifest: Manifest) -> list[str]:
    """How far rounding alone moves the source, and what differences are allowed."""
    own = manifest.rounding
    if own is None:
        return []
    heat = "" if own.map is None else f", its map by up to {own.map:.2g}"
    how = "float64" if own.method == "float64" else "another order of summation"
    lines = [
        "",
        f"Rounding alone moves the source's score by up to {own.score:.2g}{heat} (on {own.inputs} inputs, "
        f"against {how}).",
    ]
    if not own.trusted:
        lines[-1] += " **That is more than a gate can allow: its verdicts depend on the machine.**"
    for gate in (a.parity.gate for a in manifest.artifacts[:1] if a.precision == "fp32"):
        limits = {
            "flips": gate.max_flips,
            "score": gate.score_tolerance,
            "map": gate.map_tolerance,
            "mean of a map": gate.mean_map_tolerance,
        }
        asked = ", ".join(f"{name} {_number(limit)}" for name, limit in limits.items() if limit is not None)
        lines[-1] += f" Limits of fp32: {asked}."
    return lines


def _flips(parity: Parity) -> str:
    if not parity.blend_flips:
        return _number(parity.flips)
    return f"{parity.flips} ({parity.blend_flips} of blends)"


def _block_row(block: BlockSpec) -> str:
    cells = (block.path, block.dialect, block.kernel, block.dilation, block.reduction, block.channels)
    return f"| {' | '.join(map(str, cells))} | {block.form} |"


def _number(value: float | int | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.4g}"
