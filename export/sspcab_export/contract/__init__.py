"""The graph contract around any network: raw frames before it, score and map behind it."""

from sspcab_export.contract.inputs import InputSpec
from sspcab_export.contract.scores import Recipe, parse_recipe

__all__ = ["InputSpec", "Recipe", "parse_recipe"]
