"""What public CutPaste code pickles of its densities: dicts of arrays, read as data. Nothing in them runs.

Facts from public code, own code: Lieberk/Paddle-SSPCAB (Apache-2.0) pickles ``train_embed`` (N, D), of unit
length, with the ``threshold`` that parts its test images best; liuxtakeoff/sspcab_paddle (CC BY-SA 4.0)
``mean`` (D,) and ``inv_cov`` (D, D), or a whole kernel density of scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sspcab_edge.errors import CheckpointError
from sspcab_export.checkpoints.arrays import Array
from sspcab_export.checkpoints.inert import AsksToRun, Stub
from sspcab_export.checkpoints.pickles import Damaged, read_pickle
from sspcab_export.checkpoints.rebuild import CALLS

__all__ = ["THRESHOLD", "read_density_pickle"]

THRESHOLD: Final = "threshold"

_OURS: Final = {"train_embed": "embeddings", "inv_cov": "precision"}
"""Name in public code -> name here."""

_REMEDY: Final = "save its arrays with numpy.savez: embeddings, or mean and precision"
_KERNELS: Final = (
    "where scikit-learn is, numpy.savez('density.npz', embeddings=kde.tree_.data, bandwidth=kde.bandwidth) "
    "saves what is read, with kde the object in it; then add --density kde"
)


def read_density_pickle(path: Path) -> dict[str, object]:
    """Arrays and numbers of a pickled dict, under the names that they have here.

    Raises:
        CheckpointError: It is no pickle, asks for code to be run, or holds something else than a dict.
        OSError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            held = read_pickle(file, CALLS)
    except AsksToRun as error:
        raise CheckpointError(f"{path} asks to run {error}: refused; {_REMEDY}") from error
    except Damaged as error:
        raise CheckpointError(
            f"{path} is no readable .npz file and no pickle of plain arrays ({error}): {_REMEDY}"
        ) from error
    if isinstance(held, Stub):
        remedy = _KERNELS if held.name == "KernelDensity" else _REMEDY
        raise CheckpointError(f"{path} is a pickled {held.of}, which is not read: {remedy}")
    if not isinstance(held, dict):
        raise CheckpointError(
            f"{path} is a pickled {_kind(held)}, expected a dict with embeddings, or mean and precision: "
            f"{_REMEDY}"
        )
    return _named(path, held)


def _named(path: Path, held: Mapping[object, object]) -> dict[str, object]:
    named: dict[str, object] = {}
    for key, value in held.items():
        name = _OURS.get(str(key), str(key))
        if name in named:
            raise CheckpointError(f"{path} holds {name} twice, also as {key!r}: expected one of them")
        if isinstance(value, Array) and value.values is not None:
            named[name] = value.values
        elif isinstance(value, (int, float)):
            named[name] = value
        else:
            raise CheckpointError(f"{path}: {key} is a {_kind(value)}, expected numbers: {_REMEDY}")
    return named


def _kind(value: object) -> str:
    return value.of if isinstance(value, Stub) else type(value).__name__
