"""Files of ``torch.save`` of every age, of ``paddle.save`` and plain pickles, read as data: nothing runs.

torch writes an archive since 1.6, whose ``data.pkl`` refers to records of raw bytes; before, pickles and
then the bytes; ``pickle.dump`` of a tensor has a file of the old form inside for each one's bytes.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

import torch

from sspcab_edge.errors import CheckpointError
from sspcab_export.checkpoints.archives import check_directory
from sspcab_export.checkpoints.inert import AsksToRun
from sspcab_export.checkpoints.pickles import Damaged, read_pickle
from sspcab_export.checkpoints.rebuild import CALLS, Storage, storage_dtype

__all__ = ["MAX_BYTES", "load_torch_file"]

MAX_BYTES = 8 * 1024**3
"""Largest checkpoint that is read, in bytes, packed and unpacked."""

_MAGIC = 0x1950A86A20F9469CFC6C
"""What the first pickle of a file of torch before 1.6 holds."""

_TAR = slice(257, 262)
_ALIGNMENT = 16
_BROKEN = (
    EOFError, NotImplementedError, OSError, RuntimeError, ValueError, struct.error, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
"""What the standard library raises on archives that are damaged, encrypted or packed in unknown ways."""

_LOCAL_HEADER = struct.Struct("<26xHH")
_REMEDY = "save plain weights, torch.save(model.state_dict())"


def load_torch_file(path: Path) -> object:
    """What ``torch.save`` or ``paddle.save`` wrote: tensors on the CPU, memory-mapped where that can be.

    Raises:
        CheckpointError: Truncated, no such file, too large, or asking for code to be run.
    """
    _check_size(path)
    try:
        if _check_container(path):
            return _load_archive(path)
        with path.open("rb") as file:
            if file.read(_TAR.stop)[_TAR] == b"ustar":
                raise CheckpointError(f"{path} is a tar archive, as torch before 0.2 wrote them: {_REMEDY}")
            return _load_pickles(file, file.seek(0, io.SEEK_END), outermost=True)
    except AsksToRun as error:
        raise CheckpointError(f"{path} asks to run {error}: refused; {_REMEDY}") from error
    except (Damaged, *_BROKEN) as error:
        raise CheckpointError(
            f"{path} cannot be read, it is damaged or no checkpoint written by torch.save: {error}"
        ) from error


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    if size == 0:
        raise CheckpointError(f"{path} is empty, expected a checkpoint")
    if size > MAX_BYTES:
        raise CheckpointError(f"{path} has {size} bytes, expected at most {MAX_BYTES}")


def _check_container(path: Path) -> bool:
    """Whether the file is a zip archive (torch's format since 1.6), after checking its sizes."""
    with path.open("rb") as file:
        magic = file.read(4)
    check_directory(path)
    if not zipfile.is_zipfile(path):
        if magic == b"PK\x03\x04":
            raise CheckpointError(f"{path} is truncated: its archive has no directory; copy it again")
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            names = archive.namelist()
    except _BROKEN as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if unpacked > MAX_BYTES:
        raise CheckpointError(f"{path} unpacks to {unpacked} bytes, expected at most {MAX_BYTES}")
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        raise CheckpointError(f"{path} is a TorchScript program: {_REMEDY}")
    if not any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(f"{path} is an archive but no checkpoint written by torch.save")
    return True


def _load_archive(path: Path) -> object:
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        records = {entry.filename: entry for entry in archive.infolist()}
        (pickled, *more) = [name for name in records if name == "data.pkl" or name.endswith("/data.pkl")]
        root = pickled.removesuffix("data.pkl")
        if more:
            raise Damaged("its archive has several pickles")
        if f"{root}byteorder" in records and archive.read(f"{root}byteorder") != b"little":
            raise Damaged("it was written on a machine of another byte order")
        known: dict[str, torch.Tensor] = {}

        def persistent(key: object) -> Storage:
            kind, name, count = _storage_key(key, 5)
            dtype = storage_dtype(kind)
            record = records.get(f"{root}data/{name}")
            if record is None or record.file_size < count * dtype.itemsize:
                raise Damaged(f"its archive lacks the bytes of storage {name}")
            if name not in known:
                known[name] = _record(archive, mapped, record)
            return Storage(known[name][: count * dtype.itemsize], dtype)

        return read_pickle(io.BytesIO(archive.read(pickled)), CALLS, persistent)


def _record(archive: zipfile.ZipFile, mapped: mmap.mmap, record: zipfile.ZipInfo) -> torch.Tensor:
    """The bytes of one record, mapped where the archive holds them as they are."""
    if record.compress_type != zipfile.ZIP_STORED:
        return _bytes(bytearray(archive.read(record)))
    name, extra = _LOCAL_HEADER.unpack_from(mapped, record.header_offset)
    start = record.header_offset + _LOCAL_HEADER.size + name + extra
    if start + record.file_size > len(mapped):
        raise Damaged("its archive is cut off")
    if start % _ALIGNMENT or not record.file_size:
        return _bytes(bytearray(mapped[start : start + record.file_size]))
    return torch.frombuffer(mapped, dtype=torch.uint8, offset=start, count=record.file_size)


def _bytes(data: bytearray) -> torch.Tensor:
    return torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def _storage_key(key: object, parts: int) -> tuple[object, str, int]:
    """Kind, name and number of elements of a storage that a pickle refers to."""
    if not isinstance(key, tuple) or len(key) < parts or key[0] not in ("storage", b"storage"):
        raise Damaged("its pickle refers to something that is no storage")
    count = key[4]
    if not isinstance(count, int) or count < 0:
        raise Damaged("its pickle refers to a storage of an impossible size")
    return key[1], str(key[2]), count


def _load_pickles(file: IO[bytes], size: int, *, outermost: bool) -> object:
    """A file of torch before 1.6, or a plain pickle."""
    file.seek(0)
    calls = {**CALLS, "torch.storage._load_from_bytes": _inner} if outermost else CALLS
    first = read_pickle(file, calls)
    if first != _MAGIC:
        return first
    for _ in range(2):  # version, and facts about the machine that wrote it
        read_pickle(file, {})
    storages: dict[str, tuple[bytearray, torch.dtype]] = {}
    left = size

    def persistent(key: object) -> object:
        nonlocal left
        if isinstance(key, tuple) and len(key) > 1 and key[0] in ("module", b"module"):
            return key[1]  # the class of a module; its source text, which follows, is not looked at
        kind, name, count = _storage_key(key, 5)
        dtype = storage_dtype(kind)
        if name not in storages:
            left -= count * dtype.itemsize
            if left < 0:
                raise Damaged("it is cut off: its storages are larger than the file")
            storages[name] = (bytearray(count * dtype.itemsize), dtype)
        data = _bytes(storages[name][0])
        view = key[5] if isinstance(key, tuple) and len(key) > 5 else None
        return Storage(data if view is None else _part(data, view, dtype), dtype)

    value = read_pickle(file, CALLS, persistent)
    names = read_pickle(file, {})
    if not isinstance(names, list) or any(str(name) not in storages for name in names):
        raise Damaged("its list of storages is damaged")
    for name in names:
        data, dtype = storages[str(name)]
        (count,) = struct.unpack("<q", file.read(8))
        if count * dtype.itemsize != len(data) or file.readinto(data) != len(data):  # type: ignore[attr-defined]
            raise Damaged(f"it is cut off at storage {name}")
    return value


def _part(data: torch.Tensor, view: object, dtype: torch.dtype) -> torch.Tensor:
    """The part of a storage that a view of it is."""
    if not isinstance(view, tuple) or len(view) != 3 or not all(isinstance(n, int) for n in view[1:]):
        raise Damaged("its pickle refers to a part of a storage that is none")
    start, stop = (n * dtype.itemsize for n in (view[1], view[1] + view[2]))
    if not 0 <= start <= stop <= data.numel():
        raise Damaged("its pickle refers to bytes beyond a storage")
    return data[start:stop]


def _inner(data: object = b"", *_: object) -> object:
    if not isinstance(data, (bytes, bytearray)):
        raise Damaged("its pickle holds a storage without bytes")
    return _load_pickles(io.BytesIO(data), len(data), outermost=False)
