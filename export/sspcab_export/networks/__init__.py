"""Networks that nobody here knows, from every kind of file they are kept in: one file per kind."""

from sspcab_export.networks.base import Expected, Network

__all__ = ["Expected", "Network"]
