"""Secrets by reference: a file, a systemd credential, an environment variable. Never by their own words."""

from __future__ import annotations

import os
import secrets as random_secrets
import stat
from pathlib import Path

from sspcab_edge.errors import ConfigError
from sspcab_edge.local_path import local_path
from sspcab_edge.printable import printable

__all__ = ["make_token", "read_secret"]

_MOST_BYTES = 65536


def read_secret(reference: str) -> str:
    """What ``file:PATH``, ``credential:NAME`` or ``env:NAME`` holds, without its last line break.

    Raises:
        ConfigError: It is not there, empty, or a file that others may read; only the reference is named.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        value = os.environ.get(name, "")
        if not value:
            raise ConfigError(f"the environment has no {printable(name)}, which is named as a secret")
        return value
    if kind == "credential":
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder is None or "/" in name or name in ("", ".", ".."):
            raise ConfigError(f"there is no credential {name!r}: give it with LoadCredential= in its unit")
        return _read(Path(folder) / name, reference)
    if kind == "file":
        return _read(local_path(name), reference)
    raise ConfigError("a secret is file:PATH, credential:NAME or env:NAME")


def make_token(path: Path) -> str:
    """The token in a file of this user alone; made of 256 random bits where there is none.

    Raises:
        ConfigError: It can be neither read nor made.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return _read(path, f"file:{path}")
    except OSError as error:
        raise ConfigError(f"the token {path} cannot be made: {error.strerror}") from error
    token = random_secrets.token_urlsafe(32)
    with os.fdopen(fd, "w") as file:
        file.write(token + "\n")
    return token


def _read(path: Path, reference: str) -> str:
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > _MOST_BYTES:
                raise ConfigError(f"the secret {reference} is no file of at most {_MOST_BYTES} bytes")
            if facts.st_mode & 0o007:
                raise ConfigError(f"the secret {reference} may be read by everybody: chmod 600 it")
            data = file.read(_MOST_BYTES)
    except OSError as error:
        raise ConfigError(f"the secret {reference} cannot be read: {error.strerror}") from error
    try:
        value = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the secret {reference} is not text") from error
    if not value:
        raise ConfigError(f"the secret {reference} is empty")
    return value
