"""Plain-text tables for terminals."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["apart", "number", "table"]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns two spaces apart, those numbered in ``right`` aligned to the right."""
    everything = [header, *rows]
    widths = [max(len(row[column]) for row in everything) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in everything
    ]
    return "\n".join(lines)


def number(value: float | None, digits: int = 4) -> str:
    """A number with that many significant digits; ``-`` for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def apart(first: float | None, second: float | None) -> tuple[str, str]:
    """Two numbers with four significant digits, or as many more as it takes to tell them apart."""
    digits = 4
    while digits < 17 and first != second and number(first, digits) == number(second, digits):
        digits += 1
    return number(first, digits), number(second, digits)
