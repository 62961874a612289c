"""The report of :mod:`~sspcab_runtime.video_evaluation`, beside what papers report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sspcab_runtime.detector import Detector
from sspcab_runtime.tables import table
from sspcab_runtime.video_evaluation import FILTERS, VideoEvaluation

__all__ = ["PUBLISHED_VIDEO", "PublishedVideo", "video_json", "video_text"]


@dataclass(frozen=True, slots=True)
class PublishedVideo:
    """Figures of a host with the block on a data set; shares, None where not found.

    Attributes:
        host: As in manifests.
        layout: The data set.
        micro: Frame AUC over all frames.
        rbdc: Region-based.
        tbdc: Track-based.
        fps: On the authors' desktop GPU.
        source: Where it was read.
    """

    host: str
    layout: str
    source: str
    micro: float | None = None
    rbdc: float | None = None
    tbdc: float | None = None
    fps: float | None = None


PUBLISHED_VIDEO: tuple[PublishedVideo, ...] = (
    PublishedVideo(
        "background-agnostic", "avenue", "a page of results by paper, with SSPCAB", 0.929, 0.6599, None, 24.0
    ),
    PublishedVideo("hf2-vad", "avenue", "a page of results by paper, with SSPCAB", None, None, 0.8928),
)
"""Every row that is known. Frame scores in it are smoothed, non-causally."""


def published_video(host: str, layout: str) -> PublishedVideo | None:
    """The row of a host on a data set."""
    return next((row for row in PUBLISHED_VIDEO if (row.host, row.layout) == (host, layout)), None)


def video_json(detector: Detector, layout: str, found: VideoEvaluation) -> dict[str, Any]:
    """The object of ``--json``."""
    manifest = detector.bundle.manifest
    row = published_video(manifest.host, layout)
    smoothed = FILTERS[layout]
    return {
        "schema": 1,
        "bundle": str(detector.bundle.path),
        "host": manifest.host,
        "artifact": detector.artifact.name,
        "backend": detector.engine.backend,
        "layout": layout,
        "threshold": detector.threshold,
        "videos": found.videos,
        "frames": found.frames,
        "anomalous": found.anomalous,
        "without_verdict": found.silent,
        "causal": asdict(found.causal),
        "noncausal": {**asdict(found.noncausal), "filter": asdict(smoothed)},
        "rbdc": None if found.regions is None else found.regions.rbdc,
        "tbdc": None if found.regions is None else found.regions.tbdc,
        "false_alarms": found.false_alarms,
        "caught": found.caught,
        "by_video": [{"name": name, "auroc": area} for name, area in found.by_video],
        "fps": found.fps,
        "published": None if row is None else asdict(row),
    }


def video_text(detector: Detector, layout: str, found: VideoEvaluation) -> str:
    """What people read."""
    manifest = detector.bundle.manifest
    row = published_video(manifest.host, layout)
    regions = found.regions
    smoothed = FILTERS[layout]
    rows = [
        ("this device, causal", _share(found.causal.micro), _share(found.causal.macro),
         "-" if regions is None else _share(regions.rbdc), "-" if regions is None else _share(regions.tbdc)),
        ("smoothed, non-causal", _share(found.noncausal.micro), _share(found.noncausal.macro), "-", "-"),
    ]  # fmt: skip
    if row is not None:
        rows.append(
            ("published (other training)", _share(row.micro), "-", _share(row.rbdc), _share(row.tbdc))
        )
    lines = [
        f"{detector.bundle.path}  {manifest.host}  {detector.artifact.name} on {detector.engine.backend}",
        f"{found.videos} videos, {found.frames} frames, {found.anomalous} anomalous, {found.silent} without "
        "verdict (they take the nearest)",
        table(("scores", "micro AUC", "macro AUC", "RBDC", "TBDC"), rows, right=(1, 2, 3, 4)),
        f"non-causal: a Gaussian of {smoothed.length} frames, sigma {smoothed.sigma:g}"
        f"{', each video from 0 to 1' if smoothed.unit else ''}, as the papers' group smooths: it looks "
        "ahead",
    ]
    if found.false_alarms is not None or found.caught is not None:
        lines.append(
            f"at the threshold {_share(found.false_alarms)} of normal frames and {_share(found.caught)} of "
            "anomalous ones are flagged"
        )
    worst = sorted((area, name) for name, area in found.by_video if area is not None)[:3]
    if worst:
        lines.append("worst videos: " + ", ".join(f"{name} {area:.3f}" for area, name in worst))
    lines.append(f"{found.fps:.1f} frames/s from file to verdict")
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
