"""Logins over HTTP: the answer to a server's challenges, by Digest (RFC 7616, RFC 2069) or Basic (RFC 7617).

Nothing is sent unasked, and a server that offers Digest never gets the password itself.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from sspcab_edge.errors import SourceError

__all__ = ["Challenge", "answer", "is_stale", "read_challenges"]

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_NAME: Final = re.compile(rf"\s*({_TOKEN})")
_VALUE: Final = re.compile(r'\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|([^\s,"]+))', re.DOTALL)
_TOKEN68: Final = re.compile(r"\s+[0-9A-Za-z._~+/-]+=*\s*(?=,|\Z)")
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)

_Hash = Callable[[bytes], str]


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to log in that a server offers.

    Attributes:
        scheme: In lower case: ``digest``, ``basic`` or another.
        values: Its parameters, by names in lower case.
    """

    scheme: str
    values: Mapping[str, str]


def read_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """All challenges of the ``WWW-Authenticate`` headers of an answer (RFC 9110, section 11.6.1)."""
    found: list[tuple[str, dict[str, str]]] = []
    for header in headers:
        at = 0
        while at < len(header):
            name = _NAME.match(header, at)
            if name is None:
                at += 1
                continue
            at = name.end()
            value = _VALUE.match(header, at)
            if value is not None and found:
                text = _ESCAPE.sub(r"\1", value[1]) if value[1] is not None else value[2]
                found[-1][1].setdefault(name[1].lower(), text)
                at = value.end()
                continue
            found.append((name[1].lower(), {}))
            token = _TOKEN68.match(header, at)
            at = at if token is None else token.end()
    return tuple(Challenge(scheme, values) for scheme, values in found)


def is_stale(challenges: Iterable[Challenge]) -> bool:
    """Whether login and password were right, and only the nonce is too old."""
    return any(challenge.values.get("stale", "").lower() == "true" for challenge in challenges)


def answer(
    challenges: Iterable[Challenge],
    method: str,
    target: str,
    user: str,
    password: str,
    cnonce: str | None = None,
) -> bytes:
    """The value of an ``Authorization`` header: by the strongest Digest that is offered, else by Basic.

    Args:
        challenges: What the server offers.
        method: Of the request. Its body is empty.
        target: Of the request, as it is sent: path and query.
        user: Also ``password``; both in UTF-8, composed (NFC).
        cnonce: Of the client; by default 128 random bits.

    Raises:
        SourceError: None of them is known; the text begins with what is wanted.
    """
    offered = tuple(challenges)
    user, password = (unicodedata.normalize("NFC", text) for text in (user, password))
    digests = [challenge for challenge in offered if challenge.scheme == "digest"]
    if digests:
        known = [one for one in digests if _algorithm(one) in _HASHES and "nonce" in one.values]
        if not known:
            names = ", ".join(sorted({_algorithm(one)[:20] for one in digests}))
            raise SourceError(f"wants a login by Digest with {names}, expected one of {', '.join(_HASHES)}")
        best = min(known, key=lambda one: list(_HASHES).index(_algorithm(one)))
        return _digest(best, method, target, user, password, cnonce or secrets.token_hex(16))
    if any(challenge.scheme == "basic" for challenge in offered):
        return b"Basic " + base64.b64encode(f"{user}:{password}".encode())
    names = ", ".join(sorted({challenge.scheme[:20] for challenge in offered})) or "no way that it names"
    raise SourceError(f"wants a login by {names}, expected Digest or Basic")


def _digest(challenge: Challenge, method: str, target: str, user: str, password: str, cnonce: str) -> bytes:
    """RFC 7616, section 3.4; without ``qop`` as RFC 2069 has it."""
    values = challenge.values
    algorithm = _algorithm(challenge)
    hashed = _HASHES[algorithm]
    realm, nonce = values.get("realm", ""), values["nonce"]
    offered = [one.strip().lower() for one in values.get("qop", "").split(",")]
    qop = next((one for one in ("auth", "auth-int") if one in offered), None)
    secret = hashed(f"{user}:{realm}:{password}".encode())
    if algorithm.endswith("-SESS"):
        secret = hashed(f"{secret}:{nonce}:{cnonce}".encode())
    request = f"{method}:{target}" + (f":{hashed(b'')}" if qop == "auth-int" else "")
    count = "00000001"
    middle = nonce if qop is None else f"{nonce}:{count}:{cnonce}:{qop}"
    response = hashed(f"{secret}:{middle}:{hashed(request.encode())}".encode())
    if values.get("userhash", "").lower() == "true":
        fields = [f'username="{hashed(f"{user}:{realm}".encode())}"', "userhash=true"]
    elif not user.isascii() and values.get("charset", "").upper() == "UTF-8":
        fields = [f"username*=UTF-8''{quote(user, safe='')}"]
    else:
        fields = [f"username={_quoted(user)}"]
    fields += [f"realm={_quoted(realm)}", f"nonce={_quoted(nonce)}", f"uri={_quoted(target)}"]
    fields.append(f'response="{response}"')
    if "algorithm" in values:
        fields.append(f"algorithm={values['algorithm']}")
    if "opaque" in values:
        fields.append(f"opaque={_quoted(values['opaque'])}")
    if qop is not None:
        fields += [f"qop={qop}", f"nc={count}"]
    if qop is not None or algorithm.endswith("-SESS"):
        fields.append(f'cnonce="{cnonce}"')
    return f"Digest {', '.join(fields)}".encode()


def _algorithm(challenge: Challenge) -> str:
    return challenge.values.get("algorithm", "MD5").upper()


def _quoted(text: str) -> str:
    plain = "".join(letter for letter in text if letter >= " ")
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _hash(name: str) -> _Hash:
    return lambda data: hashlib.new(name, data, usedforsecurity=False).hexdigest()


_HASHES: Final[Mapping[str, _Hash]] = {
    f"{name}{session}": _hash(function)
    for name, function in (("SHA-512-256", "sha512_256"), ("SHA-256", "sha256"), ("MD5", "md5"))
    if function in hashlib.algorithms_available
    for session in ("", "-SESS")
}
"""By names in upper case, the strongest first."""
