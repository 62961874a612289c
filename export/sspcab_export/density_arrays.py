"""A file with what a density was fitted to, or with the fitted density itself: hostile until read."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import CheckpointError
from sspcab_export.density import BANDWIDTHS, Gaussian, gaussian_from, inverse
from sspcab_export.density_pickles import THRESHOLD, read_density_pickle

__all__ = ["MAX_BYTES", "DensityArrays", "read_density_arrays"]

Array = npt.NDArray[np.float64]

MAX_BYTES: Final = 256 * 1024**2
"""Largest file that is read, in bytes, packed and unpacked."""

_KEYS: Final = ("bandwidth", "covariance", "embeddings", "mean", "patch_mean", "patch_precision", "precision")

_SYMMETRIC: Final = 1e-4
"""Largest asymmetry, relative to the largest value: matrices inverted in float32 are not quite symmetric."""


@dataclass(frozen=True, slots=True, eq=False)
class DensityArrays:
    """What such a file holds: a Gaussian or embeddings, and what may come with them.

    Attributes:
        gaussian: From ``mean`` (D,) with ``precision`` or ``covariance`` (D, D).
        embeddings: From ``embeddings`` (N, D), as they stand in the file.
        bandwidth: From ``bandwidth``, one number, in units of embeddings.
        patches: Gaussian of patches, from ``patch_mean`` (C,) and ``patch_precision`` (C, C).
        threshold: What a pickle of public code holds beside them, a score from which on it calls an image
            anomalous.
    """

    gaussian: Gaussian | None
    embeddings: Array | None
    bandwidth: float | None
    patches: Gaussian | None
    threshold: float | None = None


def read_density_arrays(path: Path) -> DensityArrays:
    """Read and check such a file, .npz or a pickled dict of arrays; nothing in it is run.

    Raises:
        CheckpointError: The file is missing, damaged, too large, holds pickled objects or arrays that are
            unknown, and shapes or values that are no density.
    """
    threshold, arrays = _read(path)
    if ("mean" in arrays) == ("embeddings" in arrays):
        raise CheckpointError(f"{path} holds {_names(arrays)}, expected embeddings or mean and precision")
    embeddings = arrays.get("embeddings")
    if embeddings is not None and (embeddings.ndim != 2 or len(embeddings) < 2 or embeddings.shape[1] < 1):
        raise CheckpointError(f"{path}: embeddings has shape {embeddings.shape}, expected (N, D) with N > 1")
    return DensityArrays(
        gaussian=_gaussian(path, arrays, "mean", ("precision", "covariance")),
        embeddings=embeddings,
        bandwidth=_bandwidth(path, arrays),
        patches=_gaussian(path, arrays, "patch_mean", ("patch_precision",)),
        threshold=threshold,
    )


def _read(path: Path) -> tuple[float | None, dict[str, Array]]:
    """The threshold of a pickle, and the arrays."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{path} has {path.stat().st_size} bytes, expected at most {MAX_BYTES}")
        if not _is_archive(path):
            held = read_density_pickle(path)
            threshold = held.pop(THRESHOLD, None)
            _check_names(path, held)
            arrays = {name: _numbers(path, name, np.asarray(value)) for name, value in held.items()}
            return None if threshold is None else _one_number(path, THRESHOLD, threshold), arrays
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_BYTES:
            raise CheckpointError(f"{path} unpacks to {unpacked} bytes, expected at most {MAX_BYTES}")
        with np.load(path, allow_pickle=False) as file:
            _check_names(path, file.files)
            return None, {name: _numbers(path, name, file[name]) for name in file.files}
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{path} is no readable .npz file: save it with numpy.savez") from error
    except Exception as error:  # zipfile and numpy raise nearly anything on damaged bytes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is no .npz file of plain arrays, or is damaged: {reason}") from error


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _check_names(path: Path, names: Iterable[str]) -> None:
    for name in names:
        if name not in _KEYS:
            raise CheckpointError(f"{path} holds {name!r}, expected only {', '.join(_KEYS)}")


def _numbers(path: Path, name: str, array: object) -> Array:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise CheckpointError(f"{path}: {name} is {getattr(array, 'dtype', 'no array')}, expected numbers")
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if not np.isfinite(single).all():
        raise CheckpointError(
            f"{path}: {name} of shape {array.shape} holds values that are no finite float32 numbers"
        )
    return np.asarray(array, dtype=np.float64)


def _gaussian(
    path: Path, arrays: Mapping[str, Array], first: str, matrices: tuple[str, ...]
) -> Gaussian | None:
    held = [name for name in (first, *matrices) if name in arrays]
    if not held:
        return None
    if len(held) != 2 or held[0] != first:
        raise CheckpointError(f"{path} holds {_names(arrays)}, expected {first} and {' or '.join(matrices)}")
    name, mean, matrix = held[1], arrays[first], arrays[held[1]]
    if mean.ndim != 1 or mean.size < 1:
        raise CheckpointError(f"{path}: {first} has shape {mean.shape}, expected (D,)")
    if matrix.shape != (mean.size, mean.size):
        raise CheckpointError(
            f"{path}: {name} has shape {matrix.shape}, expected {(mean.size, mean.size)} as {first} tells"
        )
    if np.abs(matrix - matrix.T).max() > _SYMMETRIC * np.abs(matrix).max():
        raise CheckpointError(f"{path}: {name} of shape {matrix.shape} is not symmetric: it is no {name}")
    symmetric: Array | None = (matrix + matrix.T) / 2
    if name == "covariance":
        symmetric = inverse((matrix + matrix.T) / 2)
    gaussian = None if symmetric is None else gaussian_from(mean, symmetric)
    if gaussian is None:
        raise CheckpointError(
            f"{path}: {name} of shape {matrix.shape} is not positive definite: distances have no meaning"
        )
    return gaussian


def _bandwidth(path: Path, arrays: Mapping[str, Array]) -> float | None:
    if "bandwidth" not in arrays:
        return None
    value = _one_number(path, "bandwidth", arrays["bandwidth"])
    least, most = BANDWIDTHS
    if not least <= value <= most:
        raise CheckpointError(f"{path}: bandwidth is {value:g}, expected {least:g} to {most:g}")
    return value


def _one_number(path: Path, name: str, value: object) -> float:
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiu":
        raise CheckpointError(f"{path}: {name} has shape {array.shape}, expected one number")
    return float(array.reshape(()))


def _names(arrays: Mapping[str, Array]) -> str:
    return ", ".join(sorted(arrays)) or "nothing"
