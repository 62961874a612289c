"""Reports of all suites as JSON: the stable keys of ``DESIGN.md`` §7, and more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import msgspec

from sspcab_bench.artifact import Measured
from sspcab_bench.block_suite import BlockComparison, geometric_means
from sspcab_bench.summary import Statistics
from sspcab_bench.surroundings import Surroundings
from sspcab_bench.tuned_suite import LIMIT, TunedComparison
from sspcab_edge.bundle import Bundle
from sspcab_runtime.setting import Setting
from sspcab_runtime.tune_command import setting_json

__all__ = ["block_json", "bundle_json", "encode", "head_json", "tuned_json"]

_SCHEMA = 1


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def encode(report: Mapping[str, Any]) -> bytes:
    """The bytes of a report, indented, with a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def head_json(around: Surroundings, bundle: Bundle | None = None) -> dict[str, Any]:
    """What every report begins with."""
    head = {"schema": _SCHEMA, "created": _now(), "machine": _machine_json(around)}
    return head if bundle is None else {**head, "bundle": _bundle_json(bundle)}


def bundle_json(
    bundle: Bundle,
    results: Sequence[Measured],
    around: Surroundings,
    *,
    source: str,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The report of the bundle suite; milliseconds, MiB and cores, unless the key says another unit."""
    return {
        **head_json(around, bundle),
        "source": source,
        "results": [{**_measured_json(result), "judged": _judged_json(bundle, result)} for result in results],
        "warnings": list(warnings),
    }


def _bundle_json(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "path": str(bundle.path),
        "digest": bundle.digest,
        "name": manifest.model.name,
        "host": manifest.host,
        "release": manifest.release,
        "width": manifest.preprocess.width,
        "height": manifest.preprocess.height,
    }


def _measured_json(result: Measured) -> dict[str, Any]:
    return {
        "target": result.target,
        "precision": result.precision,
        "backend": result.backend,
        "version": result.version,
        "threads": result.threads,
        "streams": result.streams,
        "batch": result.batch,
        "fps": result.fps,
        "engine_fps": result.engine_fps,
        "latency_ms": _statistics_json(result.latency),
        "histogram_ms": asdict(result.histogram),
        "stages_ms": {stage: statistics.mean for stage, statistics in result.stages.items()},
        "stages": {stage: _statistics_json(statistics) for stage, statistics in result.stages.items()},
        "count": result.latency.count,
        "cov": result.latency.cov,
        "stable": result.latency.stable,
        "warm_up": asdict(result.warm_up),
        "load_s": result.load_s,
        "first_infer_ms": result.first_infer_ms,
        "peak_rss_mb": result.peak_rss_mb,
        **({} if result.objects is None else {"objects": _objects_json(result.objects)}),
        "energy_per_frame_mj": result.energy_per_frame_mj,
        "parity": {
            "inputs": result.inputs,
            "checked": result.checked,
            "max_abs_score_diff": result.max_abs_score_diff,
        },
    }


def _objects_json(frames: Mapping[int, int]) -> dict[str, Any]:
    """How many objects frames had: mean and most, and frames by number of objects."""
    return {
        "mean": sum(count * own for count, own in frames.items()) / sum(frames.values()),
        "max": max(frames),
        "frames": {str(count): own for count, own in sorted(frames.items())},
    }


def _judged_json(bundle: Bundle, result: Measured) -> dict[str, Any]:
    """What the export found of this artifact."""
    artifact = next(one for one in bundle.manifest.artifacts if one.name == result.artifact)
    parity = artifact.parity
    return {
        "size_bytes": artifact.size_bytes,
        "pictures": parity.pictures,
        "flips": parity.flips,
        "flips_upper95": parity.flips_upper95,
        "auroc_source": parity.auroc_source,
        "auroc_artifact": parity.auroc_artifact,
    }


def _statistics_json(statistics: Statistics) -> dict[str, float]:
    """Milliseconds; how many there were stands beside it."""
    plain = asdict(statistics)
    del plain["count"]
    return plain


def _machine_json(around: Surroundings) -> dict[str, Any]:
    return {
        **asdict(around.machine),
        "usable_cores": around.machine.usable_cores,
        "load": None if around.load is None else asdict(around.load),
        "sensors": None if around.watched is None else asdict(around.watched),
    }


def block_json(
    comparisons: Sequence[BlockComparison], around: Surroundings, *, warnings: Sequence[str]
) -> dict[str, Any]:
    """The report of the block suite."""
    return {
        **head_json(around),
        "results": [
            {
                "backend": comparison.backend,
                "form": measured.form,
                **_block_json(comparison),
                "precision": "fp32",
                "threads": comparison.threads,
                "latency_ms": _statistics_json(measured.latency),
                "count": measured.latency.count,
                "cov": measured.latency.cov,
                "stable": measured.latency.stable,
            }
            for comparison in comparisons
            for measured in comparison.measured
        ],
        "speed_ups": [
            {
                "backend": comparison.backend,
                **_block_json(comparison),
                **asdict(comparison.speed_up),
                "rounds": comparison.rounds,
                "max_difference": comparison.difference,
            }
            for comparison in comparisons
        ],
        "geometric_mean": geometric_means(comparisons),
        "warnings": list(warnings),
    }


def _block_json(comparison: BlockComparison) -> dict[str, Any]:
    return {"dialect": comparison.dialect, **asdict(comparison.shape)}


def tuned_json(
    bundle: Bundle,
    comparison: TunedComparison,
    around: Surroundings,
    *,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """The report of the tuning suite; ``cost_ms`` is milliseconds per inference, or per frame for ``fps``."""

    def costed(setting: Setting) -> dict[str, Any]:
        return {**setting_json(setting), "cost_ms": comparison.costs_ms.get(setting)}

    tuned = comparison.tuned
    return {
        **head_json(around, bundle),
        "objective": tuned.objective,
        "default": costed(tuned.default),
        "tuned": costed(tuned.chosen),
        "best": costed(comparison.best),
        "speed_up": tuned.speed_up,
        "pairs": list(comparison.pairs),
        "ratio": {"mean": comparison.mean, **asdict(comparison.median)},
        "limit": LIMIT,
        "holds": comparison.holds,
        "results": [{**costed(row.setting), "state": row.state, "reason": row.reason} for row in tuned.rows],
        "warnings": list(warnings),
    }
