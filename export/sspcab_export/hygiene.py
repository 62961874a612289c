"""What is wrong with a folder of calibration pictures, before ranges and a threshold are fitted to it.

Black frames and copies say nothing new and still count; an anomaly among the normal pictures lifts the
threshold above its like. Each is named, so that somebody can look at it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from sspcab_edge.decision import CLEARANCE, quantiles
from sspcab_edge.errors import OptionError
from sspcab_export.near_duplicates import Link, Links, find_links
from sspcab_export.pictures import Sample

__all__ = [
    "MAX_SUSPECT_SHARE",
    "MINIMUM_PICTURES",
    "RECOMMENDED_PICTURES",
    "Finding",
    "Inspected",
    "Kind",
    "describe",
    "fingerprint",
    "inspect_pictures",
    "require_usable",
    "suspects",
]

Kind = Literal["duplicate", "near-duplicate", "dark", "saturated", "flat", "suspect"]

RECOMMENDED_PICTURES = 32
"""Fewer usable pictures than this get a note: int8 ranges and the threshold then hang on single ones."""

MINIMUM_PICTURES = 8
"""Fewer usable pictures than this are no base for int8 ranges, and quartiles of their scores mean nothing."""

MAX_SUSPECT_SHARE = 0.2
"""With a larger share of suspects the folder is not one of normal pictures.

Q3 itself belongs to the anomalies once they are a quarter; the fence is blind from there on.
"""

DARK_LUMA = 0.04
"""Mean luma (of [0, 1]) below which a picture without structure is near-black."""

SATURATED_LUMA = 0.96
"""Mean luma above which a picture without structure is near-white."""

LITTLE_STRUCTURE = 0.01
"""Standard deviation of the thumbnail's luma (of [0, 1]) below which it shows next to nothing.

