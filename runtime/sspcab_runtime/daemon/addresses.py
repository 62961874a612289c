"""Addresses to listen on and to call: which of them stay on this machine."""

from __future__ import annotations

import ipaddress

from sspcab_edge.errors import ConfigError
from sspcab_edge.shown_address import shown_text

__all__ = ["is_loopback", "split_listen"]


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, without asking anybody."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def split_listen(listen: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT`` or ``[IPV6]:PORT``; port 0 lets the system choose.

    Raises:
        ConfigError: It is neither.
    """
    host, _, port = listen.rpartition(":")
    if not host or set(host) & set("@/?#") or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{shown_text(listen)!r} is no HOST:PORT")
    return host.strip("[]"), int(port)
