"""Triggered mode: parts on a line, each with exactly one answer in time."""

from sspcab_runtime.daemon.triggered.ledger import Ledger
from sspcab_runtime.daemon.triggered.queue import PartQueue

__all__ = ["Ledger", "PartQueue"]
