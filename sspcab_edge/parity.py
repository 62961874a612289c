"""Verdict parity: the comparison of source and artifact, and the pack that repeats it on a device.

The pack holds judge inputs at graph size, lossless, with the source's scores and some of its maps. The
export gate and the device use the same :func:`judge`, so both mean the same by "passed".
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from sspcab_edge.bundle import Bundle
from sspcab_edge.decision import is_anomalous
from sspcab_edge.errors import BundleError
from sspcab_edge.manifest import Gate, Parity, ParityPack
from sspcab_edge.metrics import auroc, trials_needed, upper_bound_95
from sspcab_edge.ports import Array, Entry, Port

__all__ = ["MAX_INPUTS", "Comparison", "PackItem", "judge", "read_pack", "shortfalls", "write_pack"]

MAX_INPUTS = 100
"""Most inputs that a pack holds."""

MAX_MAPS = 16
"""Most of them that come with the source's map (maps are the bulk of a pack)."""

_INDEX = "parity/index.json"
_MAPS = "parity/maps.npz"


@dataclass(frozen=True, slots=True)
class PackItem:
    """One input of the pack with what the source says of it.

    Attributes:
        name: Where it came from, in words.
        kind: ``picture`` as it was given, ``blend`` mixed of two to lie near the threshold.
        entry: What the graph takes, by input port.
        score: The source's score.
        label: True anomalous, False normal, None unknown.
        map: The source's map, (h, w) float32, or None.
    """

    name: str
    kind: Literal["picture", "blend"]
    entry: Entry
    score: float
    label: bool | None
    map: npt.NDArray[np.float32] | None = None


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    kind: Literal["picture", "blend"]
    file: str
    score: float
    label: bool | None


