"""An option is one field of a dataclass: its type, its default, and beside them help and place in ``--help``.

The command line, the arguments of :func:`sspcab_export.export` and a recipe are made from these fields, so
that a name, a default, a choice or a help text stands in one place. To add an option, add a field.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click

from sspcab_edge.command import PATH
from sspcab_export.option_types import OneOf

__all__ = ["GROUPS", "Group", "Option", "option", "options_of"]

Group = Literal[
    "Common",
    "Checkpoint",
    "Any network",
    "Images and threshold",
    "Precision and gate",
    "Frames",
    "Videos",
    "CutPaste",
    "HF2-VAD",
    "Output",
]
GROUPS: tuple[Group, ...] = get_args(Group)
"""In the order in which ``--help`` shows them."""

_PLAIN: dict[Any, click.ParamType[Any]] = {int: click.INT, float: click.FLOAT, str: click.STRING}

_METAVARS = {"integer": "N", "integer range": "N", "float": "X", "float range": "X", "HxW": "HxW"}
"""What ``--help`` shows for the value of such a kind."""


@dataclass(frozen=True, slots=True)
class _Declared:
    group: Group
    help: str
    flag: str | None
    short: str | None
    metavar: str | None
    kind: click.ParamType[Any] | None
    multiple: bool
    by_default: str | None


def option(
    default: Any,
    group: Group,
    help_: str,
    *,
    flag: str | None = None,
    short: str | None = None,
    metavar: str | None = None,
    kind: click.ParamType[Any] | None = None,
    multiple: bool = False,
    by_default: str | None = None,
) -> Any:
    """A field of a dataclass that is an option.

    What it takes follows from the field's type: a bool is a flag, a ``Literal`` a choice, a tuple of those or
    of words, numbers and paths may be repeated.

    Args:
        default: The field's.
        group: Where ``--help`` shows it.
        help_: One or two sentences for people.
        flag: Its name on the command line; None: that of the field, with dashes.
        short: One letter with a dash, for the few that need it.
        metavar: What ``--help`` shows for its value.
        kind: How a value is read, where the type does not say that.
        multiple: With ``kind``: it may be repeated.
        by_default: What happens without it, in words, where the default does not say that.
    """
    declared = _Declared(group, help_, flag, short, metavar, kind, multiple, by_default)
    return dataclasses.field(default=default, metadata={"option": declared})


@dataclass(frozen=True, slots=True)
class Option:
    """One option, as its field declares it.

    Attributes:
        field: Name of the field.
        flag: Name on the command line, with its dashes.
        short: The short one, or None.
        group: Where ``--help`` shows it.
        help: For people.
        kind: How a value is read; of a repeated one, each. A flag's reads true and false.
        is_flag: Whether it takes no value.
        is_path: Whether its values are paths.
        multiple: Whether it may be repeated.
        default: The field's.
        metavar: What ``--help`` shows for its value, or None.
    """

    field: str
    flag: str
    short: str | None
    group: Group
    help: str
    kind: click.ParamType[Any]
    is_flag: bool
    is_path: bool
    multiple: bool
    default: Any
    metavar: str | None

    @property
    def name(self) -> str:
        """Name in a recipe: the flag without its dashes."""
        return self.flag[2:]

    def given(self, options: object) -> bool:
        """Whether a dataclass says something else than the default."""
        value = getattr(options, self.field)
        return bool((tuple(value) if self.multiple else value) != self.default)


def options_of(kind: type) -> tuple[Option, ...]:
    """The options that a dataclass declares, in the order of its fields."""
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    return tuple(_option(field, hints[field.name]) for field in fields if "option" in field.metadata)


def _option(field: dataclasses.Field[Any], hint: Any) -> Option:
    declared: _Declared = field.metadata["option"]
    hint = _without_none(hint)
    repeated = declared.kind is None and get_origin(hint) in (tuple, Sequence)
    kind = declared.kind or _kind(get_args(hint)[0] if repeated else hint)
    help_ = declared.help
    shown = declared.by_default
    if shown is None and field.default not in (None, (), False):
        values: Sequence[object] = typing.cast(Any, field.default) if repeated else (field.default,)
        shown = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    if shown is not None:
        help_ += f" [default: {shown}]"
    return Option(
        field=field.name,
        flag=f"--{declared.flag or field.name.replace('_', '-')}",
        short=declared.short,
        group=declared.group,
        help=help_,
        kind=kind,
        is_flag=hint is bool,
        is_path=isinstance(kind, click.Path),
        multiple=repeated or declared.multiple,
        default=field.default,
        metavar=declared.metavar or (kind.name if isinstance(kind, OneOf) else _METAVARS.get(kind.name)),
    )


def _without_none(hint: Any) -> Any:
    """``X`` of ``X | None``; a path where a path or its text is taken."""
    if get_origin(hint) not in (typing.Union, types.UnionType):
        return hint
    left = [one for one in get_args(hint) if one is not type(None)]
    if Path in left:
        return Path
    if len(left) != 1:
        raise TypeError(f"{hint} is no type of an option")
    return left[0]


def _kind(hint: Any) -> click.ParamType[Any]:
    if hint is Path:
        return PATH
    if hint is bool:
        return click.BOOL
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        if all(isinstance(choice, int) for choice in choices):
            return OneOf(choices)
        return click.Choice(choices, case_sensitive=False)
    if hint not in _PLAIN:
        raise TypeError(f"{hint} needs a kind that reads it")
    return _PLAIN[hint]
