"""One checkpoint in memory: tensors by dotted key, and the plain values that lay beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from sspcab_edge.bundle import file_entry
from sspcab_edge.errors import CheckpointError
from sspcab_edge.manifest import FileEntry
from sspcab_export.checkpoints.contents import MAX_TENSORS, contents_of
from sspcab_export.checkpoints.files import PADDLE_SUFFIXES
from sspcab_export.checkpoints.inert import Stub
from sspcab_export.checkpoints.keys import tidy
from sspcab_export.checkpoints.pickles import Damaged
from sspcab_export.checkpoints.torch_files import MAX_BYTES, load_torch_file

__all__ = ["Checkpoint", "Part", "read_checkpoint"]


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a checkpoint.

    Attributes:
        path: The file.
        tensors: Its weights by dotted name (nested dicts are joined with dots), without what wrappers and
            containers put into names, and without what no output depends on.
        facts: Everything else in it, by dotted key: numbers, strings, stubs of absent classes.
        held: All tensors, by their keys in the file.
        homes: Path of the dict or whole module that each of these lies in, by its key.
        names: Key in the file of every one of ``tensors`` that has another name there.
        modules: Class of every whole module, by its path in the file.
        set_aside: Keys in the file of what is not among ``tensors``.
    """

    path: Path
    tensors: Mapping[str, torch.Tensor]
    facts: Mapping[str, object]
    held: Mapping[str, torch.Tensor] = field(default_factory=dict)
    homes: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    set_aside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What training left behind, read but not understood.

    Attributes:
        parts: Its files.
        source: Name, size and SHA-256 of each.
    """

    parts: tuple[Part, ...]
    source: tuple[FileEntry, ...]

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors of all parts.

        Raises:
            CheckpointError: Two parts have the same key.
        """
        return _merged(self.parts, [part.tensors for part in self.parts])

    @property
    def held(self) -> dict[str, torch.Tensor]:
        """The tensors of all parts by their keys in the files.

        Raises:
            CheckpointError: Two parts have the same key.
        """
        return _merged(self.parts, [part.held for part in self.parts])

    @property
    def facts(self) -> dict[str, object]:
        """The plain values of all parts."""
        return {key: value for part in self.parts for key, value in part.facts.items()}

    @property
    def digest(self) -> str:
        """One SHA-256 over all files."""
        return hashlib.sha256("\n".join(entry.sha256 for entry in self.source).encode()).hexdigest()

    @property
    def name(self) -> str:
        """What to call the model: the first file's stem."""
        return self.parts[0].path.stem.rstrip("_")


def read_checkpoint(files: Sequence[Path]) -> Checkpoint:
    """Read the files of one checkpoint; no code in them is run.

    Raises:
        CheckpointError: A file is damaged, hostile, too large, or holds no tensors.
    """
    return Checkpoint(
        tuple(_read_part(path) for path in files),
        tuple(file_entry(path, path.name) for path in files),
    )


def _merged(parts: Sequence[Part], tensors: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    merged: dict[str, torch.Tensor] = {}
    for part, held in zip(parts, tensors, strict=True):
        for key, tensor in held.items():
            if key in merged:
                raise CheckpointError(f"{parts[0].path} and {part.path} both hold {key!r}")
            merged[key] = tensor
    return merged


def _read_part(path: Path) -> Part:
    suffix = path.suffix.lower()
    if suffix == ".pdopt":
        raise CheckpointError(
            f"{path} holds the state of an optimiser: give {path.with_suffix('.pdparams').name}, the weights"
        )
    loaded = _load_safetensors(path) if suffix == ".safetensors" else load_torch_file(path)
    try:
        contents = contents_of(loaded, paddle=suffix in PADDLE_SUFFIXES)
    except (CheckpointError, Damaged) as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not contents.tensors or "" in contents.tensors:
        raise CheckpointError(
            f"{path} holds no weights but {_kind(loaded)}: save torch.save(model.state_dict())"
        )
    tidied = tidy(contents.tensors, contents.homes)
    return Part(
        path,
        tidied.tensors,
        contents.facts,
        held=contents.tensors,
        homes=contents.homes,
        names=tidied.held,
        modules=contents.modules,
        set_aside=(*contents.set_aside, *tidied.set_aside),
    )


def _kind(loaded: object) -> str:
    return loaded.of if isinstance(loaded, Stub) else type(loaded).__name__


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path} has {path.stat().st_size} bytes, expected at most {MAX_BYTES}")
    try:
        with safe_open(path, "pt") as file:
            if (count := len(file.keys())) > MAX_TENSORS:
                raise CheckpointError(
                    f"{path} holds {count} tensors, expected a network's: at most {MAX_TENSORS}"
                )
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no readable safetensors file: {error}") from error
