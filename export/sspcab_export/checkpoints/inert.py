"""What the names in a pickle become here: data without behaviour, or a refusal. Nothing is ever imported.

Checkpoints name classes that are absent (transforms, metrics, enums) and classes of Python's own library
that only hold data (``argparse.Namespace``): both become stubs, which keep arguments and state and do
nothing. All other names of Python's library do things (``posix.system``, ``builtins.eval``): a file that has
one is refused and said to ask for it, and so is one that calls a function of torch or NumPy that rebuilds no
data.
"""

from __future__ import annotations

import builtins
import sys
from _compat_pickle import IMPORT_MAPPING as _IMPORT_MAPPING  # pickle protocol 2 has Python 2's names
from _compat_pickle import NAME_MAPPING as _NAME_MAPPING
from dataclasses import dataclass, field

__all__ = ["AsksToRun", "Name", "Stub", "check_call", "name_of"]

_DATA_MODULES = frozenset(
    {"collections", "configparser", "datetime", "decimal", "enum", "fractions", "ipaddress", "numbers"}
    | {"pathlib", "typing", "uuid", "zoneinfo"}
)
"""Modules of Python's library that hold data and nothing else."""

_DATA_NAMES = frozenset(
    {"_codecs.encode", "_io.BytesIO", "_io.StringIO", "_random.Random", "abc.ABCMeta", "argparse.Namespace"}
    | {"array.array", "array._array_reconstructor", "contextlib.nullcontext"}
    | {"copyreg.__newobj__", "copyreg.__newobj_ex__", "copyreg._reconstructor"}
    | {f"dataclasses.{name}" for name in ("Field", "InitVar", "KW_ONLY", "_MISSING_TYPE", "_FIELD_BASE")}
    | {"functools.partial", "inspect.Parameter", "inspect.Signature", "inspect._ParameterKind"}
    | {"inspect._empty", "io.BytesIO", "io.StringIO", "logging.Logger", "logging.RootLogger"}
    | {"logging.getLogger", "optparse.Values", "platform.uname_result", "random.Random", "re._compile"}
    | {"statistics.NormalDist", "string.Template", "time.struct_time", "types.GenericAlias"}
    | {
        "types.MappingProxyType",
        "types.NoneType",
        "types.SimpleNamespace",
        "types.UnionType",
        "zoneinfo.ZoneInfo._unpickle",
    }
)
"""Names of other modules of it that only hold data, or rebuild some."""

_DATA_BUILTINS = frozenset(
    {"Ellipsis", "NoneType", "NotImplemented", "bool", "bytearray", "bytes", "complex", "dict", "ellipsis"}
    | {"float", "frozenset", "getattr", "int", "list", "object", "range", "set", "slice", "str", "tuple"}
    | {"type"}
)
"""Builtins that are data, or are looked at when they are called: see :mod:`checkpoints.rebuild`."""

_LIBRARIES = frozenset({"numpy", "torch"})
_REBUILDING = ("_", "reduce_", "rebuild_")
"""How functions of torch and NumPy are named that rebuild data; all of them are stubs here."""


class AsksToRun(Exception):
    """A pickle names a function that does things."""


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a pickle names, as a value: nothing stands behind it.

    Attributes:
        module: Dotted.
        leaf: Its name there.
    """

    module: str
    leaf: str

    @property
    def full(self) -> str:
        """Dotted name."""
        return f"{self.module}.{self.leaf}"


@dataclass(slots=True, eq=False)
class Stub:
    """Stands for an object whose class is not looked for: it remembers what it was made of, and does nothing.

    Attributes:
        of: Dotted name of its class, or of the function that gives it.
        arguments: What that was called with.
        state: What unpickling would have set on it.
        entries: What it would have held as a mapping.
        elements: What it would have held as a sequence or set.
    """

    of: str
    arguments: tuple[object, ...] = ()
    state: object = None
    entries: dict[object, object] = field(default_factory=dict)
    elements: list[object] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of its class alone."""
        return self.of.rpartition(".")[2]


def name_of(module: str, leaf: str) -> Name:
    """The name that a pickle gives, Python 2's brought to Python 3's.

    Raises:
        AsksToRun: It belongs to Python's own library and does things.
    """
    module, leaf = _NAME_MAPPING.get((module, leaf), (_IMPORT_MAPPING.get(module, module), leaf))
    root = module.split(".")[0]
    if not root or (root in sys.stdlib_module_names and not _is_data(module, root, leaf)):
        raise AsksToRun(f"{module}.{leaf}")
    return Name(module, leaf)


def _is_data(module: str, root: str, leaf: str) -> bool:
    if root == "builtins":
        made = getattr(builtins, leaf, None) if leaf.isidentifier() else None
        return leaf in _DATA_BUILTINS or (isinstance(made, type) and issubclass(made, BaseException))
    if f"{module}.{leaf}" in _DATA_NAMES:
        return True
    return root in _DATA_MODULES and "." not in leaf


def check_call(name: Name) -> None:
    """Refuse a call of a function of torch or NumPy that is none of those that rebuild data.

    Raises:
        AsksToRun: It is one.
    """
    leaf = name.leaf.rpartition(".")[2]
    if name.module.split(".")[0] not in _LIBRARIES or not leaf[:1].islower() or leaf.startswith(_REBUILDING):
        return
    loaded = sys.modules.get(name.module)
    if loaded is None or not isinstance(vars(loaded).get(name.leaf), type):
        raise AsksToRun(name.full)
