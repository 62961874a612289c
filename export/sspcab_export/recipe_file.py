"""Recipes: an export's options in a TOML file, by the names that they have on the command line.

A recipe is data that may come from somewhere else. Its paths are relative to its folder and may not leave it;
a bundle's are relative to the folder that the bundle lies in, and may lead below the working directory or to
a checkpoint whose digest the recipe holds. What a user has to agree to each time (``--trust``, ``--force``)
is not taken from a file. Imports without torch and onnx.
"""

from __future__ import annotations

import difflib
import importlib
import json
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sspcab_edge.bundle import file_entry, is_bundle
from sspcab_edge.errors import MissingPackageError, OptionError
from sspcab_edge.local_path import local_path
from sspcab_edge.manifest import FileEntry
from sspcab_export.command_options import take
from sspcab_export.front_end_options import FrontEndOptions
from sspcab_export.host_options import HostOptions
from sspcab_export.needs import MissingOptions, Need
from sspcab_export.option_field import Option, options_of
from sspcab_export.options import ExportOptions

__all__ = ["RECIPE_NAME", "Recipe", "read_recipe", "recipe_text"]

RECIPE_NAME = "recipe.toml"
"""The recipe in a bundle."""

_CHECKPOINT, _DIGESTS = "checkpoint", "checkpoint-sha256"
_CONSENT = ("trust", "force")
_MOST_BYTES = 2**20
_KINDS = (ExportOptions, HostOptions, FrontEndOptions)
_OPTIONS = {one.name: one for kind in _KINDS for one in options_of(kind)}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a recipe says.

    Attributes:
        path: Its file.
        checkpoint: The files to export; empty where it names none.
        values: By the fields of the dataclasses of options, read as the command line reads them.
        lines: Line of each, from 1.
        notes: What should be said of it.
    """

    path: Path
    checkpoint: tuple[Path, ...]
    values: Mapping[str, Any]
    lines: Mapping[str, int]
    notes: tuple[str, ...]

    def options(self) -> ExportOptions:
        """As :func:`sspcab_export.pipeline.export_with` takes them.

        Raises:
            OptionError: They contradict each other.
        """
        values = {one.field: self.values.get(one.field) for one in _OPTIONS.values()}
        nested = {"host": take(HostOptions, values), "front_end": take(FrontEndOptions, values)}
        return take(ExportOptions, values, nested)


def read_recipe(path: str | Path, told: Collection[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: Its file.
        told: Fields that were told otherwise, and ``checkpoint`` where files were named: what the recipe says
            of these is not used, so that its paths need not lie where a recipe may lead.

    Raises:
        OptionError: It cannot be read, is no TOML, or holds an unknown key or a value of another kind; file,
            line and key are named.
        MissingOptions: It leads out of its folder: such paths have to be told.
    """
    path = Path(path)
    text, table = _load(path)
    reader = _Reader(path, text)
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name in (_CHECKPOINT, _DIGESTS):
            continue
        one = _OPTIONS.get(name)
        if name in _CONSENT:
            raise reader.error(name, f"is agreed to on the command line, with --{name}, and not in a file")
        if one is None:
            near = difflib.get_close_matches(name, [*_OPTIONS, _CHECKPOINT], 1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise reader.error(name, f"there is no such option{hint}")
        if one.field not in told:
            values[one.field] = reader.value(one, value)
    checkpoint = () if _CHECKPOINT in told else reader.checkpoint(table)
    if reader.outside:
        line, key = min((reader.line(key), key) for key in reader.outside)
        raise MissingOptions(
            f"{path}:{line}: {key}: a recipe may not lead out of {reader.roots[0]}",
            [need for needs in reader.outside.values() for need in needs],
        )
    lines = {one.field: reader.line(name) for name, one in _OPTIONS.items() if name in table}
    return Recipe(path, checkpoint, values, lines, tuple(reader.notes))


def _load(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ModuleNotFoundError as error:
        raise MissingPackageError("tomli", "export", "--recipe") from error
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise OptionError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > _MOST_BYTES:
        raise OptionError(f"{path} is larger than {_MOST_BYTES} bytes: it is no recipe")
    try:
        text = data.decode("utf-8")
        return text, toml.loads(text)
    except UnicodeDecodeError as error:
        raise OptionError(f"{path}: byte {error.start} is not UTF-8") from error
    except RecursionError as error:
        raise OptionError(f"{path}: values are nested too deeply") from error
    except toml.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else str(path)
        raise OptionError(f"{where}: {str(error).split(' (at')[0]}") from error


class _Reader:
    """Values of one recipe, with its place for messages and for what is relative to it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        folder = path.absolute().parent
        self.of_bundle = is_bundle(folder)
        self.roots = (folder.parent, Path.cwd()) if self.of_bundle else (folder,)
        self.outside: dict[str, list[Need]] = {}
        self.notes: list[str] = []

    def line(self, name: str) -> int:
        from sspcab_runtime.daemon.config_lines import find_line

        return find_line(self.text, [name])

    def error(self, name: str, what: str) -> OptionError:
        return OptionError(f"{self.path}:{self.line(name)}: {name}: {what}")

    def value(self, one: Option, value: Any) -> Any:
        """A value as the command line would have read it."""
        if one.is_flag:
            if not isinstance(value, bool):
                raise self.error(one.name, f"{value!r}, expected true or false")
            return value
        if one.multiple:
            if not isinstance(value, list):
                raise self.error(one.name, f"{value!r}, expected an array, as in [...]")
            return tuple(self._one(one, each) for each in value)
        return self._one(one, value)

    def _one(self, one: Option, value: Any) -> Any:
        number = isinstance(one.kind, (click.types.IntParamType, click.types.FloatParamType))
        whole = isinstance(one.kind, click.types.IntParamType)
        fits = isinstance(value, (int if whole else (int, float)) if number else str)
        if not fits or isinstance(value, bool):
            kind = ("a whole number" if whole else "a number") if number else "a text in quotes"
            raise self.error(one.name, f"{value!r}, expected {kind}")
        if one.is_path:
            return self.inside(one.name, one.flag, value)
        try:
            return one.kind.convert(value, None, None)
        except click.BadParameter as error:
            raise self.error(one.name, error.message) from error

    def inside(self, name: str, flag: str, value: str, digest: str | None = None) -> Path:
        """A path, from here where that is shorter; noted where it leads to where a recipe may not."""
        if "\0" in value or not value:
            raise self.error(name, f"{value!r} is no path")
        named = local_path(value)
        found = self.roots[0] / named
        real = found.resolve()
        roots = [root.resolve() for root in self.roots]
        below = not named.is_absolute() and any(real.is_relative_to(root) for root in roots)
        known = self.of_bundle and digest is not None and real.is_file() and _digest(real) == digest
        if not (below or known):
            need = Need(flag, os.path.relpath(found), f"if {name} {value} is what you mean")
            self.outside.setdefault(name, []).append(need)
        return Path(os.path.relpath(found))

    def checkpoint(self, table: Mapping[str, Any]) -> tuple[Path, ...]:
        """The files to export, compared with the digests that the recipe holds."""
        names, digests = table.get(_CHECKPOINT, []), table.get(_DIGESTS, [])
        names = [names] if isinstance(names, str) else names
        for key, texts in ((_CHECKPOINT, names), (_DIGESTS, digests)):
            if not (isinstance(texts, list) and all(isinstance(text, str) for text in texts)):
                raise self.error(key, f"{texts!r}, expected texts in quotes, as in ['model.pt']")
        if digests and len(digests) != len(names):
            raise self.error(_DIGESTS, f"{len(digests)} digests for {len(names)} files")
        files = []
        for name, digest in zip(names, digests or [None] * len(names), strict=True):
            path = self.inside(_CHECKPOINT, "", name, digest)
            files.append(path)
            if digest is not None and path.is_file() and _digest(path) != digest:
                self.notes.append(f"{path} is another file than the one in {self.path}: its SHA-256 differs")
        return tuple(files)


def _digest(path: Path) -> str:
    return file_entry(path, path.name).sha256


def recipe_text(
    files: Sequence[Path], source: Sequence[FileEntry], options: ExportOptions, folder: Path
) -> str:
    """The recipe of a bundle in the making: what was told, and from which files.

    Args:
        files: Of the checkpoint.
        source: Their digests, as the manifest has them.
        options: What was told.
        folder: The one that the bundle will lie in: paths are relative to it.
    """
    digests = {entry.path: entry.sha256 for entry in source}
    lines = [
        "# What this bundle was made with; to make it again:  sspcab-export --recipe recipe.toml",
        f"{_CHECKPOINT} = {_array(_relative(path, folder) for path in files)}",
        f"{_DIGESTS} = {_array(digests[path.name] for path in files)}",
    ]
    if options.host.trust is not None:
        lines.append("# a program: vouch for it again with --trust sha256:DIGEST")
    for told in (options, options.host, options.front_end):
        for one in options_of(type(told)):
            if one.given(told) and one.name not in (*_CONSENT, "output"):
                lines.append(f"{one.name} = {_spelled(one, getattr(told, one.field), folder)}")
    return "\n".join(lines) + "\n"


def _relative(path: str | Path, folder: Path) -> str:
    return Path(os.path.relpath(local_path(path), folder)).as_posix()


def _spelled(one: Option, value: Any, folder: Path) -> str:
    if one.is_flag:
        return "true"
    if one.multiple:
        return f"[{', '.join(_single(one, each, folder) for each in value)}]"
    return _single(one, value, folder)


def _single(one: Option, value: Any, folder: Path) -> str:
    if one.is_path:
        return _quoted(_relative(value, folder))
    spell = getattr(one.kind, "spell", None)
    if spell is not None:
        return _quoted(spell(value))
    return _quoted(value) if isinstance(value, str) else repr(value)


def _array(texts: Any) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"


def _quoted(text: str) -> str:
    """A basic string of TOML, whose escapes JSON's are, but for one."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
