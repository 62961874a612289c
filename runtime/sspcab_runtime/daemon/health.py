"""One word for everything: that of whatever is worst, with its reason. No part hides another's trouble."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from sspcab_runtime.daemon.status import HealthWord

__all__ = ["Problem", "health_word", "worst_first"]

_WORST_FIRST: tuple[str, ...] = get_args(HealthWord)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it should be.

    Attributes:
        word: What it makes of the whole.
        text: One line: which part, and why.
    """

    word: HealthWord
    text: str


def worst_first(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """In the order in which a person should look at them; among equals, as they were given."""
    return tuple(sorted(problems, key=lambda problem: _WORST_FIRST.index(problem.word)))


def health_word(problems: Iterable[Problem]) -> HealthWord:
    """The word of the worst of them; ``ready`` where there are none."""
    ordered = worst_first(problems)
    return ordered[0].word if ordered else "ready"
