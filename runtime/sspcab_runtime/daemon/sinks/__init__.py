"""Where events go: each sink is owed every event, in order, until it acknowledges."""

from sspcab_runtime.daemon.sinks.runner import SinkRunner
from sspcab_runtime.daemon.sinks.table import make_sinks, open_sinks

__all__ = ["SinkRunner", "make_sinks", "open_sinks"]
