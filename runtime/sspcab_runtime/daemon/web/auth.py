"""Who may see what: tokens, sessions, hosts. Everything but ``/healthz`` and the login page needs one."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import deque
from typing import Literal

__all__ = ["COOKIE", "Guard", "Scope"]

Scope = Literal["read", "control"]

COOKIE = "sspcab_session"
_SESSION_S = 12 * 3600.0
_WRONG_MOST, _WRONG_S = 10, 60.0


class Guard:
    """Compares tokens by their hash, in constant time.

    Args:
        token: Lets read.
        control: Lets read and trigger parts; None: the token does, where only this machine listens.
        loopback: Whether only this machine can come here.
    """

    def __init__(self, token: str, control: str | None, *, loopback: bool) -> None:
        self._read, self._control = _hash(token), None if control is None else _hash(control)
        self._loopback = loopback
        self._key = secrets.token_bytes(32)
        self._wrong: dict[str, deque[float]] = {}

    def by_token(self, given: str) -> Scope | None:
        """What a token allows; None for a wrong one."""
        hashed = _hash(given)
        is_control = self._control is not None and hmac.compare_digest(hashed, self._control)
        is_read = hmac.compare_digest(hashed, self._read)
        if is_control:
            return "control"
        if is_read:
            return "control" if self._control is None and self._loopback else "read"
        return None

    def session(self, scope: Scope) -> str:
        """A cookie's value for somebody who showed a token."""
        text = f"{int(time.time() + _SESSION_S)}.{scope}"
        return f"{text}.{self._sign(text)}"

    def by_session(self, cookie: str) -> Scope | None:
        """What a cookie allows; None for one that is wrong or too old."""
        text, _, signature = cookie.rpartition(".")
        if not text or not hmac.compare_digest(signature.encode(), self._sign(text).encode()):
            return None
        until, _, scope = text.partition(".")
        if time.time() > int(until):
            return None
        return "control" if scope == "control" else "read"

    def locked(self, address: str) -> bool:
        """Whether somebody gave too many wrong tokens within a minute."""
        wrong = self._wrong.get(address)
        while wrong and time.monotonic() - wrong[0] > _WRONG_S:
            wrong.popleft()
        return wrong is not None and len(wrong) >= _WRONG_MOST

    def count_wrong(self, address: str) -> None:
        """A token was wrong."""
        if len(self._wrong) > 1000:
            self._wrong.clear()
        self._wrong.setdefault(address, deque(maxlen=_WRONG_MOST)).append(time.monotonic())

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