class _Index(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal[1]
    entries: tuple[_Entry, ...]


def write_pack(folder: Path, items: Sequence[PackItem]) -> ParityPack:
    """Write a pack below a bundle's staging folder; what exceeds the limits is thinned out evenly."""
    (folder / "parity").mkdir()
    kept = _spread(items, MAX_INPUTS)
    entries, maps = [], {}
    with_map = {id(item) for item in _spread([item for item in kept if item.map is not None], MAX_MAPS)}
    for number, item in enumerate(kept):
        file = _write_entry(folder, f"parity/{number:03d}", item)
        entries.append(_Entry(name=item.name, kind=item.kind, file=file, score=item.score, label=item.label))
        if item.map is not None and id(item) in with_map:
            maps[f"{number:03d}"] = item.map
    if maps:
        buffer = io.BytesIO()
        _write_arrays(buffer, maps)
        (folder / _MAPS).write_bytes(buffer.getvalue())
    index = msgspec.json.encode(_Index(schema=1, entries=tuple(entries)), order="sorted")
    (folder / _INDEX).write_bytes(msgspec.json.format(index, indent=2) + b"\n")
    return ParityPack(index=_INDEX, inputs=len(entries))


def _write_entry(folder: Path, stem: str, item: PackItem) -> str:
    """Write what the graph takes: a PNG where that is one picture, else arrays by port."""
    (first, *others) = item.entry.values()
    if not others and first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3:
        ok, png = cv2.imencode(".png", np.asarray(first[..., ::-1], np.uint8))
        if not ok:
            raise BundleError(f"cannot encode {item.name} as PNG")
        (folder / f"{stem}.png").write_bytes(png.tobytes())
        return f"{stem}.png"
    buffer = io.BytesIO()
    _write_arrays(buffer, item.entry)
    (folder / f"{stem}.npz").write_bytes(buffer.getvalue())
    return f"{stem}.npz"


def _spread(items: Sequence[PackItem], most: int) -> list[PackItem]:
    """At most ``most`` items; blends first, because they are what a device most likely gets wrong."""
    blends = [item for item in items if item.kind == "blend"]
    rest = [item for item in items if item.kind != "blend"]
    room = max(most - len(blends), most // 2)
    chosen = _evenly(rest, room)
    return [*chosen, *_evenly(blends, most - len(chosen))]


def _evenly(items: Sequence[PackItem], most: int) -> list[PackItem]:
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def read_pack(bundle: Bundle) -> Iterator[PackItem]:
    """The inputs of a bundle's pack, one at a time.

    Raises:
        BundleError: The pack cannot be read.
    """
    manifest = bundle.manifest
    try:
        index = msgspec.json.decode(bundle.file(manifest.parity_pack.index).read_bytes(), type=_Index)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"the parity pack of {bundle.path} cannot be read: {error}") from error
    listed = {entry.path for entry in manifest.files}
    maps = _read_maps(bundle) if _MAPS in listed else {}
    for number, entry in enumerate(index.entries):
        found = _read_entry(bundle, entry.file) if entry.file in listed else None
        if found is None or not _fits(manifest.inputs, found):
            wanted = ", ".join(f"{port.name} {port.shape[1:]} {port.dtype}" for port in manifest.inputs)
            raise BundleError(f"{entry.file} of {bundle.path} is no parity input, expected {wanted}")
        yield PackItem(entry.name, entry.kind, found, entry.score, entry.label, maps.get(f"{number:03d}"))


def _read_entry(bundle: Bundle, file: str) -> Entry | None:
    if file.endswith(".npz"):
        return _read_arrays(bundle, file)
    raw = cv2.imread(str(bundle.file(file)))
    name = bundle.manifest.inputs[0].name
    return None if raw is None else {name: np.ascontiguousarray(raw[..., ::-1], dtype=np.uint8)}


def _fits(ports: Sequence[Port], entry: Entry) -> bool:
    return {port.name for port in ports} == set(entry) and all(
        entry[port.name].dtype.name == port.dtype and port.fits((1, *entry[port.name].shape))
        for port in ports
    )


def _read_maps(bundle: Bundle) -> dict[str, npt.NDArray[np.float32]]:
    return {name: np.asarray(array, dtype=np.float32) for name, array in _read_arrays(bundle, _MAPS).items()}


def _write_arrays(file: io.BytesIO, arrays: Mapping[str, Any]) -> None:
    """Arrays of numbers; NumPy before 2 takes the argument that forbids others for one of them."""
    np.savez_compressed(file, **arrays)


def _read_arrays(bundle: Bundle, name: str) -> dict[str, Array]:
    try:
        with bundle.file(name).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(f"{name} of {bundle.path} cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Comparison:
    """One picture as source and artifact see it.

    Attributes:
        source: The source's score.
        artifact: The artifact's score, already on the source's scale.
        map_diff: Largest absolute difference of the maps, or None where they were not compared.
        map_mean: Mean absolute difference of the maps, likewise.
        label: True anomalous, False normal, None unknown.
        blend: Whether it was mixed to lie near the threshold.
    """

    source: float
    artifact: float
    map_diff: float | None
    label: bool | None
    blend: bool
    map_mean: float | None = None


def map_differences(
    expected: npt.NDArray[np.float32], got: npt.NDArray[np.float32] | None
) -> tuple[float, float]:
    """Largest and mean absolute difference of two maps; infinite where there is no map of that shape."""
    if got is None or got.shape != expected.shape:
        return float("inf"), float("inf")
    apart = np.abs(expected - got)
    return float(apart.max(initial=0)), float(apart.mean(dtype=np.float64)) if apart.size else 0.0


def judge(
    compared: Sequence[Comparison],
    *,
    threshold: float | None,
    gate: Gate,
    scene: Literal["given", "built-in"],
    engine: str,
) -> Parity:
    """Sum up a comparison, and say whether the gate is passed.

    A difference that is not finite is one without bound. AUROC is over labelled pictures that are no
    blends; ``engine`` names what computed the artifact's side.

    Raises:
        ValueError: Nothing was compared.
    """
    if not compared:
        raise ValueError("nothing was compared")
    source = np.array([c.source for c in compared])
    artifact = np.array([c.artifact for c in compared])
    differences = np.abs(source - artifact)
    differences[~np.isfinite(differences)] = np.inf
    rounding = gate.score_relative * np.abs(source)
    excess = np.where(np.isfinite(differences), np.maximum(differences - rounding, 0), np.inf)
    map_diffs = [c.map_diff for c in compared if c.map_diff is not None]
    map_means = [c.map_mean for c in compared if c.map_mean is not None]
    blends = sum(c.blend for c in compared)
    flips = blend_flips = margin = bound = None
    if threshold is not None:
        flipped = [
            c for c in compared if is_anomalous(c.source, threshold) != is_anomalous(c.artifact, threshold)
        ]
        flips, blend_flips = len(flipped), sum(c.blend for c in flipped)
        bound = upper_bound_95(flips - blend_flips, len(compared) - blends)
        margin = float(np.abs(source - threshold).min())
    labelled = [c for c in compared if c.label is not None and not c.blend]
    labels = [bool(c.label) for c in labelled]
    parity = Parity(
        pictures=len(compared),
        labelled=len(labelled),
        blends=blends,
        scene=scene,
        engine=engine,
        max_abs_score_diff=float(differences.max()),
        score_excess=float(excess.max()),
        mean_abs_score_diff=float(differences.mean()),
        max_abs_map_diff=max((d if np.isfinite(d) else np.inf for d in map_diffs), default=None),
        margin=margin,
        flips=flips,
        blend_flips=blend_flips,
        flips_upper95=bound,
        auroc_source=auroc([c.source for c in labelled], labels),
        auroc_artifact=auroc([c.artifact for c in labelled], labels),
        gate=gate,
        passed=False,
        mean_abs_map_diff=max((d if np.isfinite(d) else np.inf for d in map_means), default=None),
    )
    return msgspec.structs.replace(parity, passed=not shortfalls(parity))


def shortfalls(parity: Parity) -> tuple[str, ...]:
    """What a comparison showed against what its gate allows, in words; empty where the gate is passed."""
    gate = parity.gate
    parts = []
    if not np.isfinite(parity.max_abs_score_diff):
        parts.append("a score is not finite")
    elif gate.score_tolerance is not None and parity.score_excess > gate.score_tolerance:
        besides = f", besides {gate.score_relative:g} of the score" if gate.score_relative else ""
        allowed = f"{gate.score_tolerance:.3g}{besides}"
        parts.append(f"scores differ by {parity.score_excess:.3g} (allowed {allowed})")
    mean = parity.mean_abs_score_diff
    if gate.mean_score_tolerance is not None and np.isfinite(mean) and mean > gate.mean_score_tolerance:
        parts.append(f"scores differ by {mean:.3g} on average (allowed {gate.mean_score_tolerance:.3g})")
    worst_map = parity.max_abs_map_diff
    if worst_map is not None and not np.isfinite(worst_map):
        parts.append("maps differ without bound: one is missing, of another shape or not finite")
    elif worst_map is not None and not worst_map <= (
        np.inf if gate.map_tolerance is None else gate.map_tolerance
    ):
        parts.append(f"maps differ by {worst_map:.3g} (allowed {gate.map_tolerance:.3g})")
    mean_map, most = parity.mean_abs_map_diff, gate.mean_map_tolerance
    if mean_map is not None and most is not None and np.isfinite(mean_map) and mean_map > most:
        parts.append(f"a map differs by {mean_map:.3g} on average (allowed {most:.3g})")
    if parity.flips is not None and gate.max_flips is not None and parity.flips > gate.max_flips:
        parts.append(f"{parity.flips} of {parity.pictures} verdicts flip (allowed {gate.max_flips})")
    parts += _rate_shortfall(parity)
    if (
        gate.max_auroc_drop is not None
        and parity.auroc_source is not None
        and parity.auroc_artifact is not None
        and parity.auroc_source - parity.auroc_artifact > gate.max_auroc_drop
    ):
        parts.append(
            f"AUROC falls from {parity.auroc_source:.4f} to {parity.auroc_artifact:.4f} "
            f"(allowed drop {gate.max_auroc_drop:g})"
        )
    return tuple(parts)


def _rate_shortfall(parity: Parity) -> list[str]:
    limit, bound = parity.gate.max_flips_upper95, parity.flips_upper95
    if limit is None or bound is None or parity.flips is None or bound <= limit:
        return []
    pictures, flips = parity.pictures - parity.blends, parity.flips - (parity.blend_flips or 0)
    text = (
        f"{flips} of {pictures} pictures flip: the rate may be up to {bound:.2%} "
        f"(95 % upper bound, allowed {limit:.2%})"
    )
    if flips <= limit * pictures:
        needed = trials_needed(flips, limit)
        text += f"; too few pictures to decide: {needed} are needed for {flips} flips, {pictures} were judged"
    return [text]
