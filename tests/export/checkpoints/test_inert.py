"""Inert data is not hostile, and what is hostile is refused before anything of it runs: in every format."""

from __future__ import annotations

import argparse
import array
import builtins
import collections
import configparser
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import importlib
import io
import ipaddress
import logging
import operator
import optparse
import os
import pathlib
import pickle
import random
import re
import runpy
import subprocess
import sys
import types
import uuid
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sspcab_edge.errors import CheckpointError, EdgeError
from sspcab_export.checkpoints import read_checkpoint
from sspcab_export.checkpoints.inert import Name, Stub

Save = Callable[[Any, Path], None]


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Settings:
    rate: float = 0.1
    when: datetime.date = datetime.date(2024, 1, 2)


class Registry(dict[str, Any]):
    """A dict of a class of its own, as configurations are."""


FORMATS: dict[str, Save] = {
    "zip": lambda value, path: torch.save(value, path),
    "zip, protocol 4": lambda value, path: torch.save(value, path, pickle_protocol=4),
    "legacy": lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False),
    **{
        f"pickle, protocol {n}": functools.partial(
            lambda value, path, protocol: path.write_bytes(pickle.dumps(value, protocol)), protocol=n
        )
        for n in (0, 2, 5)
    },
}
in_every_format = pytest.mark.parametrize("save", FORMATS.values(), ids=FORMATS)


def parser() -> configparser.ConfigParser:
    made = configparser.ConfigParser()
    made.read_string("[train]\nlr = 0.1\n")
    return made


INERT: dict[str, Callable[[], Any]] = {
    "argparse": lambda: argparse.Namespace(lr=0.1, nested=argparse.Namespace(a=1)),
    "types": lambda: types.SimpleNamespace(widths=[1, 2]),
    "optparse": lambda: optparse.Values({"lr": 0.1}),
    "configparser": parser,
    "paths": lambda: [pathlib.PurePosixPath("/data"), Path("here"), pathlib.PureWindowsPath("C:/")],
    "collections": lambda: [collections.deque([1]), collections.Counter("aab"), collections.ChainMap({1: 2})],
    "default dict": lambda: collections.defaultdict(list, {"a": [1]}),
    "named tuple": lambda: time_tuple(),
    "dates": lambda: [datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC), datetime.timedelta(1)],
    "numbers": lambda: [decimal.Decimal("1.5"), fractions.Fraction(1, 3), 2 + 1j, 2**80],
    "enumeration": lambda: Colour.RED,
    "data class": Settings,
    "dict of its own class": lambda: Registry(a=1),
    "partial": lambda: functools.partial(torch.nn.functional.relu, inplace=True),
    "identity": lambda: [uuid.UUID(int=3), ipaddress.ip_address("10.0.0.1")],
    "zone": lambda: zoneinfo.ZoneInfo("UTC"),
    "random state": lambda: [random.Random(3), random.getstate(), np.random.get_state()],
    "generators of NumPy": lambda: [np.random.default_rng(3), np.random.RandomState(3)],
    "numbers of NumPy": lambda: [np.float64(2.5), np.int32(3), np.bool_(True), np.str_("a")],
    "arrays of NumPy": lambda: [np.ones((2, 3)), np.array(["a", None], dtype=object), np.datetime64("2024")],
    "classes of NumPy without capitals": lambda: [np.poly1d([1, 2]), np.ones(2).view(np.recarray)],
    "expression": lambda: re.compile("a+", re.IGNORECASE),
    "logger": lambda: logging.getLogger("train"),
    "array": lambda: array.array("d", [1.0]),
    "bytes": lambda: [b"a", bytearray(b"b"), frozenset({1}), slice(1, 2), range(3)],
    "types as values": lambda: [int, dict, type(None), torch.nn.ReLU, torch.float16, torch.device("cuda:0")],
    "errors": lambda: ValueError("a"),
    "sizes": lambda: [torch.Size([1, 2]), torch.strided, torch.Generator],
}


def time_tuple() -> Any:
    import time

    return time.gmtime(0)


@in_every_format
@pytest.mark.parametrize("kind", INERT)
def test_inert_data_beside_the_weights_is_no_reason_to_refuse(tmp_path: Path, kind: str, save: Save) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    try:
        save({"state_dict": {"w": weight}, "beside": INERT[kind]()}, tmp_path / "w.pt")
    except TypeError as error:  # nobody can have such a file
        pytest.skip(str(error))
    checkpoint = read_checkpoint([tmp_path / "w.pt"])
    assert torch.equal(checkpoint.tensors["w"], weight)


