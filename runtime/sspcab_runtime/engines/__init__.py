"""Engines: one file per backend, opened through one table."""

from sspcab_runtime.engines.table import (
    ENGINES,
    backends_for,
    choose,
    engine_class,
    installed,
    installed_backends,
    load_engine,
    open_engine,
)

__all__ = [
    "ENGINES",
    "backends_for",
    "choose",
    "engine_class",
    "installed",
    "installed_backends",
    "load_engine",
    "open_engine",
]
