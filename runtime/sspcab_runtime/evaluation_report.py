"""An evaluation as text, Markdown and JSON, and as files in a folder."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from sspcab_edge.bundle import is_bundle
from sspcab_edge.datasets import Dataset
from sspcab_edge.errors import OutputError
from sspcab_edge.metrics import Confusion
from sspcab_runtime.detector import Detector
from sspcab_runtime.evaluation import Areas, Evaluation, Figures
from sspcab_runtime.paper import Published, caveat
from sspcab_runtime.tables import number, table

__all__ = [
    "JSON_NAME",
    "MARKDOWN_NAME",
    "SHEET_NAME",
    "Report",
    "check_folder",
    "report_json",
    "report_markdown",
    "report_text",
    "write_report",
]

JSON_NAME, MARKDOWN_NAME, SHEET_NAME = "report.json", "report.md", "worst_cases.png"

_MADE_BY = "sspcab-edge evaluate"
_SPEED = "decoding, resizing, inference and verdict of each picture, and reading masks; "
_HONEST_SPEED = "for honest speed use sspcab-bench"
_MOST_REPORT_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Report:
    """An evaluation and what it is of.

    Attributes:
        detector: That judged; it may be closed by now.
        dataset: Which pictures.
        evaluation: What came out.
        published: The row to show beside it, if any.
    """

    detector: Detector
    dataset: Dataset
    evaluation: Evaluation
    published: Published | None = None

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories."""
        return tuple(category.name for category in self.dataset.categories)


