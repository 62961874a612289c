"""Checkpoints made by the plain second definition, and a few pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from sspcab_export.pictures import builtin_samples


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """Colour photographs of another size than the graph's input."""
    paths = {sample.path.stem: sample.path for sample in builtin_samples()}
    return [paths["coffee-1"], paths["chelsea-2"], paths["rocket-1"]]
