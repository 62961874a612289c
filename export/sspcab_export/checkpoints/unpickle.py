"""``torch.save`` files, read without running what they ask for.

torch's restricted unpickler (``weights_only=True``) refuses every class it does not know. Genuine Lightning
checkpoints hold some (transforms, enums, metrics), so classes of packages become inert stubs, which keep
their state and have no behaviour. Names from Python's own library are functions that do things
(``posix.system``, ``builtins.eval``): a file that asks for one is refused and said to be hostile.
"""

from __future__ import annotations

import pickle
import re
import sys
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING as _IMPORT_MAPPING  # pickle protocol 2 has Python 2's names
from _compat_pickle import NAME_MAPPING as _NAME_MAPPING
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sspcab_edge.errors import CheckpointError

__all__ = ["Stub", "load_torch_file"]

MAX_BYTES = 8 * 1024**3
"""Largest checkpoint that is read, in bytes, packed and unpacked."""

_HARMLESS_STDLIB = frozenset({"collections", "datetime", "decimal", "enum", "fractions", "pathlib", "typing"})
_HARMLESS_BUILTINS = frozenset(
    {"bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range"}
    | {"set", "slice", "str", "tuple"}
)


class Stub:
    """Stands for an object whose class is absent: remembers arguments and state, does nothing.

    Attributes:
        arguments: What its class was called with.
        state: What unpickling would have set on it.
    """

    def __init__(self, *arguments: object, **named: object) -> None:
        del named
        self.arguments = arguments
        self.state: object = None

    def __new__(cls, *arguments: object, **named: object) -> Stub:
        stub = super().__new__(cls)
        stub.arguments = arguments
        stub.state = None
        return stub

    def __setstate__(self, state: object) -> None:
        self.state = state


def load_torch_file(path: Path) -> Any:
    """What ``torch.save`` wrote, tensors on the CPU and memory-mapped where the format allows.

    Raises:
        CheckpointError: Truncated, no such file, too large, or asking for code to be run.
    """
    zipped = _check_container(path)
    stubs = _stubs(path) if zipped else []
    try:
        with torch.serialization.safe_globals(stubs), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True if zipped else None)
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path, str(error))) from error
    except Exception as error:  # torch and pickle raise nearly anything on damaged bytes
        raise CheckpointError(f"{path} cannot be read, it is damaged or no checkpoint: {error}") from error


def _refusal(path: Path, reason: str) -> str:
    if named := re.search(r"GLOBAL ([\w.]+)", reason):
        return _asks_to_run(path, named[1].rstrip("."))
    return f"{path} cannot be read, it is damaged or no checkpoint written by torch.save"


def _asks_to_run(path: Path, name: str) -> str:
    return f"{path} asks to run {name}: refused; save plain weights, torch.save(model.state_dict())"


def _check_container(path: Path) -> bool:
    """Whether the file is a zip archive (torch's format since 1.6), after checking its sizes."""
    size = path.stat().st_size
    if size == 0:
        raise CheckpointError(f"{path} is empty, expected a checkpoint")
    if size > MAX_BYTES:
        raise CheckpointError(f"{path} has {size} bytes, expected at most {MAX_BYTES}")
    with path.open("rb") as file:
        magic = file.read(4)
    if not zipfile.is_zipfile(path):
        if magic == b"PK\x03\x04":
            raise CheckpointError(f"{path} is truncated: its archive has no directory; copy it again")
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if unpacked > MAX_BYTES:
        raise CheckpointError(f"{path} unpacks to {unpacked} bytes, expected at most {MAX_BYTES}")
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        raise CheckpointError(
            f"{path} is a TorchScript program: save the weights, torch.save(model.state_dict())"
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(f"{path} is an archive but no checkpoint written by torch.save")
    return True


def _stubs(path: Path) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """An inert class for every name in the file that torch does not know.

    Raises:
        CheckpointError: A name belongs to Python's own library and does things.
    """
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception as error:  # any damage inside the archive ends here first
        raise CheckpointError(f"{path} cannot be read, it is damaged or no checkpoint: {error}") from error
    stubs: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = []
    for name in names:
        module, _, leaf = name.rpartition(".")
        module, leaf = _NAME_MAPPING.get((module, leaf), (_IMPORT_MAPPING.get(module, module), leaf))
        root = module.split(".")[0]
        harmless = leaf in _HARMLESS_BUILTINS if root == "builtins" else root in _HARMLESS_STDLIB
        if not root or (root in sys.stdlib_module_names and not harmless):
            raise CheckpointError(_asks_to_run(path, name))
        stubs.append((type(leaf, (Stub,), {"__module__": module}), name))
    return stubs
