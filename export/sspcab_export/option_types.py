"""Values of options that are more than a word or a number, as the command line and a recipe spell them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

__all__ = ["Numbers", "OneOf", "Polygon", "Size", "Whole"]

if TYPE_CHECKING:
    _Sizes = click.ParamType[tuple[int, int]]
    _Tuples = click.ParamType[tuple[float, ...]]
    _Corners = click.ParamType[tuple[tuple[int, int], ...]]
else:  # click is generic from 8.4 on
    _Sizes = _Tuples = _Corners = click.ParamType


class Size(_Sizes):
    """HEIGHTxWIDTH, or one number for a square."""

    name = "HxW"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
            self.fail(f"{value!r} is no size: expected HEIGHTxWIDTH in pixels, as in 256x256", param, ctx)
        return int(parts[0]), int(parts[-1])

    def spell(self, value: tuple[int, int]) -> str:
        """The text that :meth:`convert` takes for ``value``."""
        return "{}x{}".format(*value)


class OneOf(click.types.IntParamType):
    """One of a few whole numbers."""

    def __init__(self, choices: tuple[int, ...]) -> None:
        self.name = f"[{'|'.join(map(str, choices))}]"
        self._choices = choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = int(super().convert(value, param, ctx))
        if number not in self._choices:
            self.fail(f"{number} is none of {', '.join(map(str, self._choices))}", param, ctx)
        return number


class Numbers(_Tuples):
    """Numbers with one separator between them."""

    def __init__(self, name: str, separator: str, counts: tuple[int, ...], example: str) -> None:
        self.name = name
        self._separator = separator
        self._counts = counts
        self._example = example

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        try:
            numbers = tuple(float(part) for part in str(value).split(self._separator))
        except ValueError:
            numbers = ()
        if len(numbers) not in self._counts:
            self.fail(f"{value!r} is not understood: expected {self.name}, as in {self._example}", param, ctx)
        return numbers

    def spell(self, value: tuple[float, ...]) -> str:
        """The text that :meth:`convert` takes for ``value``."""
        return self._separator.join(repr(number).removesuffix(".0") for number in value)


class Whole(Numbers):
    """Whole numbers with commas between them."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        numbers = super().convert(value, param, ctx)
        if not all(float(number).is_integer() for number in numbers):
            self.fail(
                f"{value!r} is not understood: expected whole pixels, as in {self._example}", param, ctx
            )
        return tuple(int(number) for number in numbers)


class Polygon(_Corners):
    """Corners ``x,y`` with spaces between them."""

    name = "X,Y X,Y X,Y ..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[int, int], ...]:
        corners = []
        for part in str(value).split():
            x, comma, y = part.partition(",")
            if not (comma and x.isdigit() and y.isdigit()):
                self.fail(
                    f"{part!r} is no corner: expected X,Y in pixels, as in '10,10 90,10 90,60'", param, ctx
                )
            corners.append((int(x), int(y)))
        if len(corners) < 3:
            self.fail(f"{value!r} has {len(corners)} corners, expected 3 or more", param, ctx)
        return tuple(corners)

    def spell(self, value: tuple[tuple[int, int], ...]) -> str:
        """The text that :meth:`convert` takes for ``value``."""
        return " ".join(f"{x},{y}" for x, y in value)