def test_stubs_keep_what_objects_hold(tmp_path: Path) -> None:
    torch.save(
        {"w": torch.ones(1), "args": argparse.Namespace(lr=0.1), "more": Registry(a=1)}, tmp_path / "w.pt"
    )
    facts = read_checkpoint([tmp_path / "w.pt"]).facts
    stub = facts["args"]
    assert isinstance(stub, Stub)
    assert (stub.of, stub.state) == ("argparse.Namespace", {"lr": 0.1})
    assert facts["more.a"] == 1


class Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


class Named:
    """Pickles as the name of something."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> str:
        return self.name


HOSTILE: dict[str, Callable[[Path], Any]] = {
    "system": lambda canary: Call(os.system, f"touch {canary}"),
    "popen": lambda canary: Call(subprocess.Popen, ["touch", str(canary)]),
    "run": lambda canary: Call(subprocess.getoutput, f"touch {canary}"),
    "eval": lambda canary: Call(eval, f"open({str(canary)!r}, 'w')"),
    "exec": lambda canary: Call(exec, f"open({str(canary)!r}, 'w')"),
    "compile": lambda canary: Call(compile, "1", str(canary), "eval"),
    "open": lambda canary: Call(open, str(canary), "w"),
    "import": lambda _: Call(__import__, "antigravity"),
    "importlib": lambda _: Call(importlib.import_module, "antigravity"),
    "getattr": lambda _: Call(getattr, dict, "mro"),
    "getattr of a dunder": lambda _: Call(getattr, Call(argparse.Namespace), "__class__"),
    "attrgetter": lambda _: Call(operator.attrgetter, "system"),
    "methodcaller": lambda _: Call(operator.methodcaller, "touch"),
    "map": lambda canary: Call(map, os.mkdir, [str(canary)]),
    "type": lambda _: Call(type, "A", (), {}),
    "pickle": lambda _: Call(pickle.loads, b"N."),
    "runpy": lambda canary: Call(runpy.run_path, str(canary)),
    "setattr": lambda _: Call(setattr, types.SimpleNamespace(), "a", 1),
    "write": lambda canary: Call(Path.write_text, canary, "x"),
    "modules": lambda _: Call(sys.exit, 3),
    "input": lambda _: Call(builtins.input),
    "torch.load": lambda canary: Call(torch.load, str(canary)),
    "torch.save": lambda canary: Call(torch.save, 3, str(canary)),
    "torch.hub": lambda _: Call(torch.hub.load, "a/b", "c"),
    "torch.jit": lambda canary: Call(torch.jit.load, str(canary)),
    "numpy.load": lambda canary: Call(np.load, str(canary)),
    "numpy.save": lambda canary: Call(np.save, str(canary), 3),
    "numpy.fromfile": lambda canary: Call(np.fromfile, str(canary)),
    "zlib": lambda _: Call(__import__("codecs").encode, "a", "zlib"),
}


@in_every_format
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_and_nothing_runs(tmp_path: Path, kind: str, save: Save) -> None:
    canary = tmp_path / "canary"
    save({"state_dict": {"w": torch.ones(2)}, "beside": HOSTILE[kind](canary)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"w\.pt (asks to run|cannot be read)") as caught:
        read_checkpoint([tmp_path / "w.pt"])
    assert "\n" not in str(caught.value)
    assert not canary.exists()
    assert "antigravity" not in sys.modules


def test_names_of_absent_modules_are_never_looked_up(tmp_path: Path) -> None:
    """Also one that Python would import a compiler for."""
    path = tmp_path / "w.pt"
    before = set(sys.modules)
    named = b"\x8c\x0anumpy.f2py\x8c\x06Absent\x93)R"
    path.write_bytes(b"\x80\x04}\x8c\x01a" + named + b"s.")
    with pytest.raises(CheckpointError, match="holds no weights"):
        read_checkpoint([path])
    assert not any(name.startswith("numpy.f2py") for name in set(sys.modules) - before)


@pytest.mark.parametrize(
    "name",
    [
        "pathlib os.system", "collections sys.exit", "typing os.system", " system", "types FunctionType",
        "types CodeType", "builtins eval", "zoneinfo ZoneInfo.no", "functools reduce",
    ],
)  # fmt: skip
def test_names_that_reach_through_a_module_are_refused(tmp_path: Path, name: str) -> None:
    module, leaf = name.split(" ")
    path = tmp_path / "w.pt"
    stream = io.BytesIO()
    for text in (module, leaf):
        stream.write(b"\x8c" + bytes([len(text)]) + text.encode())
    path.write_bytes(b"\x80\x04" + stream.getvalue() + b"\x93.")
    with pytest.raises(CheckpointError, match="asks to run"):
        read_checkpoint([path])


@pytest.mark.parametrize(
    "stream",
    [
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"a.",
        b"\x80\x04\x96" + (2**60).to_bytes(8, "little") + b"a.",
        b"\x80\x02r\xff\xff\xff\x7f.",
        b"\x80\x02]r\xff\xff\xff\x7f.",
        b"\x80\x02}" + b"\x85" * 200_000 + b"K\x01s.",
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x02" + b"]" + b"2a" * 50 + b".",
        b"\x80\x04\x82\x01.",
        b"\x80\x05\x97.",
        b".",
    ],
    ids=[
        "bytes", "bytearray", "memo of nothing", "memo far away", "deep key", "marks", "list in itself",
        "extension", "buffer", "nothing",
    ],
)  # fmt: skip
def test_streams_that_ask_for_memory_or_depth_are_one_line(tmp_path: Path, stream: bytes) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(stream)
    with pytest.raises(CheckpointError, match=r"w\.pt") as caught:
        read_checkpoint([path])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_dict_that_unfolds_without_end_is_one_line(tmp_path: Path) -> None:
    inner: dict[str, Any] = {"w": torch.ones(1)}
    for _ in range(30):
        inner = {"a": inner, "b": inner}
    torch.save(inner, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="more than"):
        read_checkpoint([tmp_path / "w.pt"])


def test_a_tensor_beyond_its_bytes_is_refused(tmp_path: Path) -> None:
    """Views that reach out of their storage, and one that repeats an element without end."""
    storage = torch.ones(6).untyped_storage()
    for size, stride, offset in (
        ((7,), (1,), 0),
        ((3, 3), (3, 1), 0),
        ((2,), (1,), 5),
        ((1 << 40,), (0,), 0),
    ):
        lies = torch.empty(0).set_(storage, 0, (6,), (1,))
        reduce: Any = lies.__reduce_ex__
        rebuild, arguments = reduce(2)
        changed = (arguments[0], offset, size, stride, *arguments[4:])
        torch.save({"w": Call(rebuild, *changed)}, tmp_path / "w.pt")
        with pytest.raises(CheckpointError, match="goes beyond its bytes"):
            read_checkpoint([tmp_path / "w.pt"])


def test_tensors_of_a_plain_pickle(tmp_path: Path) -> None:
    """``pickle.dump`` of a state dict: each storage is a file of torch's old form inside."""
    state = torch.nn.Conv2d(3, 4, 3).state_dict()
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(state))
    tensors = read_checkpoint([tmp_path / "w.pkl"]).tensors
    assert set(tensors) == set(state)
    assert all(torch.equal(tensors[key], state[key]) for key in state)


