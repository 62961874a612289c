"""Log lines: for people or as JSON, without secrets, and without floods."""

from __future__ import annotations

import base64
import json
import logging
import sys
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from urllib.parse import quote, quote_plus

from sspcab_edge.shown_address import HIDDEN, shown_text

__all__ = ["Redactor", "set_up_logs"]

_SHORTEST = 4
_SAME_MOST, _SAME_S = 5, 10.0


class Redactor:
    """Knows secrets, and takes them out of text in every form that they may have."""

    def __init__(self) -> None:
        self._forms: list[str] = []

    def learn(self, secrets: Iterable[str]) -> None:
        """Hide these from now on."""
        forms = set(self._forms)
        for secret in secrets:
            if len(secret) < _SHORTEST:
                continue
            coded = base64.b64encode(secret.encode()).decode().rstrip("=")
            forms |= {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), repr(secret)[1:-1]}
            forms |= {json.dumps(secret)[1:-1], coded}
        self._forms = sorted(forms, key=len, reverse=True)

    def redact(self, text: str) -> str:
        """The text without secrets; hosts stay."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, HIDDEN)
        return shown_text(text)


class _Lines(logging.Formatter):
    """Formats a record, exception included, and takes secrets out of the result."""

    def __init__(self, redactor: Redactor, *, as_json: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self._redactor, self._json = redactor, as_json

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several where there is a traceback."""
        if not self._json:
            return self._redactor.redact(super().format(record))
        entry = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._redactor.redact(record.getMessage()),
        }
        if record.exc_info:
            entry["exception"] = self._redactor.redact(self.formatException(record.exc_info))
        return json.dumps(entry)


class _Floods(logging.Filter):
    """Lets through a message of one place a few times in ten seconds, then says how many were left out."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write it."""
        now = time.monotonic()
        key = (
            record.pathname,
            record.lineno,
            str(record.args[0]) if isinstance(record.args, tuple) and record.args else "",
        )
        since, count = self._seen.get(key, (now, 0))
        if now - since > _SAME_S:
            if count > _SAME_MOST:
                record.msg = f"{record.msg} ({count - _SAME_MOST} more of these were left out)"
            since, count = now, 0
        if len(self._seen) > 1000:
            self._seen.clear()
        self._seen[key] = (since, count + 1)
        return count < _SAME_MOST


def set_up_logs(redactor: Redactor, *, as_json: bool, level: int = logging.INFO) -> None:
    """Send all log lines of this process to stderr, and crashes, through the redactor."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(redactor, as_json=as_json))
    handler.addFilter(_Floods())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access", "pymodbus", "libav"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _log_crash
    threading.excepthook = lambda crash: _log_crash(crash.exc_type, crash.exc_value, crash.exc_traceback)


def _log_crash(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """A traceback through the redactor, too."""
    logging.getLogger(__name__).critical("crash", exc_info=(kind, error or kind(), trace))
