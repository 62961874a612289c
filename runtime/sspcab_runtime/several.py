"""Several sources judged in one run: images, folders and videos in the order given, each film anew."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import Literal

from sspcab_edge.errors import OptionError, SourceError
from sspcab_edge.local_path import local_path
from sspcab_runtime.detector import Detector
from sspcab_runtime.pipeline import Failure, Result
from sspcab_runtime.sources.files import is_image
from sspcab_runtime.sources.joined import UNOPENED, Joined, as_failure
from sspcab_runtime.sources.table import is_live, open_source

__all__ = ["LIST", "judge_several", "named_sources"]

LIST = "-"
"""In the place of a source: a list of them on standard input."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def named_sources(given: Sequence[str]) -> tuple[str, ...]:
    """The sources that are named, those of a list in the place of ``-``.

    A list has one path or URI a line, or is separated by NUL bytes where it holds any, as ``find -print0``
    writes it; names are any bytes.

    Raises:
        OptionError: The list is given twice, empty or not readable; or a live camera is not the only source.
    """
    if given.count(LIST) > 1:
        raise OptionError(f"SOURCE {LIST} is given twice, expected once: it is the list on standard input")
    names: list[str] = []
    for name in given:
        names.extend(_listed(_standard_input()) if name == LIST else [name])
    if not names:
        raise OptionError("standard input names no sources: expected a path in each line")
    live = next((name for name in names if is_live(name)), None)
    if live is not None and len(names) > 1:
        scheme = live.split(":", 1)[0]
        raise OptionError(
            f"a live camera ({scheme}:) has to be the only SOURCE, here are {len(names)}: it has no end, so "
            "run the others by themselves"
        )
    return tuple(names)


def judge_several(detector: Detector, names: Sequence[str]) -> Generator[Result | Failure, None, None]:
    """Judge every frame of every source; one that cannot be opened or is lost is a failure, the others go on.

    A front-end that remembers frames begins anew for each video and each folder; images that are named one by
    one are frames of one video to it.

    Raises:
        InputError, EngineError: As :meth:`~sspcab_runtime.detector.Detector.stream`.
    """
    for group in _groups(names, detector.front_end.remembers):
        detector.front_end.reset()
        try:
            source = open_source(group[0]) if _kind(group[0]) == "film" else Joined(group)
        except UNOPENED as error:
            yield Failure(group[0], as_failure(error, group[0]))
            continue
        with closing(source), closing(detector.stream(source)) as results:
            try:
                yield from results
            except SourceError as error:
                yield Failure(source.uri, as_failure(error, source.uri))


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise OptionError(f"SOURCE {LIST} is a list on standard input, which is closed")
    try:
        return sys.stdin.buffer.read()
    except OSError as error:
        raise OptionError(f"the list on standard input cannot be read: {error.strerror}") from error


def _listed(data: bytes) -> list[str]:
    if b"\0" in data:
        lines = data.split(b"\0")
    else:
        lines = data.removeprefix(_BYTE_ORDER_MARK).split(b"\n")
        if all(line.endswith(b"\r") for line in lines if line):
            lines = [line.removesuffix(b"\r") for line in lines]
    return [os.fsdecode(line) for line in lines if line]


def _kind(name: str) -> Literal["image", "folder", "film"]:
    """What a name is of; what cannot be opened counts as an image, whose turn then says why."""
    try:
        path = local_path(name)
    except OptionError:
        return "image"
    if os.path.isdir(path):
        return "folder"
    try:
        return "film" if os.path.isfile(path) and not is_image(path) else "image"
    except (OSError, SourceError):
        return "image"


def _groups(names: Sequence[str], remembers: bool) -> Iterator[tuple[str, ...]]:
    """Names whose frames are one stream: videos alone, and so folders where frames are remembered."""
    group: list[str] = []
    for name in names:
        kind = _kind(name)
        if kind == "film" or (kind == "folder" and remembers):
            if group:
                yield tuple(group)
            group = []
            yield (name,)
        else:
            group.append(name)
    if group:
        yield tuple(group)
