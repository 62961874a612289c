"""What pickles of tensors and of plain Python values call, done here on bytes that were checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sspcab_export.checkpoints.arrays import ARRAY_CALLS, Array, raw_bytes
from sspcab_export.checkpoints.inert import AsksToRun, Name, Stub, name_of
from sspcab_export.checkpoints.pickles import Calls, Damaged

__all__ = ["CALLS", "Storage", "Unreadable", "dtype_of", "storage_dtype"]

_STORAGES = {
    "BFloat16Storage": torch.bfloat16, "BoolStorage": torch.bool, "ByteStorage": torch.uint8,
    "CharStorage": torch.int8, "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64, "DoubleStorage": torch.float64, "FloatStorage": torch.float32,
    "HalfStorage": torch.float16, "IntStorage": torch.int32, "LongStorage": torch.int64,
    "QInt32Storage": torch.int32, "QInt8Storage": torch.int8, "QUInt2x4Storage": torch.uint8,
    "QUInt4x2Storage": torch.uint8, "QUInt8Storage": torch.uint8, "ShortStorage": torch.int16,
    "TypedStorage": torch.uint8, "UntypedStorage": torch.uint8, "_TypedStorage": torch.uint8,
    "_UntypedStorage": torch.uint8,
}  # fmt: skip

_MOST_SPREAD = 1 << 24
"""Most elements of a tensor that repeats the same bytes."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes that tensors look at.

    Attributes:
        data: uint8, one dimension.
        dtype: What the file says they are.
    """

    data: torch.Tensor
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A tensor that is there but holds no plain numbers.

    Attributes:
        kind: What it is, as "a quantised tensor".
    """

    kind: str


_NEGATED = Unreadable("a tensor that is conjugated or negated lazily")


def storage_dtype(named: object) -> torch.dtype:
    """What a storage of a class such as ``torch.FloatStorage`` holds.

    Raises:
        Damaged: There is no such class.
    """
    leaf = named.leaf.rpartition(".")[2] if isinstance(named, Name) else ""
    if leaf not in _STORAGES:
        raise Damaged("its pickle holds a storage of no known kind")
    return _STORAGES[leaf]


def dtype_of(named: object) -> torch.dtype | None:
    """The dtype that a pickle names; None for anything else."""
    if isinstance(named, torch.dtype):
        return named
    if not isinstance(named, Name) or named.module != "torch":
        return None
    found = vars(torch).get(named.leaf)
    return found if isinstance(found, torch.dtype) else None


def _tensor(
    storage: object = None, offset: object = 0, size: object = (), stride: object = (), *more: object
) -> object:
    if not isinstance(storage, Storage):
        raise Damaged("its pickle holds a tensor without storage")
    if _negated(more[2:3]):
        return _NEGATED
    return _view(storage.data, storage.dtype, offset, size, stride)


def _tensor_of_dtype(
    storage: object = None, offset: object = 0, size: object = (), stride: object = (), *more: object
) -> object:
    dtype = dtype_of(more[2]) if len(more) > 2 else None
    if not isinstance(storage, Storage) or dtype is None:
        raise Damaged("its pickle holds a tensor without storage or dtype")
    if _negated(more[3:4]):
        return _NEGATED
    return _view(storage.data, dtype, offset, size, stride)


def _negated(metadata: Sequence[object]) -> bool:
    """Whether the numbers of a tensor are to be negated or conjugated when they are looked at."""
    return any(isinstance(marks, dict) and any(marks.values()) for marks in metadata)


def _view(data: torch.Tensor, dtype: torch.dtype, offset: object, size: object, stride: object) -> object:
    sizes, strides = _whole(size), _whole(stride)
    if sizes is None or strides is None or len(sizes) != len(strides) or not isinstance(offset, int):
        raise Damaged("its pickle holds a tensor of an impossible shape")
    start, odd = divmod(int(data.storage_offset()), dtype.itemsize)
    count, there = math.prod(sizes), data.numel() // dtype.itemsize
    last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True)) if count else 0
    if odd or offset < 0 or last >= there + (not count) or count > max(there, _MOST_SPREAD):
        raise Damaged(f"its pickle holds a tensor {tuple(sizes)} that goes beyond its bytes")
    try:
        return torch.empty(0, dtype=dtype).set_(data.untyped_storage(), start + offset, sizes, strides)
    except RuntimeError as error:
        raise Damaged(f"its pickle holds a tensor {tuple(sizes)} of {dtype}: {error}") from error


def _whole(values: object) -> list[int] | None:
    if not isinstance(values, (tuple, list)):
        return None
    whole = [value for value in values if isinstance(value, int) and 0 <= value < 1 << 48]
    return whole if len(whole) == len(values) else None


def _first(value: object = None, *_: object) -> object:
    """A parameter is its tensor."""
    return value


