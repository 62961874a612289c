"""Addresses as they may be shown: enough to tell which camera it is, and no login, wherever it stands.

Cameras want passwords in every part of an address, and a password may hold what ends a part of a URL. So
nothing here trusts a URL parser: where it is not clear what is the host, more is hidden rather than less.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

__all__ = ["HIDDEN", "may_hold_login", "shown_address", "shown_text"]

HIDDEN: Final = "***"
"""Stands for what is not shown."""

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(/{0,2})(.*)", re.DOTALL)
_HOST: Final = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]{2,45}\])")
_NUMERIC: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[.*")
_SCHEMES: Final = frozenset(
    {"rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "srt", "mqtt", "mqtts", "gst"}
)
_LOCAL: Final = frozenset({"file", "images", "v4l2", "csi"})
_SECRET_NAME: Final = re.compile(
    "user|usr|login|pass|pwd|psw|pw|psk|tok|auth|key|secret|sig|sess|cred|ticket|hash|account|jwt|cookie|header"
    "|(?<![a-z0-9])(?:sid|pin)(?![a-z0-9])",
    re.IGNORECASE,
)
"""Of a value in a path or a pipeline."""
_SURELY_SECRET_NAME: Final = re.compile(
    "(?:(?:user|proxy)[-_](?:id|pw)|passw(?:or)?d?|passphrase|pass|pwd|token|secret|api[-_]?key|auth)$",
    re.IGNORECASE,
)
"""Of a value in any text, where more would be hidden that is none."""
_IN_PATH: Final = re.compile(r"([A-Za-z0-9._-]{1,64})[=:]")
_IN_TEXT: Final = re.compile(r"([A-Za-z0-9_-]{1,64})=")
_IN_PIPELINE: Final = re.compile(r"([A-Za-z0-9_-]{1,64})\s{0,9}=\s{0,9}")
_VALUE: Final = re.compile(r"(?:\\.|\"(?:[^\"\\]|\\.)*\"?|'[^']*'?|[^\s\"'<>\\])+")
_SECRET_PART: Final = re.compile(
    r"/(?:pass|passwd|password|pwd|token|auth|key|apikey|secret|login)/", re.IGNORECASE
)
_COLON: Final = re.compile(r"/[^/:]*:")
_RANDOM: Final = re.compile(
    r"(?=.*[0-9].*[0-9])(?=.*[A-Z])(?=.*[a-z])[A-Za-z0-9]{16,}|[0-9A-Fa-f]{20,}|.{48,}"
)
_WHICH: Final = re.compile(r"(?:channel|channelid|chn|ch|subtype|stream|camera|cam|profile)=[0-9]{1,3}", re.I)
"""Of a query, what tells cameras of one recorder apart."""

_URL_IN_TEXT: Final = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]{0,30}://|(?:rtsps?|rtmps?|https?|ftp|mqtts?|srt):/)[^\s\"'<>]*[^\s\"'<>:;,.!)\]]",
    re.IGNORECASE,
)
_LOGIN_IN_TEXT: Final = re.compile(r"[^\s:/\"'<>@]{1,100}:(?!/*\*{3}@)[^\s\"'<>]{0,500}@(?=[A-Za-z0-9_\[])")


def shown_address(address: str) -> str:
    """An address without what may be a login: user part, named values of the path, query, fragment.

    Host, port, the path before the first thing to hide, and the numbers of channel and stream stay. Paths of
    files are given back as they are.
    """
    found = _URL.fullmatch(address)
    if found is None or (not found[2] and found[1].lower() not in _SCHEMES):
        login, host, behind = _split(address)
        secret = ":" in address.rpartition("@")[0] or _secret_end(address) is not None
        return f"{login}{host}{_shown_path(behind)}" if secret else address
    scheme, slashes, rest = found.groups()
    if scheme.lower() == "gst":
        return _without_values(shown_text(address), _IN_PIPELINE, _SECRET_NAME)
    if scheme.lower() in _LOCAL:
        host, slash, path = rest.partition("/")
        return (
            f"{scheme}:{slashes}{HIDDEN}@{host.rpartition('@')[2]}{slash}{path}" if "@" in host else address
        )
    if "\\" in rest:
        return f"{scheme}:{slashes}{HIDDEN}"
    login, host, behind = _split(rest)
    return f"{scheme}:{slashes}{login}{host}{_shown_path(behind)}"


def shown_text(text: str) -> str:
    """A text without the logins of the addresses in it, and without values such as ``user-pw=...``."""
    text = _URL_IN_TEXT.sub(lambda found: shown_address(found[0]), text)
    text = _LOGIN_IN_TEXT.sub(f"{HIDDEN}@", text)
    return _without_values(text, _IN_TEXT, _SURELY_SECRET_NAME)


def may_hold_login(address: str) -> bool:
    """Whether a URL has a user part, or what would be one if its password held a ``/``, ``?`` or ``#``."""
    rest = address.partition("://")[2]
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in authority:
        return True
    head, at, _ = rest.rpartition("@")
    return bool(at) and not _is_surely_host(authority) and "=" not in head


