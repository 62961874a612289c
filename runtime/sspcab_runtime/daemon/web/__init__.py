"""Page, API, metrics and health, for people and programs on this machine."""

from sspcab_runtime.daemon.web.server import WebServer

__all__ = ["WebServer"]
