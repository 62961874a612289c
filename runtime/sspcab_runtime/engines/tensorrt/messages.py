"""What TensorRT says while it works: kept by severity, and judged by two tables.

Its errors come as log lines and a None, not as exceptions. The first logger of a process is the only one that
is used, so there is one for each module, and each piece of work begins with an empty record.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sspcab_edge.errors import EngineError

__all__ = ["HARMLESS", "REFUSED", "Messages", "is_harmless", "map_errors", "messages_of"]

_LOG = logging.getLogger(__name__)
_KEPT = 200
_LAST_ERRORS = 3

HARMLESS: tuple[tuple[str, str], ...] = (
    (
        r"cudaError 35|CUDA initialization failure with error: 35",
        "no driver: the checker builds without a GPU",
    ),
    (r"CUDA lazy loading is not enabled", "costs memory alone"),
    (r"Unable to determine GPU memory usage", "said where there is no GPU, or in some containers"),
)
"""(pattern, why it does not matter): warnings that are not passed on."""

REFUSED: tuple[tuple[str, str], ...] = (
    (
        r"UINT8 zero_point",
        "unsigned quantised activations are read as signed, and the upper half of each range saturates: "
        "export int8 in the signed flavour",
    ),
)
"""(pattern, what it means): warnings that hide a wrong result; a build that has one is refused."""

_ERROR, _WARNING, _OTHER = "error", "warning", "other"
_KINDS = {"INTERNAL_ERROR": _ERROR, "ERROR": _ERROR, "WARNING": _WARNING}


class Messages:
    """The record of one piece of work. Attributes hold one-line messages, the oldest first."""

    def __init__(self) -> None:
        self.errors: deque[str] = deque(maxlen=_KEPT)
        self.warnings: deque[str] = deque(maxlen=_KEPT)
        self.interrupted = False

    def clear(self) -> None:
        """Begin anew."""
        self.errors.clear()
        self.warnings.clear()

    def pass_on_interrupt(self) -> None:
        """Raise the Ctrl-C that came while a message was being kept.

        Raises:
            KeyboardInterrupt: There was one.
        """
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt

    def add(self, severity: str, text: str) -> None:
        """Keep one message; called by TensorRT from any thread."""
        kind = _KINDS.get(severity, _OTHER)
        if kind == _ERROR:
            self.errors.append(" ".join(text.split()))
        elif kind == _WARNING:
            self.warnings.append(" ".join(text.split()))
        elif severity == "INFO":
            _LOG.debug("%s", text)

    def last_errors(self) -> str:
        """The last errors in one line, each once."""
        unique = list(dict.fromkeys(error for error in self.errors if not is_harmless(error)))
        return "; ".join(unique[-_LAST_ERRORS:]) or "TensorRT gives no reason"

    def worth_telling(self) -> tuple[str, ...]:
        """Warnings, and errors of work that came to a good end all the same, without the harmless ones."""
        everything = dict.fromkeys((*self.warnings, *self.errors))
        return tuple(text for text in everything if not is_harmless(text))


def is_harmless(text: str) -> bool:
    """Whether a message is one of :data:`HARMLESS`."""
    return any(re.search(pattern, text) for pattern, _ in HARMLESS)


_LOGGERS: dict[str, tuple[Any, Messages]] = {}


def messages_of(trt: Any) -> tuple[Any, Messages]:
    """The logger of a module, to hand to its builder, parser and runtime, and the record it writes."""
    name = str(trt.__name__)
    if name not in _LOGGERS:
        record = Messages()

        class _Logger(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, msg: str) -> None:
                try:
                    record.add(severity.name, msg)
                except KeyboardInterrupt:  # an exception must not pass through C++
                    record.interrupted = True

        _LOGGERS[name] = (_Logger(), record)
    return _LOGGERS[name]


@contextmanager
def map_errors(what: str) -> Iterator[None]:
    """Turn whatever TensorRT's bindings raise into an EngineError that says ``what`` failed."""
    try:
        yield
    except (RuntimeError, TypeError, ValueError, MemoryError) as error:
        raise EngineError(f"tensorrt {what}: {' '.join(str(error).split())}") from error
