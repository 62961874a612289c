"""Where events are kept until every sink has acknowledged them, and for a while after."""

from sspcab_runtime.daemon.store.database import left_open
from sspcab_runtime.daemon.store.outbox import Store

__all__ = ["Store", "left_open"]
