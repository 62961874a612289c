"""Sources: where frames come from, opened through one table of URI schemes."""

from sspcab_runtime.sources.table import SOURCES, open_source

__all__ = ["SOURCES", "open_source"]
