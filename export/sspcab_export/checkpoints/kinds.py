"""What kind of file a checkpoint is, from its first bytes and directory. Imports without torch and onnx."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Literal

from sspcab_edge.errors import CheckpointError
from sspcab_export.checkpoints.archives import check_directory
from sspcab_export.checkpoints.files import PADDLE_SUFFIXES

__all__ = ["PROGRAM_NAMES", "ProgramKind", "container", "fixed_size", "program_kind"]

ProgramKind = Literal["pt2", "torchscript", "module"]
PROGRAM_NAMES: dict[ProgramKind, str] = {
    "module": "pickled PyTorch",
    "pt2": "torch.export",
    "torchscript": "TorchScript",
}
_MOST_BYTES_OF_A_GRAPH = 64 * 1024**2


def program_kind(path: Path) -> ProgramKind | None:
    """What kind of program a file is; None for everything else, weights above all. Nothing is run.

    Raises:
        CheckpointError: It is an archive whose directory is damaged, or lists more than any program.
    """
    check_directory(path)
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is damaged: {error}; copy it again") from error
    if any(name.endswith(("archive_format", "serialized_exported_program.json")) for name in names):
        return "pt2"
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        return "torchscript"
    return None


def fixed_size(path: Path) -> tuple[int, int] | None:
    """(height, width) that a ``torch.export`` program was exported at; None where it is free or not said."""
    try:
        with zipfile.ZipFile(path) as archive:
            entry = next(one for one in archive.infolist() if one.filename.endswith("models/model.json"))
            if entry.file_size > _MOST_BYTES_OF_A_GRAPH:
                return None
            module = json.loads(archive.read(entry))["graph_module"]
        specs = module["signature"]["input_specs"]
        images = [spec["user_input"]["arg"]["as_tensor"]["name"] for spec in specs if "user_input" in spec]
        return _last_two(module["graph"]["tensor_values"][images[0]]["sizes"])
    except (
        StopIteration,
        zipfile.BadZipFile,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
    ):
        return None


def _last_two(sizes: Any) -> tuple[int, int] | None:
    height, width = (size.get("as_int") for size in sizes[-2:])
    if len(sizes) == 4 and isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
        return height, width
    return None


def container(path: Path) -> str:
    """What wrote a file, in words, as far as its first bytes and its directory tell.

    Raises:
        CheckpointError: It cannot be read, or is an archive whose directory is damaged.
    """
    kind = program_kind(path)
    if kind is not None:
        return f"{PROGRAM_NAMES[kind]} program"
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        return "ONNX graph"
    if suffix == ".safetensors":
        return "safetensors"
    if suffix in PADDLE_SUFFIXES:
        return "Paddle parameters (pickle)"
    try:
        with path.open("rb") as file:
            first = file.read(2)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if first == b"PK":
        return "torch.save archive"
    return "pickle (torch.save before 1.6)" if first[:1] == b"\x80" else "unknown"