@dataclass(frozen=True, slots=True)
class _Part:
    """A table with its notes; no table where it has no rows."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def report_text(report: Report) -> str:
    """The report for a terminal."""
    blocks = ["\n".join(f"{name:<10} {value}" for name, value in _facts(report))]
    for part in _parts(report):
        lines = [part.title]
        if part.rows:
            lines.append(table(part.header, part.rows, right=range(1, len(part.header))))
        blocks.append("\n".join([*lines, *part.notes]))
    return "\n\n".join(blocks)


def report_markdown(report: Report) -> str:
    """The report as Markdown, with the sheet of worst cases."""
    lines = ["# Evaluation", ""]
    lines += [f"* {name}: {_escape(value)}" for name, value in _facts(report)]
    for part in _parts(report):
        lines += ["", f"## {_escape(part.title)}", ""]
        if part.rows:
            aligned = ["---", *["---:"] * (len(part.header) - 1)]
            for row in (part.header, aligned, *part.rows):
                lines.append("| " + " | ".join(_escape(cell) for cell in row) + " |")
            lines.append("")
        lines += [f"* {_escape(note)}" for note in part.notes]
    lines += ["", "## Worst cases", "", f"![Worst cases]({SHEET_NAME})", ""]
    return "\n".join(lines)


def report_json(report: Report) -> dict[str, Any]:
    """The report as one JSON object: all figures, and a line per picture."""
    detector, evaluation = report.detector, report.evaluation
    bundle, artifact = detector.bundle, detector.artifact
    return {
        "schema": 1,
        "report": _MADE_BY,
        "bundle": str(bundle.path),
        "digest": bundle.digest,
        "release": bundle.manifest.release,
        "host": bundle.manifest.host,
        "artifact": artifact.name,
        "target": artifact.target,
        "precision": artifact.precision,
        "backend": detector.engine.backend,
        "version": detector.engine.version,
        "device": detector.engine.device,
        "dataset": str(report.dataset.path),
        "layout": report.dataset.layout,
        "threshold": evaluation.threshold,
        "categories": [_figures_json(figures) for figures in evaluation.categories],
        "mean": None if evaluation.mean is None else asdict(evaluation.mean),
        "confusion": _confusion_json(evaluation.confusion),
        "published": _published_json(report),
        "speed": {**asdict(evaluation.speed), "note": _SPEED + _HONEST_SPEED},
        "converted": dict(evaluation.converted),
        "ignored": list(report.dataset.ignored),
        "skipped": report.dataset.skipped,
        "pictures": [
            {
                "name": picture.name,
                "category": picture.category,
                "label": picture.label,
                "score": picture.score,
                "anomalous": picture.anomalous,
            }
            for picture in evaluation.pictures
        ],
    }


def _figures_json(figures: Figures) -> dict[str, Any]:
    return {
        "name": figures.name,
        "normal": figures.normal,
        "anomalous": figures.anomalous,
        **asdict(figures.areas),
        "pixel_slack": figures.pixel_slack,
        "without_pixels": figures.without_pixels,
        "confusion": _confusion_json(figures.confusion),
        "best_f1": None if figures.best_f1 is None else asdict(figures.best_f1),
    }


def _confusion_json(confusion: Confusion | None) -> dict[str, Any] | None:
    if confusion is None:
        return None
    return {
        **asdict(confusion),
        "precision": confusion.precision,
        "recall": confusion.recall,
        "f1": confusion.f1,
        "accuracy": confusion.accuracy,
        "false_alarm_rate": confusion.false_alarm_rate,
        "false_alarm_upper95": confusion.false_alarm_upper95,
        "miss_rate": confusion.miss_rate,
        "miss_upper95": confusion.miss_upper95,
    }


def _published_json(report: Report) -> dict[str, Any] | None:
    row = report.published
    return None if row is None else {**asdict(row), "note": caveat(row, report.categories)}


def _facts(report: Report) -> list[tuple[str, str]]:
    detector, evaluation = report.detector, report.evaluation
    manifest = detector.bundle.manifest
    threshold = number(evaluation.threshold, 6)
    if evaluation.threshold is None:
        threshold = "none: scores without labels (fit one with sspcab-edge fit BUNDLE DIR)"
    elif evaluation.threshold != manifest.decision.threshold:
        threshold += f" (given; the bundle's is {number(manifest.decision.threshold, 6)})"
    bundle = f"{detector.bundle.path}  release {manifest.release}  digest {detector.bundle.digest[:16]}"
    engine = detector.engine
    return [
        ("bundle", bundle),
        ("runs", f"{detector.artifact.name} on {engine.backend} {engine.version}, {engine.device}"),
        (
            "data set",
            f"{report.dataset.path}: {report.dataset.summary}",
        ),
        ("threshold", threshold),
    ]


def _parts(report: Report) -> Iterator[_Part]:
    evaluation = report.evaluation
    yield _areas(report)
    if evaluation.confusion is not None:
        yield _verdicts(evaluation)
    best = [
        f"{figures.name}: F1 {number(figures.best_f1.f1)} at {number(figures.best_f1.threshold, 6)}"
        for figures in evaluation.categories
        if figures.best_f1 is not None
    ]
    if best:
        title = "Best F1 of any threshold: chosen on the test set: not a figure to report"
        yield _Part(title, (), (), tuple(best))
    speed = evaluation.speed
    yield _Part(
        "Speed",
        (),
        (),
        (
            f"{speed.fps:.1f} frames/s, median latency {speed.median_ms:.1f} ms, 95 % {speed.p95_ms:.1f} ms",
            _SPEED + _HONEST_SPEED,
        ),
    )


def _areas(report: Report) -> _Part:
    evaluation = report.evaluation
    header = (
        "category",
        "normal",
        "anomalous",
        "image AUROC",
        "image AP",
        "pixel AUROC",
        "pixel AP",
        "AUPRO",
    )
    rows = [
        (figures.name, str(figures.normal), str(figures.anomalous), *_cells(figures.areas))
        for figures in evaluation.categories
    ]
    if evaluation.mean is not None:
        rows.append(("mean", "", "", *_cells(evaluation.mean)))
    notes = []
    for figures in evaluation.categories:
        if figures.without_pixels is not None:
            notes.append(f"no pixel figures of {figures.name}: {figures.without_pixels}")
        if figures.pixel_slack:
            notes.append(f"pixel figures of {figures.name} are exact to {figures.pixel_slack:.1g}")
    notes += [f"{name}/ is no category and was left out" for name in report.dataset.ignored]
    notes += [f"{count} pictures converted: {what}" for what, count in sorted(evaluation.converted.items())]
    row = report.published
    if row is not None:
        with_block = Areas(row.image_auroc, None, row.pixel_auroc, row.pixel_ap)
        without = Areas(row.baseline_image_auroc, None, row.baseline_pixel_auroc, row.baseline_pixel_ap)
        rows.append((f"{row.name} + SSPCAB*", "", "", *_cells(with_block)))
        rows.append((f"{row.name}*", "", "", *_cells(without)))
        notes += [f"* {caveat(row, report.categories)}", f"* {row.source}"]
    return _Part("Ranking, whatever the threshold", header, tuple(rows), tuple(notes))


def _cells(areas: Areas) -> tuple[str, ...]:
    return tuple(
        number(value)
        for value in (areas.image_auroc, areas.image_ap, areas.pixel_auroc, areas.pixel_ap, areas.aupro)
    )


def _verdicts(evaluation: Evaluation) -> _Part:
    header = (
        *("category", "TP", "FP", "FN", "TN", "precision", "recall", "F1", "accuracy"),
        *("false alarms", "at most", "missed", "at most"),
    )
    rows = [
        (figures.name, *_counts(figures.confusion))
        for figures in evaluation.categories
        if figures.confusion is not None
    ]
    if len(rows) > 1 and evaluation.confusion is not None:
        rows.append(("all", *_counts(evaluation.confusion)))
    notes = (
        "false alarms and missed: shares of normal and of anomalous pictures; at most: 95 % upper bound",
    )
    return _Part(f"Verdicts at {number(evaluation.threshold, 6)}", header, tuple(rows), notes)


def _counts(confusion: Confusion) -> tuple[str, ...]:
    counts = (
        confusion.true_positives,
        confusion.false_positives,
        confusion.false_negatives,
        confusion.true_negatives,
    )
    shares = (
        *(confusion.precision, confusion.recall, confusion.f1, confusion.accuracy),
        *(confusion.false_alarm_rate, confusion.false_alarm_upper95),
        *(confusion.miss_rate, confusion.miss_upper95),
    )
    return (*(str(count) for count in counts), *(number(share) for share in shares))


def _escape(text: str) -> str:
    """What Markdown would take for its own."""
    return "".join(f"\\{character}" if character in "\\|*_`<>[]" else character for character in text)


def check_folder(folder: Path, force: bool, *, never: Sequence[Path] = ()) -> None:
    """Refuse early a folder that the report must not go to.

    Args:
        folder: Where the report would go.
        force: Whether to replace files of the report's names that are not of an earlier report.
        never: Folders that the report must not be in, nor below: bundle and data set.

    Raises:
        OutputError: It is no folder, a bundle, in one of ``never``, or holds files that would be lost.
    """
    place = folder.resolve()
    for taken in never:
        if place.is_relative_to(taken.resolve()):
            raise OutputError(f"{folder} lies in {taken}, which a report would change: choose another output")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} exists and is no folder: choose another output")
    if is_bundle(folder):
        raise OutputError(f"{folder} is a bundle, which a report would break: choose another output")
    present = [name for name in (JSON_NAME, MARKDOWN_NAME, SHEET_NAME) if (folder / name).exists()]
    if present and not force and not _is_ours(folder / JSON_NAME):
        raise OutputError(
            f"{folder} holds {present[0]}, which sspcab-edge evaluate did not write: "
            "choose another output, or replace it with --force"
        )


def _is_ours(path: Path) -> bool:
    """Whether a file is the JSON of an earlier report."""
    try:
        if not path.is_file() or path.stat().st_size > _MOST_REPORT_BYTES:
            return False
        plain = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(plain, dict) and plain.get("report") == _MADE_BY


def write_report(report: Report, sheet: npt.NDArray[np.uint8], folder: Path) -> None:
    """Write ``report.json``, ``report.md`` and ``worst_cases.png``; ask :func:`check_folder` first.

    ``sheet`` is (H, W, 3) uint8 RGB. Each file is replaced in one step.

    Raises:
        OutputError: One cannot be written.
    """
    ok, png = cv2.imencode(".png", sheet[..., ::-1])
    if not ok:
        raise OutputError(f"{folder / SHEET_NAME} cannot be encoded as PNG")
    plain = msgspec.json.format(msgspec.json.encode(report_json(report)), indent=2) + b"\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / JSON_NAME, plain)
        _replace(folder / MARKDOWN_NAME, report_markdown(report).encode())
        _replace(folder / SHEET_NAME, png.tobytes())
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error


def write_texts(plain: dict[str, Any], markdown: str, folder: Path) -> None:
    """Write ``report.json`` and ``report.md`` alone; ask :func:`check_folder` first.

    Raises:
        OutputError: One cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marked = msgspec.json.encode({"report": _MADE_BY, **plain})
        _replace(folder / JSON_NAME, msgspec.json.format(marked, indent=2) + b"\n")
        _replace(folder / MARKDOWN_NAME, markdown.encode())
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror or error}") from error


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
