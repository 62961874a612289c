"""Weights that an ONNX file keeps in other files: read from its own folder, each byte once, and put inside.

``torch.onnx.export`` writes ``m.onnx`` and ``m.onnx.data`` since torch 2.9. A location is text that comes
with the file, so it counts only where it is the plain name of a regular file in the same folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir
from google.protobuf.message import Message

from sspcab_edge.errors import GraphError
from sspcab_edge.manifest import FileEntry

__all__ = ["put_data_inside"]

_SEPARATORS = ("/", "\\", "\0")
_MOST_DIGITS: Final = 18
"""Of an offset or a length: what fits into a signed 64-bit integer."""

_REMEDY = "save it as one file: onnx.save(onnx.load(IN), OUT), or torch.onnx.export(..., external_data=False)"


@dataclass(frozen=True, slots=True)
class _Part:
    """A tensor and the bytes of its file that are declared to be its own."""

    tensor: onnx.TensorProto
    offset: int
    length: int

    @property
    def end(self) -> int:
        """The first byte that is not its own."""
        return self.offset + self.length


def put_data_inside(model: onnx.ModelProto, path: Path, room: int) -> tuple[FileEntry, ...]:
    """Read all external data of a model and make it part of the model.

    Every location has to be the name of a regular file, no link, in the folder of the model, with all bytes
    that are declared. Tensors may lie apart, share a file, or have one each. Nothing else is opened.

    Args:
        model: Changed in place: no tensor of it has external data afterwards, wherever it stands (graphs,
            functions, attributes, sparse tensors).
        path: The model's file.
        room: Most bytes of all tensors together, and of any one file.

    Returns:
        The files that were read, by name, with the digests of the bytes that were used.

    Raises:
        GraphError: A location is no such file, or does not hold what is declared.
    """
    parts: dict[str, list[_Part]] = {}
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            location, part = _declared(tensor, path)
            parts.setdefault(location, []).append(part)
    total = sum(part.length for found in parts.values() for part in found)
    if total > room:
        raise GraphError(
            f"{path} keeps {total} bytes of weights in other files, expected at most {room}: an ONNX file "
            "of 2 GiB or more cannot be made"
        )
    return tuple(_read(path, name, parts[name], room) for name in sorted(parts))


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor below a message, whatever holds it."""
    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in [value] if isinstance(value, Message) else value:
            yield from _tensors(item)


def _declared(tensor: onnx.TensorProto, path: Path) -> tuple[str, _Part]:
    """The location of a tensor, which is a plain name, and the part of it that is the tensor's.

    Raises:
        GraphError: It is not, or what is declared makes no sense.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    which = f"{path} keeps tensor {tensor.name!r} in the external file {location!r}"
    if location in ("", ".", "..") or any(sign in location for sign in _SEPARATORS):
        raise GraphError(f"{which}, expected the plain name of a file in the same folder, no path; {_REMEDY}")
    size = _size(tensor)
    if size is None:
        raise GraphError(f"{which}, but it is of a kind that has no plain bytes; {_REMEDY}")
    numbers = {name: entries.get(name, default) for name, default in (("offset", "0"), ("length", str(size)))}
    for name, text in numbers.items():
        if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
            raise GraphError(f"{which} with {name} {text[:40]!r}, expected a number of bytes; {_REMEDY}")
    offset, length = int(numbers["offset"]), int(numbers["length"])
    if length != size:
        raise GraphError(
            f"{which} with {length} bytes, expected the {size} of its shape {tuple(tensor.dims)}; {_REMEDY}"
        )
    return location, _Part(tensor, offset, length)


def _size(tensor: onnx.TensorProto) -> int | None:
    """Bytes that a tensor takes; None where its type or shape has no such number."""
    try:
        bits = int(ir.DataType(tensor.data_type).itemsize * 8)
    except (ValueError, TypeError):
        return None
    if tensor.data_type == onnx.TensorProto.STRING or any(size < 0 for size in tensor.dims):
        return None
    elements: int = math.prod(tensor.dims)
    return -(-elements * bits // 8)


def _read(path: Path, name: str, parts: list[_Part], room: int) -> FileEntry:
    """Fill the tensors from one file; its bytes are read, hashed and used once.

    Raises:
        GraphError: The file is missing, no regular file, too large, or shorter than declared.
    """
    beside = path.parent / name
    try:
        # Opened first and asked then, so that what was checked is what is read; a pipe must not block.
        descriptor = os.open(beside, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise GraphError(
            f"{path} keeps its weights in {name!r}, which is not there: it lay beside {path.name} when that "
            "was exported; copy both into one folder"
        ) from error
    except (OSError, ValueError) as error:
        if beside.is_symlink():
            raise GraphError(
                f"{path} keeps its weights in {name!r}, which is a link, expected a regular file: copy the "
                "file itself beside it"
            ) from error
        raise GraphError(f"cannot read {beside}: {getattr(error, 'strerror', None) or error}") from error
    with contextlib.ExitStack() as opened:
        opened.callback(os.close, descriptor)
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise GraphError(f"{path} keeps its weights in {name!r}, expected a regular file; {_REMEDY}")
        if state.st_size > room:
            raise GraphError(f"{beside} has {state.st_size} bytes, expected at most {room}")
        try:
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(state.st_size)
        except OSError as error:
            raise GraphError(f"cannot read {beside}: {error.strerror}") from error
    for part in parts:
        if part.end > len(data):
            raise GraphError(
                f"{path} keeps tensor {part.tensor.name!r} at bytes {part.offset} to {part.end} of {name!r}, "
                f"which has {len(data)}: it is truncated, or of another export; copy both files again"
            )
        part.tensor.raw_data = data[part.offset : part.end]
        part.tensor.ClearField("external_data")
        part.tensor.ClearField("data_location")
    return FileEntry(path=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())
