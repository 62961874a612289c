"""Front-ends: one file per kind, opened through one table."""

from sspcab_runtime.frontends.table import FRONT_ENDS, open_front_end, open_unit

__all__ = ["FRONT_ENDS", "open_front_end", "open_unit"]
