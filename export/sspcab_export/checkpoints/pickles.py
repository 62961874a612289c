"""Pickles as data: an interpreter of their operations that calls nothing but what :mod:`rebuild` lists.

Operations come from the standard library's own disassembler, of every protocol; they are counted, and nothing
recurses, so that time and memory stay in proportion to the file.
"""

from __future__ import annotations

import io
import pickletools
import warnings
from collections.abc import Callable, Mapping
from typing import IO, cast

from sspcab_export.checkpoints.inert import Name, Stub, check_call, name_of

__all__ = ["MAX_OPERATIONS", "Calls", "Damaged", "Rebuilding", "read_pickle"]

MAX_OPERATIONS = 10_000_000
"""Most operations of one pickle; a network of a thousand weights takes thirty thousand."""

_LARGE = 1 << 16

Calls = Mapping[str, Callable[..., object]]


class Damaged(Exception):
    """The bytes are no pickle that anything here could have written."""


class Rebuilding:
    """A value that is made in two steps: named first, filled by ``build``."""

    def build(self, state: object) -> None:
        """Take what the pickle sets on it.

        Raises:
            Damaged: It is not what such a value takes.
        """
        raise NotImplementedError


_PUSHED = frozenset(
    {"BININT", "BININT1", "BININT2", "BINBYTES", "BINBYTES8", "BINFLOAT", "BINSTRING", "BINUNICODE"}
    | {"BINUNICODE8", "BYTEARRAY8", "FLOAT", "INT", "LONG", "LONG1", "LONG4", "SHORT_BINBYTES"}
    | {"SHORT_BINSTRING", "SHORT_BINUNICODE", "STRING", "UNICODE"}
)
_CONSTANTS: Mapping[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_SKIPPED = frozenset({"FRAME", "PROTO", "READONLY_BUFFER"})
_PLAIN_KEYS = (str, bytes, int, float, complex, bool, type(None), Name, Stub)


def read_pickle(
    stream: IO[bytes], calls: Calls, persistent: Callable[[object], object] | None = None
) -> object:
    """The value of the pickle that begins where the stream stands; the stream then stands behind it.

    Args:
        stream: Seekable bytes.
        calls: What may be called, by dotted name; every other name gives a stub.
        persistent: What gives the values that the pickle keeps outside of itself.

    Raises:
        AsksToRun: The pickle names a function that does things.
        Damaged: It is cut off, no pickle, or larger than any checkpoint.
    """
    machine, bounded = _Machine(calls, persistent), cast(IO[bytes], _Bounded(stream))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of escapes in strings of random bytes
            for count, (operation, argument, _) in enumerate(pickletools.genops(bounded)):
                if count > MAX_OPERATIONS:
                    raise Damaged(f"it holds more than {MAX_OPERATIONS} values and operations")
                machine.step(operation.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, EOFError, SyntaxError) as error:
        raise Damaged("its pickle is cut off or damaged") from error
    if not machine.stack:
        raise Damaged("its pickle holds nothing")
    return machine.stack[-1]


class _Bounded:
    """A stream that is asked for no more bytes than it has: a length in a damaged file may be any number."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.readline, self.tell = stream.readline, stream.tell
        here = stream.tell()
        self._size = stream.seek(0, io.SEEK_END)
        stream.seek(here)

    def read(self, size: int) -> bytes:
        """As the stream does.

        Raises:
            EOFError: It has fewer bytes.
        """
        if size > _LARGE and size > self._size - self._stream.tell():
            raise EOFError
        return self._stream.read(size)


class _Machine:
    """Stack, marks and memo of one pickle."""

    def __init__(self, calls: Calls, persistent: Callable[[object], object] | None) -> None:
        self.stack: list[object] = []
        self._calls, self._persistent = calls, persistent
        self._below: list[list[object]] = []
        self._memo: dict[int, object] = {}
        self._steps: dict[str, Callable[[object], None]] = {
            "ADDITEMS": lambda _: self._extend(self._marked()),
            "APPEND": lambda _: self._extend([self.stack.pop()]),
            "APPENDS": lambda _: self._extend(self._marked()),
            "BINPERSID": lambda _: self._keep(self.stack.pop()),
            "BUILD": lambda _: self._build(),
            "DICT": lambda _: self._push(_dict_of(self._marked())),
            "DUP": lambda _: self._push(self.stack[-1]),
            "EMPTY_DICT": lambda _: self._push({}),
            "EMPTY_LIST": lambda _: self._push([]),
            "EMPTY_SET": lambda _: self._push(set()),
            "FROZENSET": lambda _: self._push(frozenset(map(_key, self._marked()))),
            "GLOBAL": self._name,
            "INST": self._instance,
            "LIST": lambda _: self._push(self._marked()),
            "MARK": lambda _: self._mark(),
            "MEMOIZE": lambda _: self._memo.__setitem__(len(self._memo), self.stack[-1]),
            "NEWOBJ": lambda _: self._call(),
            "NEWOBJ_EX": lambda _: self._call(named=True),
            "OBJ": lambda _: self._object(),
            "PERSID": self._keep,
            "POP": lambda _: self._pop(),
            "POP_MARK": lambda _: self._forget(),
            "REDUCE": lambda _: self._call(),
            "SETITEM": lambda _: self._set([self.stack.pop(-2), self.stack.pop()]),
            "SETITEMS": lambda _: self._set(self._marked()),
            "STACK_GLOBAL": lambda _: self._stacked_name(),
            "STOP": lambda _: None,
            "TUPLE": lambda _: self._push(tuple(self._marked())),
            "TUPLE1": lambda _: self._tuple(1),
            "TUPLE2": lambda _: self._tuple(2),
            "TUPLE3": lambda _: self._tuple(3),
        }

    def step(self, operation: str, argument: object) -> None:
        """Do one operation."""
        if operation in _PUSHED:
            self.stack.append(argument)
        elif operation in ("BINPUT", "LONG_BINPUT", "PUT") and isinstance(argument, int):
            self._memo[argument] = self.stack[-1]
        elif operation in ("BINGET", "LONG_BINGET", "GET") and isinstance(argument, int):
            self.stack.append(self._memo[argument])
        elif operation in _CONSTANTS:
            self.stack.append(_CONSTANTS[operation])
        elif operation in self._steps:
            self._steps[operation](argument)
        elif operation not in _SKIPPED:
            raise Damaged(f"its pickle has the operation {operation}, which no checkpoint needs")

    def _push(self, value: object) -> None:
        self.stack.append(value)

    def _pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._marked()

    def _mark(self) -> None:
        self._below.append(self.stack)
        self.stack = []

    def _marked(self) -> list[object]:
        values, self.stack = self.stack, self._below.pop()
        return values

    def _forget(self) -> None:
        self._marked()

    def _tuple(self, size: int) -> None:
        if len(self.stack) < size:
            raise Damaged("its pickle takes more values than it has")
        self.stack[-size:] = [tuple(self.stack[-size:])]

    def _name(self, argument: object) -> None:
        module, _, leaf = str(argument).partition(" ")
        self.stack.append(name_of(module, leaf))

    def _stacked_name(self) -> None:
        leaf, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(leaf, str) and isinstance(module, str)):
            raise Damaged("its pickle names no class")
        self.stack.append(name_of(module, leaf))

    def _keep(self, key: object) -> None:
        if self._persistent is None:
            raise Damaged("its pickle refers to values outside of it")
        self.stack.append(self._persistent(key))

    def _call(self, *, named: bool = False) -> None:
        if named:
            self.stack.pop()
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(arguments, tuple):
            raise Damaged("its pickle calls something without arguments")
        self.stack.append(self._called(called, arguments))

    def _object(self) -> None:
        called, *arguments = self._marked()
        self.stack.append(self._called(called, tuple(arguments)))

    def _instance(self, argument: object) -> None:
        arguments = tuple(self._marked())
        self._name(argument)
        self.stack.append(self._called(self.stack.pop(), arguments))

    def _called(self, called: object, arguments: tuple[object, ...]) -> object:
        if not isinstance(called, Name):
            raise Damaged("its pickle calls what is no class and no function")
        known = self._calls.get(called.full)
        if known is not None:
            return known(*arguments)
        check_call(called)
        return Stub(called.full, arguments)

    def _build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Stub):
            target.state = state
        elif isinstance(target, Rebuilding):
            target.build(state)
        elif not isinstance(target, (dict, list)):  # attributes of an ordered dict hold no weights
            raise Damaged(f"its pickle sets attributes of a {type(target).__name__}")

    def _extend(self, values: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif isinstance(target, set):
            target.update(map(_key, values))
        elif isinstance(target, Stub):
            target.elements.extend(values)
        else:
            raise Damaged(f"its pickle adds to a {type(target).__name__}")

    def _set(self, values: list[object]) -> None:
        target = self.stack[-1]
        entries = target.entries if isinstance(target, Stub) else target
        if not isinstance(entries, dict):
            raise Damaged(f"its pickle sets entries of a {type(target).__name__}")
        entries.update(_dict_of(values))


def _dict_of(values: list[object]) -> dict[object, object]:
    return dict(zip(map(_key, values[::2]), values[1::2], strict=True))


def _key(value: object) -> object:
    """A value that can be hashed without recursing."""
    if isinstance(value, _PLAIN_KEYS):
        return value
    if isinstance(value, tuple) and all(isinstance(part, _PLAIN_KEYS) for part in value):
        return value
    if isinstance(value, (tuple, frozenset)):
        return Stub(type(value).__name__, (value,))
    raise Damaged(f"its pickle has a {type(value).__name__} as a key")
