"""NumPy's arrays in pickles, rebuilt from their bytes: numbers and strings only, without NumPy's own code."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sspcab_export.checkpoints.inert import Stub
from sspcab_export.checkpoints.pickles import Calls, Damaged, Rebuilding

__all__ = ["ARRAY_CALLS", "Array", "raw_bytes"]

_KINDS = "biufcSUV"
"""Kinds of dtypes that are numbers, strings or plain bytes; objects and dates are lists and stubs here."""

_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
_MOST_DIMENSIONS = 64


class DType(Rebuilding):
    """A dtype as its pickle gives it: a code, then its byte order."""

    def __init__(self, code: object, *_: object) -> None:
        self.code, self.order = code if isinstance(code, str) else "", "="

    def build(self, state: object) -> None:
        """``(version, byte order, ...)``, as ``numpy.dtype.__reduce__`` gives it."""
        if isinstance(state, (tuple, list)) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = str(state[1])

    def found(self) -> np.dtype[np.generic] | None:
        """NumPy's dtype; None for objects, dates and records."""
        if self.code[:1] not in tuple(_KINDS) or not self.code[1:].isdigit():
            return None
        try:
            made: np.dtype[np.generic] = np.dtype(f"{self.order}{self.code}")
        except TypeError:
            return None
        return made if 0 < made.itemsize <= 1 << 16 else None


class Array(Rebuilding):
    """An array: nothing until it is built.

    Attributes:
        values: The array; None where it holds something else than numbers and strings.
    """

    def __init__(self) -> None:
        self.values: npt.NDArray[np.generic] | None = None
        self.held: object = None

    @classmethod
    def of(cls, parts: Sequence[npt.NDArray[np.generic]], shape: Sequence[object]) -> Array:
        """One array of several flat ones.

        Raises:
            Damaged: They have more or fewer elements than the shape.
        """
        array, flat = cls(), np.concatenate(parts)
        sizes = [size for size in shape if isinstance(size, int)]
        if len(sizes) != len(shape) or math.prod(sizes) != len(flat):
            raise Damaged(f"its slices hold {len(flat)} numbers, expected an array {tuple(shape)}")
        array.values = flat.reshape(sizes)
        return array

    def build(self, state: object) -> None:
        """``(version, shape, dtype, column order, data)``, as ``numpy.ndarray.__reduce__`` gives it.

        Raises:
            Damaged: Its bytes are not those of its shape.
        """
        if not isinstance(state, (tuple, list)) or len(state) not in (4, 5):
            raise Damaged("its pickle holds an array without shape and data")
        shape, dtype, columns, data = state[-4:]
        if isinstance(data, list):
            self.held = data
            return
        self.values = _array(data, dtype, shape, columns=bool(columns))


def raw_bytes(value: object) -> bytes:
    """Bytes as Python 3 has them, or as Python 2 wrote them.

    Raises:
        Damaged: It is something else.
    """
    try:
        return value.encode("latin-1") if isinstance(value, str) else bytes(memoryview(value))  # type: ignore[arg-type]
    except (TypeError, UnicodeEncodeError) as error:
        raise Damaged(f"its pickle has a {type(value).__name__} where bytes belong") from error


def _array(data: object, dtype: object, shape: object, *, columns: bool) -> npt.NDArray[np.generic] | None:
    if not isinstance(dtype, DType) or not isinstance(shape, (tuple, list)):
        raise Damaged("its pickle holds an array without dtype and shape")
    kind, raw = dtype.found(), raw_bytes(data)
    if kind is None:
        return None
    sizes = [size for size in shape if isinstance(size, int) and size >= 0]
    if len(sizes) != len(shape) or len(sizes) > _MOST_DIMENSIONS:
        raise Damaged("its pickle holds an array of an impossible shape")
    if math.prod(sizes) * kind.itemsize != len(raw):
        raise Damaged(f"its pickle holds an array of {tuple(sizes)} with {len(raw)} bytes")
    flat = np.frombuffer(bytearray(raw), kind)
    native = flat.astype(kind.newbyteorder("="), copy=False)
    return native.reshape(sizes, order="F" if columns else "C")


def _scalar(dtype: object = None, data: object = b"", *_: object) -> object:
    """One number or string, as Python has it."""
    if not isinstance(dtype, DType) or dtype.found() is None:
        return Stub("numpy.scalar", (data,))
    made = _array(data, dtype, (1,), columns=False)
    return None if made is None else made[0].item()


def _from_buffer(data: object = b"", dtype: object = None, shape: object = (), order: object = "C") -> Array:
    array = Array()
    array.values = _array(data, dtype, shape, columns=order == "F")
    return array


def _new(*arguments: object) -> object:
    """``_reconstruct(class, shape, code)``, of any class: its values come later."""
    del arguments
    return Array()


def _view(values: object = (), *_: object) -> object:
    return values if isinstance(values, (list, tuple, Array)) else Array()


ARRAY_CALLS: Calls = {
    "numpy.dtype": DType,
    "numpy.ndarray": _view,
    **{f"{module}._reconstruct": _new for module in _MODULES},
    **{f"{module}.scalar": _scalar for module in _MODULES},
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.numeric._frombuffer": _from_buffer,
}
"""What pickles of arrays call, done here."""
