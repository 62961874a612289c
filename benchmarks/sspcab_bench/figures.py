"""Figures as people read them."""

from __future__ import annotations

__all__ = ["figure"]


def figure(value: float | None) -> str:
    """A figure of three digits or more, never with an exponent; ``-`` for none."""
    if value is None:
        return "-"
    return f"{value:.{3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0}f}"
