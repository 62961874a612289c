"""In which line of a TOML file a key stands: the standard parser does not say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

__all__ = ["find_line"]

_PART = r"(?:[A-Za-z0-9_-]+|\"(?:[^\"\\]|\\.)*\"|'[^']*')"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_PART}(?:\s*\.\s*{_PART})*)\s*\]\]?")
_KEY = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")


def find_line(text: str, path: Sequence[str | int]) -> int:
    """The line, from 1, of the deepest part of ``path`` (keys, and indices of arrays) that stands in a file.

    Lines inside of multi-line strings may mislead it; the configuration has no use for these.
    """
    wanted = [str(part) for part in path]
    best, best_depth = 1, 0
    table: list[str] = []
    seen: Counter[tuple[str, ...]] = Counter()
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header:
            table = _parts(header.group(2))
            if header.group(1) == "[[":
                key = tuple(table)
                table = [*table, str(seen[key])]
                seen[key] += 1
            here = table
        else:
            found = _KEY.match(line)
            if not found:
                continue
            here = [*table, *_parts(found.group(1))]
        depth = _common(here, wanted)
        if depth == len(here) and depth > best_depth:
            best, best_depth = number, depth
    return best


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_PART, dotted)]


def _common(here: Sequence[str], wanted: Sequence[str]) -> int:
    depth = 0
    for one, other in zip(here, wanted, strict=False):
        if one != other:
            break
        depth += 1
    return depth