Black frames of 64x64 pixels with sensor noise of 6/255 reach 0.008 and larger ones less; the Hubble deep
field, dark as pictures of something get, has 0.047; the demo's and the built-in pictures 0.045 and more.
"""

FLAT_DEVIATION = 1 / 255
"""Standard deviation of every channel of the thumbnail below which a picture is one colour: a cap, a card."""

SAME_LIGHT_SPREAD = 0.01
"""Interdecile range of mean luma below which all pictures were taken in the same light."""

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, of R, G, B
_FAR_OUT, _OUTSIDE = 3.0, 1.5  # outer and inner fence of Tukey's box plot, in interquartile ranges
_SMALLEST_STEP = 2.0**-24  # between float32 numbers just below 1
_LARGEST_EXPONENT = 700.0  # exp of more overflows a double
_NAMED = 10

_WORDS: dict[Kind, tuple[str, str]] = {
    "duplicate": ("the same file as another", "left out"),
    "near-duplicate": ("almost the same as another", "kept on one side of every split"),
    "dark": ("near-black", "left out"),
    "saturated": ("near-white", "left out"),
    "flat": ("of one colour", "left out"),
    "suspect": ("scored far above the rest", "look whether they are normal"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about one picture.

    Attributes:
        kind: What it is.
        name: The picture, as in :class:`~sspcab_export.pictures.Sample`.
        text: The value, or the picture it repeats; a few words.
    """

    kind: Kind
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Inspected:
    """Pictures that were looked at.

    Attributes:
        kept: Those that can be used, in the order given.
        findings: About those left out and about near-duplicates, by kind, then by name.
        notes: On all that were kept: how many, in what light; a line each.
        links: Which of those that were kept are one exposure.
    """

    kept: tuple[Sample, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    links: Links = field(default_factory=lambda: Links((), {}, {}))


def inspect_pictures(samples: Sequence[Sample]) -> Inspected:
    """Leave out what carries no information: near-black, near-white and flat pictures, exact copies.

    Of copies the first by name stays. Near-duplicates stay and are reported: splits keep them together.
    A picture gets one finding, the first that holds of those in this order.
    """
    left_out: dict[Path, Finding] = {}
    for sample in samples:
        finding = _without_content(sample)
        if finding is not None:
            left_out[sample.path] = finding
    left_out |= _copies([sample for sample in samples if sample.path not in left_out])
    kept = tuple(sample for sample in samples if sample.path not in left_out)
    links = find_links(kept)
    findings = [*left_out.values(), *_near_duplicates(kept, links)]
    kinds = list(_WORDS)
    findings.sort(key=lambda finding: (kinds.index(finding.kind), finding.name))
    return Inspected(kept, tuple(findings), tuple(_notes(kept)), links)


def suspects(scored: Sequence[tuple[Sample, float]]) -> tuple[Finding, ...]:
    """Pictures whose source score says that they are not normal, highest score first.

    A score is suspect beyond the fence of :func:`_fence`. Anomalies lift the fence a little, so that among
    :data:`RECOMMENDED_PICTURES` scores or more it is drawn once again without those that are beyond it.

    With the demo's detector and 64 pictures: of a tenth of defects mixed in nine in ten are found, of a fifth
    two thirds; a quarter and more hide each other. 4 % of its normal pictures are suspect, too: look first.
    Nothing is suspect among fewer than :data:`MINIMUM_PICTURES` scores.

    Raises:
        OptionError: A score is not finite.
    """
    if len(scored) < MINIMUM_PICTURES:
        return ()
    scores = [score for _, score in scored]
    fence = _fence(scores)
    if len(scores) >= RECOMMENDED_PICTURES:
        fence = _fence([score for score in scores if score <= fence])
    beyond = sorted(((sample.name, score) for sample, score in scored if score > fence), key=_highest_first)
    return tuple(Finding("suspect", name, f"score {score:.4g}, fence {fence:.4g}") for name, score in beyond)


def require_usable(inspected: Inspected, found: Sequence[Finding], minimum: int = 1) -> None:
    """Refuse a folder that cannot calibrate anything.

    Args:
        inspected: The pictures.
        found: What :func:`suspects` says of the kept ones; findings of other kinds are ignored.
        minimum: How many pictures are needed; :data:`MINIMUM_PICTURES` for int8.

    Raises:
        OptionError: Fewer usable pictures than ``minimum``, or more than :data:`MAX_SUSPECT_SHARE` suspects.
    """
    count = len(inspected.kept)
    if count < max(minimum, 1):
        gone = [finding.kind for finding in inspected.findings if finding.kind != "near-duplicate"]
        tally = ", ".join(f"{gone.count(kind)} {_WORDS[kind][0]}" for kind in _WORDS if kind in gone)
        raise OptionError(
            f"{count} of {count + len(gone)} calibration pictures are usable"
            f"{f' ({tally})' if tally else ''}, expected at least {max(minimum, 1)}: give more pictures"
        )
    odd = [finding.name for finding in found if finding.kind == "suspect"]
    if len(odd) > MAX_SUSPECT_SHARE * count:
        raise OptionError(
            f"{len(odd)} of {count} calibration pictures score far above the rest, expected at most "
            f"{MAX_SUSPECT_SHARE:.0%}: this folder is not of normal pictures, remove {_some(odd)}"
        )


def fingerprint(samples: Sequence[Sample]) -> str:
    """SHA-256, in hex, of the pictures' sorted digests, a line each: names and order do not matter."""
    lines = "".join(f"{digest}\n" for digest in sorted(sample.digest for sample in samples))
    return hashlib.sha256(lines.encode("ascii")).hexdigest()


def describe(findings: Sequence[Finding]) -> list[str]:
    """A line per kind: how many, what happens to them, and the first ten by name with their values."""
    lines = []
    for kind, (what, then) in _WORDS.items():
        texts = [f"{finding.name} ({finding.text})" for finding in findings if finding.kind == kind]
        if texts:
            pictures = "picture" if len(texts) == 1 else "pictures"
            lines.append(f"{len(texts)} {pictures} {what}, {then}: {_some(texts)}")
    return lines


def _without_content(sample: Sample) -> Finding | None:
    luma = sample.thumbnail @ _LUMA
    mean, deviation = float(luma.mean()), float(luma.std())
    if deviation < LITTLE_STRUCTURE and mean < DARK_LUMA:
        return Finding("dark", sample.name, f"mean luma {mean:.1%}")
    if deviation < LITTLE_STRUCTURE and mean > SATURATED_LUMA:
        return Finding("saturated", sample.name, f"mean luma {mean:.1%}")
    spread = float(sample.thumbnail.std(axis=(0, 1)).max())
    if spread < FLAT_DEVIATION:
        return Finding("flat", sample.name, f"deviation {spread * 255:.2f}/255")
    return None


def _copies(samples: Sequence[Sample]) -> dict[Path, Finding]:
    """Exact copies of a picture before them by name."""
    first: dict[str, str] = {}
    found: dict[Path, Finding] = {}
    for sample in sorted(samples, key=_name):
        if sample.digest in first:
            found[sample.path] = Finding("duplicate", sample.name, f"as {first[sample.digest]}")
        else:
            first[sample.digest] = sample.name
    return found


def _near_duplicates(samples: Sequence[Sample], links: Links) -> list[Finding]:
    """Pictures that are one exposure with one before them by name, with the one of those most alike."""
    places = {sample.digest: place for place, sample in enumerate(sorted(samples, key=_name))}
    ordered = sorted(samples, key=_name)
    nearest: dict[int, tuple[int, Link]] = {}
    for link in links.pairs:
        first, second = sorted((places[link.first], places[link.second]))
        nearest.setdefault(second, (first, link))
    return [
        Finding("near-duplicate", ordered[place].name, _likeness(ordered[place], ordered[other], link))
        for place, (other, link) in nearest.items()
    ]


def _likeness(sample: Sample, other: Sample, link: Link) -> str:
    if link.measured:
        return f"details correlate by {link.likeness:.2f} with {other.name}"
    rms = float(np.sqrt(np.square(sample.thumbnail - other.thumbnail).mean()))
    return f"{rms * 255:.1f}/255 from {other.name}"


def _notes(kept: Sequence[Sample]) -> list[str]:
    if not kept:
        return []
    notes = []
    if len(kept) < RECOMMENDED_PICTURES:
        notes.append(
            f"{len(kept)} usable calibration pictures: {RECOMMENDED_PICTURES} or more are recommended, "
            f"int8 needs {MINIMUM_PICTURES}"
        )
    luma = [float((sample.thumbnail @ _LUMA).mean()) for sample in kept]
    low, tenth, median, ninetieth, high = (float(v) for v in np.quantile(luma, [0, 0.1, 0.5, 0.9, 1]))
    notes.append(
        f"light of {len(kept)} calibration pictures: mean luma {low:.1%} to {high:.1%}, median {median:.1%}, "
        f"the middle 80 % of them {tenth:.1%} to {ninetieth:.1%}"
    )
    if len(kept) > 1 and ninetieth - tenth < SAME_LIGHT_SPREAD:
        notes.append(
            "all calibration pictures were taken in practically the same light: ranges and threshold hold "
            "for this light only, add pictures of other hours, lamps or exposures"
        )
    return notes


def _fence(scores: Sequence[float]) -> float:
    """The score beyond which one is suspect.

    Tukey (Exploratory Data Analysis, 1977, chapters 2 and 3) calls a value "outside" beyond Q3 + 1.5 IQR and
    "far out" beyond Q3 + 3 IQR, and re-expresses values that are skewed. Here the far-out fence of the scores
    as they stand is taken, but it is never below the outside fence nor above the far-out fence of the scores
    re-expressed: by the logit where all lie in [0, 1], by the logarithm where all are positive, else not.

    Never below: a good detector gives normal pictures scores that spread over decades near 0, and as they
    stand a tenth of those are far out. Never above: a weak one gives scores in [0, 1] whose far-out fence is
    above 1, which nothing can pass; that of the logits is below 1. The demo's scores need neither.

    However small the IQR, the fence is :data:`~sspcab_edge.decision.CLEARANCE` times max(1, IQR, abs(Q3))
    above Q3: what the fp32 gate lets two artifacts differ by makes no suspect, nor does the rounding of large
    scores.
    """
    spread = quantiles(scores)
    _, fence = _beyond_q3(scores)
    if spread.minimum >= 0 and spread.maximum <= 1:
        clipped = np.clip(scores, _SMALLEST_STEP, 1 - _SMALLEST_STEP)
        outside, far_out = _beyond_q3(np.log(clipped / (1 - clipped)))
        fence = min(max(fence, _sigmoid(outside)), _sigmoid(far_out))
    elif spread.minimum > 0:
        outside, _ = _beyond_q3(np.log(scores))
        fence = max(fence, math.exp(min(outside, _LARGEST_EXPONENT)))
    return max(fence, spread.q75 + CLEARANCE * max(1.0, spread.iqr, abs(spread.q75)))


def _beyond_q3(values: Sequence[float] | npt.NDArray[np.floating]) -> tuple[float, float]:
    """Tukey's inner and outer upper fence."""
    q1, q3 = (float(value) for value in np.quantile(np.asarray(values, dtype=np.float64), [0.25, 0.75]))
    return q3 + _OUTSIDE * (q3 - q1), q3 + _FAR_OUT * (q3 - q1)


def _sigmoid(value: float) -> float:
    """Inverse of the logit; values of :func:`_fence` are within +-67, far from overflow."""
    return 1 / (1 + math.exp(-value))


def _highest_first(named: tuple[str, float]) -> tuple[float, str]:
    return -named[1], named[0]


def _name(sample: Sample) -> str:
    return sample.name


def _some(texts: Sequence[str]) -> str:
    more = len(texts) - _NAMED
    return ", ".join(texts[:_NAMED]) + (f" and {more} more" if more > 0 else "")
