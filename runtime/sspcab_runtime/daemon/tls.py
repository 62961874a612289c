"""Whom the daemon believes over TLS, as a client."""

from __future__ import annotations

import ssl
from pathlib import Path

from sspcab_edge.errors import ConfigError
from sspcab_edge.local_path import local_path

__all__ = ["tls_context"]


def tls_context(ca: str | None, base: Path) -> ssl.SSLContext:
    """A context that verifies by a file of authorities, relative to ``base``, or by the system's.

    Raises:
        ConfigError: The file cannot be read, or holds no certificates.
    """
    file = None if ca is None else base / local_path(ca)
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        none = isinstance(error, ssl.SSLError)
        reason = "it holds no certificates" if none else getattr(error, "strerror", None) or error
        raise ConfigError(f"ca: {file} cannot be used: {reason}") from error
