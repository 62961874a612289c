"""What every part of the manifest is."""

from __future__ import annotations

import msgspec

__all__ = ["MANIFEST_NAME", "Record"]

MANIFEST_NAME = "manifest.json"


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the manifest: immutable, and no key too many."""
