"""Which files make one checkpoint: a file, DRAEM's pair, or a folder that holds one of these."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sspcab_edge.errors import CheckpointError
from sspcab_edge.local_path import local_path

__all__ = [
    "CHECKPOINT_SUFFIXES",
    "PADDLE_SUFFIXES",
    "SEGMENTATION_ENDING",
    "bundle_beside",
    "checkpoint_files",
]

CHECKPOINT_SUFFIXES = (
    ".ckpt", ".onnx", ".pckl", ".pdparams", ".pkl", ".pt", ".pt2", ".pth", ".safetensors", ".tch", ".ts",
)  # fmt: skip
"""Of files that are looked for in folders, in lower case; files that are named may be called as they like."""

PADDLE_SUFFIXES = (".pdopt", ".pdparams")
"""Of what ``paddle.save`` writes: optimiser states and weights."""

SEGMENTATION_ENDING = "_seg"
"""DRAEM's training saves ``<run>.pckl`` and, for the discriminative network, ``<run>_seg.pckl``."""


def checkpoint_files(given: Sequence[str | Path]) -> tuple[Path, ...]:
    """The files of one checkpoint, from what the user named: one file or more, either of a pair, a folder.

    Raises:
        CheckpointError: Nothing there, or a folder with several checkpoints.
    """
    if not given:
        raise CheckpointError("no checkpoint given")
    files: list[Path] = []
    for name in given:
        path = local_path(name)
        if path.is_dir():
            files.extend(_in_folder(path))
        elif path.is_file():
            files.append(path)
        else:
            raise CheckpointError(f"{path} does not exist, expected a checkpoint file or folder")
    if len(files) == 1:
        files = _with_partner(files[0])
    return tuple(dict.fromkeys(files))


def bundle_beside(given: Sequence[str | Path], files: Sequence[Path]) -> Path:
    """What a bundle is called that nobody named: ``<stem>-bundle`` in the working directory.

    Args:
        given: What the user named; a folder's own name is the stem.
        files: Those of the checkpoint; the stem is the shortest, which DRAEM's pair shares.
    """
    named = local_path(given[0])
    shared = min((path.stem for path in files), key=len)
    stem = shared.rstrip("_") or shared
    if len(given) == 1 and named.is_dir():
        stem = named.resolve().name or stem
    return Path(f"{stem}-bundle")


def _with_partner(path: Path) -> list[Path]:
    """A file and, where it lies beside it, the other one of DRAEM's pair; reconstruction first."""
    ending = path.stem[-len(SEGMENTATION_ENDING) :]
    if ending.lower() == SEGMENTATION_ENDING:
        partner = path.with_name(path.stem.removesuffix(ending) + path.suffix)
        return [partner, path] if partner.is_file() else [path]
    for ending in (SEGMENTATION_ENDING, SEGMENTATION_ENDING.upper()):
        partner = path.with_name(path.stem + ending + path.suffix)
        if partner.is_file():
            return [path, partner]
    return [path]


def _in_folder(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in CHECKPOINT_SUFFIXES and p.is_file())
    if not found:
        raise CheckpointError(
            f"{folder} holds no checkpoint (looked for files ending in {', '.join(CHECKPOINT_SUFFIXES)})"
        )
    groups = {tuple(_with_partner(path)) for path in found}
    if len(groups) > 1:
        names = ", ".join(sorted(group[0].name for group in groups))
        raise CheckpointError(f"{folder} holds {len(groups)} checkpoints ({names}): name the one to export")
    return list(groups.pop())
