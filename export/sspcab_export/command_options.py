"""From declared options to click's, in groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from sspcab_export.needs import MissingOptions, completed
from sspcab_export.option_field import GROUPS, Group, options_of

__all__ = ["WORDS", "GroupedCommand", "GroupedOption", "declared_options", "take"]

WORDS = "sspcab_export.words"
"""Where a context's ``meta`` keeps what was typed."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Options = TypeVar("_Options")


class GroupedOption(click.Option):
    """An option that knows its place in ``--help``."""

    def __init__(self, *arguments: Any, group: Group = "Output", **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.group: Group = group


class GroupedCommand(click.Command):
    """A command whose ``--help`` shows options in groups."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember the words as they were given, for messages that repeat them."""
        ctx.meta[WORDS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; where options are missing, complete what was typed with them."""
        try:
            return super().invoke(ctx)
        except MissingOptions as error:
            error.advice = completed([str(ctx.info_name), *ctx.meta[WORDS]], error.needs)
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for every group that has options."""
        rows: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                rows[param.group if isinstance(param, GroupedOption) else GROUPS[-1]].append(record)
        for group, records in rows.items():
            if records:
                with formatter.section(group):
                    formatter.write_dl(records)


def declared_options(*kinds: type) -> Callable[[_Function], _Function]:
    """Give a command the options that these dataclasses declare.

    Their values have no default here: :func:`take` leaves out what was not given, so that the dataclass's
    holds.
    """

    def decorate(function: _Function) -> _Function:
        for kind in reversed(kinds):
            for one in reversed(options_of(kind)):
                names = [one.field, one.flag, *([one.short] if one.short else [])]
                attributes: dict[str, Any] = {"group": one.group, "help": one.help, "cls": GroupedOption}
                if one.is_flag:
                    attributes["is_flag"] = True
                else:
                    attributes |= {"type": one.kind, "multiple": one.multiple, "metavar": one.metavar}
                function = click.option(*names, **attributes)(function)
        return function

    return decorate


def take(
    kind: type[_Options], values: dict[str, Any], nested: Mapping[str, object] | None = None
) -> _Options:
    """The dataclass of what was given, whose values are taken out of those of a command.

    Args:
        kind: The dataclass.
        values: By the names of fields; None, an empty tuple and False were not given.
        nested: Fields of it that are no options.

    Raises:
        OptionError: The options contradict each other.
    """
    taken = {one.field: values.pop(one.field) for one in options_of(kind)}
    given = {
        name: value for name, value in taken.items() if not (value is None or value is False or value == ())
    }
    return kind(**given, **(nested or {}))