@pytest.mark.parametrize("save", list(FORMATS.values())[:3], ids=list(FORMATS)[:3])
def test_views_of_one_storage_stay_what_they_are(tmp_path: Path, save: Save) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    content = {
        "a": base[1:, ::2],
        "b": base.T,
        "c": base[0, 0],
        "d": base[:0],
        "e": base.half(),
        "f": base > 3,
    }
    save(content, tmp_path / "w.pt")
    tensors = read_checkpoint([tmp_path / "w.pt"]).tensors
    assert all(torch.equal(tensors[key], content[key]) for key in content)


def test_a_name_alone_is_a_value(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1), "activation": torch.nn.ReLU}, tmp_path / "w.pt")
    fact = read_checkpoint([tmp_path / "w.pt"]).facts["activation"]
    assert fact == Name("torch.nn.modules.activation", "ReLU")


def seeds() -> list[bytes]:
    content = {"sd": {"w": torch.ones(2, 3)}, "args": argparse.Namespace(a=np.float64(1)), "n": np.ones(3)}
    made = []
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        made.append(buffer.getvalue())
    return [*made, *(pickle.dumps({"w": np.ones((3, 4), np.float32)}, protocol) for protocol in (0, 2, 4))]


SEEDS = seeds()


@given(
    which=st.integers(0, len(SEEDS) - 1),
    changes=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damage_anywhere_is_one_line_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, which: int, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(SEEDS[which])
    for place, value in changes:
        data[place % len(data)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    path.write_bytes(data)
    try:
        read_checkpoint([path])
    except EdgeError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert len(str(error)) < 500  # noqa: PT017
