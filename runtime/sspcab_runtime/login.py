"""A camera's login on a command line: the user by name, the password by reference only."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import click

from sspcab_edge.errors import OptionError
from sspcab_runtime.secrets import read_secret
from sspcab_runtime.sources.streams import StreamOptions

__all__ = ["check_user", "login_options", "with_login"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_REFERENCE: Final = re.compile(r"(file|env|credential):.+", re.DOTALL)
_WITH_LOGIN: Final = ("rtsp", "rtsps", "http", "https")


def _reference(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Where a secret is; a secret itself is refused, and not shown."""
    if value is not None and _REFERENCE.fullmatch(value) is None:
        raise click.BadParameter(
            "every user of this machine can see a password on a command line (ps): expected where it is, "
            "file:PATH, env:NAME or credential:NAME",
            ctx,
            param,
        )
    return value


def login_options(command: _Command) -> _Command:
    """Add ``--user`` and ``--password``: for :func:`with_login`."""
    user = click.option("--user", help="User for a camera at rtsp(s):// or http(s)://.")
    password = click.option(
        "--password",
        callback=_reference,
        metavar="file:PATH|env:NAME|credential:NAME",
        help="Where the user's password is: a file of yours alone, an environment variable, or a credential "
        "of systemd. Never the password itself.",
    )
    return user(password(command))


def with_login(
    options: StreamOptions, sources: Sequence[str], user: str | None, password: str | None
) -> StreamOptions:
    """Options with the login that a command line gives for its only source.

    Raises:
        OptionError: A password has no user beside it, the user cannot be one, or the source has no logins.
        ConfigError: The password cannot be read.
    """
    if user is None:
        if password is not None:
            raise OptionError("--password has no --user beside it")
        return options
    check_user(user)
    if any(not source.lower().startswith(tuple(f"{one}://" for one in _WITH_LOGIN)) for source in sources):
        known = ", ".join(f"{one}://" for one in _WITH_LOGIN)
        raise OptionError(f"--user is for a camera at {known}, and SOURCE is none")
    return replace(options, user=user, password=None if password is None else read_secret(password))


def check_user(user: str) -> None:
    """Refuse what no camera can take for a user (RFC 7617: no colon).

    Raises:
        OptionError: It has a colon or a control character, or is empty.
    """
    if not user or ":" in user or any(ord(letter) < 32 or ord(letter) == 127 for letter in user):
        raise OptionError(
            "a user is empty or has a colon or control character: give the password beside it, by password"
        )