def _subclass(function: object = None, _kind: object = None, arguments: object = (), *_: object) -> object:
    """A tensor of a class of its own is the tensor that it is rebuilt from."""
    known = CALLS.get(function.full) if isinstance(function, Name) else None
    if known is None or not isinstance(arguments, tuple):
        return Unreadable("a tensor of a class of its own")
    return known(*arguments)


def _from_array(values: object = None, *_: object) -> object:
    if isinstance(values, Array) and values.values is not None and values.values.dtype.kind in "biufc":
        return torch.from_numpy(values.values)
    return Unreadable("a tensor of another device without its values")


def _is(kind: str) -> Callable[..., object]:
    return lambda *_: Unreadable(kind)


def _bytes(text: object = b"", encoding: object = "latin1", *_: object) -> object:
    """``_codecs.encode``, as pickles of old protocols spell bytes."""
    if encoding not in ("latin1", "latin-1", b"latin1"):
        raise Damaged("its pickle holds bytes in an encoding that none needs")
    return raw_bytes(text)


def _plain(empty: object) -> Callable[..., object]:
    """A builtin that holds what it is given and nothing that has to be counted first."""

    def made(value: object = empty, *more: object) -> object:
        if isinstance(value, (list, tuple, set, frozenset)) and isinstance(empty, (list, tuple)):
            return type(empty)(value)
        if isinstance(value, (list, tuple)) and isinstance(empty, (set, frozenset)):
            return Stub(type(empty).__name__, (value,)) if _nested(value) else type(empty)(value)
        if isinstance(value, (bytes, bytearray, str)) and isinstance(empty, bytes):
            return raw_bytes(value)
        return value if isinstance(value, type(empty)) else Stub(type(empty).__name__, (value, *more))

    return made


def _nested(values: list[object] | tuple[object, ...]) -> bool:
    return not all(isinstance(value, (str, bytes, int, float, type(None), Name)) for value in values)


def _dict(value: object = None, *_: object) -> object:
    if isinstance(value, dict):
        return dict(value)
    entries: dict[object, object] = {}
    for pair in value if isinstance(value, (list, tuple)) else ():
        if isinstance(pair, (list, tuple)) and len(pair) == 2 and not _nested((pair[0],)):
            entries[pair[0]] = pair[1]
    return entries


def _default_dict(*_: object) -> object:
    return {}


def _object(kind: object = None, *arguments: object) -> object:
    if not isinstance(kind, Name):
        raise Damaged("its pickle makes an object of no class")
    known = CALLS.get(kind.full)
    return Stub(kind.full, arguments) if known is None else known(*arguments)


def _old_object(kind: object = None, _base: object = None, state: object = None) -> object:
    if state is not None:
        return state
    return _object(kind)


def _attribute(owner: object = None, name: object = "", *_: object) -> object:
    """A member of an enumeration or a method of an object, by name: nothing is looked up."""
    if isinstance(name, str) and not name.startswith("__"):
        if isinstance(owner, Name):
            return name_of(owner.module, f"{owner.leaf}.{name}")
        if isinstance(owner, Stub):
            return Stub(f"{owner.of}.{name}", (owner,))
    raise AsksToRun("builtins.getattr")


def _type(value: object = None, *more: object) -> object:
    if more:
        raise AsksToRun("builtins.type")
    return Name("builtins", type(value).__name__)


_QUANTISED = _is("a quantised tensor")

CALLS: Calls = {
    **ARRAY_CALLS,
    "_codecs.encode": _bytes,
    "builtins.bytearray": _plain(b""),
    "builtins.bytes": _plain(b""),
    "builtins.dict": _dict,
    "builtins.frozenset": _plain(frozenset()),
    "builtins.getattr": _attribute,
    "builtins.list": _plain([]),
    "builtins.set": _plain(set()),
    "builtins.tuple": _plain(()),
    "builtins.type": _type,
    "collections.Counter": _dict,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": _default_dict,
    "copyreg.__newobj__": _object,
    "copyreg._reconstructor": _old_object,
    "torch.Size": _plain(()),
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
    "torch._utils._rebuild_device_tensor_from_numpy": _from_array,
    "torch._utils._rebuild_meta_tensor_no_storage": _is("a tensor of the meta device, which has no values"),
    "torch._utils._rebuild_nested_tensor": _is("a nested tensor"),
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_qtensor": _QUANTISED,
    "torch._utils._rebuild_sparse_csr_tensor": _is("a sparse tensor"),
    "torch._utils._rebuild_sparse_tensor": _is("a sparse tensor"),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_wrapper_subclass": _is("a tensor of a class of its own"),
    "torch.nn.parameter.Buffer": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch.serialization._get_layout": _first,
}
"""What may be called, by dotted name; nothing in it does more than to look at its arguments."""
