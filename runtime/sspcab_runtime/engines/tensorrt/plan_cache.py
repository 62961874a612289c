"""Plans on disk, each with what it was built from and for; what does not match exactly is not touched.

A plan is a program: a file that is damaged, foreign or of another machine never reaches TensorRT. A file is
named after the graph and the options, so that an upgrade replaces a plan and no old ones pile up.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from sspcab_runtime.cache import cache_folder, write_atomically
from sspcab_runtime.engines.tensorrt.cuda import Gpu
from sspcab_runtime.engines.tensorrt.options import PlanOptions

__all__ = ["PlanCache", "PlanKey"]

_LOG = logging.getLogger(__name__)
_MAGIC = b"SSPCAB-EDGE PLAN 1\n"
_MAX_HEADER = 64 * 1024
_NAME_DIGITS = 24


class PlanKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a plan holds for, and for nothing else. ``onnx`` is the SHA-256 of the graph's file."""

    kind: Literal["plan", "timings"] = "plan"
    onnx: str
    tensorrt: str
    runtime: str
    driver: str
    capability: str
    gpu: str
    options: dict[str, int]

    @classmethod
    def of(cls, onnx: bytes, version: str, gpu: Gpu, options: PlanOptions) -> PlanKey:
        """The key of a graph, given its bytes."""
        return cls(
            onnx=hashlib.sha256(onnx).hexdigest(),
            tensorrt=version,
            runtime=gpu.runtime,
            driver=gpu.driver,
            capability=gpu.capability,
            gpu=gpu.name,
            options={name: getattr(options, name) for name in options.__dataclass_fields__},
        )

    def timings(self) -> PlanKey:
        """The key of the timing cache that serves this plan, and all others of this GPU and version."""
        return msgspec.structs.replace(self, kind="timings", onnx="", options={})

    def difference(self, other: PlanKey) -> str:
        """What differs between two keys, in words."""
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in self.__struct_fields__)
        return ", ".join(
            f"{name} {theirs}, expected {mine}" for name, mine, theirs in pairs if mine != theirs
        )


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: PlanKey
    size: int
    sha256: str


class PlanCache:
    """Plans and timing caches in one folder; nothing here raises, a cache that fails is a warning.

    Args:
        folder: None is ``tensorrt`` in the user's cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def path(self, key: PlanKey) -> Path | None:
        """Where the plan of a key lies or would lie; None where the user has no cache folder."""
        named_by = {"onnx": key.onnx, "options": key.options}
        digest = hashlib.sha256(msgspec.json.encode(named_by, order="sorted")).hexdigest()
        name = "timings" if key.kind == "timings" else digest[:_NAME_DIGITS]
        try:
            folder = cache_folder() / "tensorrt" if self._folder is None else self._folder
        except OSError:
            return None
        return folder / f"{name}.plan"

    def read(self, key: PlanKey, *, warn: bool = True) -> bytes | None:
        """The plan of exactly this key, or None; ``warn`` says why a file that is there is ignored."""
        path = self.path(key)
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                owner = os.fstat(file.fileno())
                data = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            _LOG.warning("the cached plan %s is ignored: %s", path, error.strerror)
            return None
        found = _unpack(data, key, owner)
        if isinstance(found, str):
            if warn:
                _LOG.warning("the cached plan %s is ignored: %s", path, found)
            return None
        return found

    def write(self, key: PlanKey, plan: bytes) -> Path | None:
        """Keep a plan; where, or None where it cannot be kept."""
        path = self.path(key)
        header = _Header(key=key, size=len(plan), sha256=hashlib.sha256(plan).hexdigest())
        encoded = msgspec.json.encode(header, order="sorted")
        try:
            if path is None:
                raise FileNotFoundError("no home folder for a cache: set XDG_CACHE_HOME")
            write_atomically(path, _MAGIC + encoded + b"\n" + plan)
        except OSError as error:
            _LOG.warning(
                "the plan cannot be kept and is built again at the next start: %s", error.strerror or error
            )
            return None
        return path

    def drop(self, key: PlanKey) -> None:
        """Delete the plan of a key, if there is one."""
        path = self.path(key)
        try:
            if path is not None:
                path.unlink(missing_ok=True)
        except OSError as error:
            _LOG.warning("the cached plan %s cannot be deleted: %s", path, error.strerror)

    @contextmanager
    def building(self, key: PlanKey) -> Iterator[None]:
        """Hold this while building: a second process waits, and then finds the plan of the first."""
        path = self.path(key)
        try:
            if path is None:
                raise FileNotFoundError
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path.parent / ".building", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield  # a cache that cannot be written is told by write()
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _unpack(data: bytes, key: PlanKey, owner: os.stat_result) -> bytes | str:
    """The plan in a file's bytes, or why it is not the one of ``key``."""
    if owner.st_uid not in (0, os.geteuid()) or owner.st_mode & stat.S_IWOTH:
        return "another user can write it"
    if not data.startswith(_MAGIC):
        return "it is no plan of ours"
    end = data.find(b"\n", len(_MAGIC), len(_MAGIC) + _MAX_HEADER)
    try:
        header = msgspec.json.decode(data[len(_MAGIC) : max(end, 0)], type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "its header is damaged"
    if header.key != key:
        return f"it is for {key.difference(header.key)}"
    plan = data[end + 1 :]
    if len(plan) != header.size:
        return f"it is truncated: {len(plan)} bytes, expected {header.size}"
    if hashlib.sha256(plan).hexdigest() != header.sha256:
        return "it was changed: its SHA-256 is not the one it was written with"
    return plan
