"""The exporter: a trained checkpoint in, a verified bundle out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sspcab_export.front_end_options import FrontEndOptions
    from sspcab_export.host_options import HostOptions
    from sspcab_export.options import ExportOptions
    from sspcab_export.pipeline import Exported, Progress, export, export_with
    from sspcab_export.recipe_file import Recipe, read_recipe

__all__ = [
    "ExportOptions",
    "Exported",
    "FrontEndOptions",
    "HostOptions",
    "Progress",
    "Recipe",
    "export",
    "export_with",
    "read_recipe",
]

_HOMES = {
    "ExportOptions": "options",
    "FrontEndOptions": "front_end_options",
    "HostOptions": "host_options",
    "Recipe": "recipe_file",
    "read_recipe": "recipe_file",
}


def __getattr__(name: str) -> object:
    """Import the pipeline, and torch with it, only when something of it is used."""
    if name in __all__:
        return getattr(import_module(f"sspcab_export.{_HOMES.get(name, 'pipeline')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