def _split(rest: str) -> tuple[str, str, str]:
    """What stands for the login, host with port, and what follows; a host that may be a login is hidden."""
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    behind = rest[len(authority) :]
    _, at, host = authority.rpartition("@")
    if "@" not in behind:
        shown = HIDDEN + "@" if at else ""
        return (shown, host, behind) if _is_host(host) else (shown, HIDDEN, behind if not at else "")
    if not at and _is_surely_host(authority):
        return "", authority, behind
    head, _, tail = rest.rpartition("@")  # a password with / ? # in it, or an @ in the path behind a login
    host = re.split(r"[/?#\\]", tail, maxsplit=1)[0]
    if "=" in head or not _is_host(host):
        return "", HIDDEN, ""
    return HIDDEN + "@", host, tail[len(host) :]


def _is_surely_host(authority: str) -> bool:
    """Not a user and the beginning of a password, although ``admin:12`` might be a host and its port."""
    return _is_host(authority) and (":" not in authority or _NUMERIC.match(authority) is not None)


def _is_host(text: str) -> bool:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host = text
    return _HOST.fullmatch(host) is not None and (not colon or (port.isdigit() and len(port) <= 5))


def _shown_path(behind: str) -> str:
    path, mark, query = _parted(behind)
    plain = path
    for _ in range(3):
        plain = unquote(plain)
    ends = [found.end() for rule in (_SECRET_PART, _COLON) if (found := rule.search(plain))]
    ends += [] if (end := _secret_end(plain)) is None else [end]
    shown = f"{plain[: min(ends)]}{HIDDEN}" if ends else path
    parts = [HIDDEN if _RANDOM.fullmatch(part) else part for part in shown.split("/")]
    which = [part for part in re.split(r"[&;]", query) if _WHICH.fullmatch(part)] if mark == "?" else []
    hidden = [HIDDEN] if query and "&".join(which) != query else []
    return "/".join(parts) + (f"?{'&'.join([*which, *hidden])}" if query else "")


def _secret_end(path: str) -> int | None:
    """Where the name of the first value that is secret ends, with its ``=``: ``/user=admin_password=...``."""
    return next((found.end() for found in _IN_PATH.finditer(path) if _SECRET_NAME.search(found[1])), None)


def _without_values(text: str, assigned: re.Pattern[str], secret: re.Pattern[str]) -> str:
    """A text with the values hidden that are assigned to names which are secret."""
    shown, at = [], 0
    while found := assigned.search(text, at):
        shown.append(text[at : found.end()])
        at = found.end()
        if secret.search(found[1]) and (value := _VALUE.match(text, at)):
            shown.append(HIDDEN)
            at = value.end()
    return "".join([*shown, text[at:]])


def _parted(behind: str) -> tuple[str, str, str]:
    found = re.search(r"[?#]", behind)
    if found is None:
        return behind, "", ""
    return behind[: found.start()], found[0], behind[found.end() :]
