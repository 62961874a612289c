"""What a manifest is refused for, beyond its types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sspcab_edge.errors import BundleError
from sspcab_edge.manifest import decode_manifest
from sspcab_edge.ports import CONTRACT_VERSION


@pytest.mark.parametrize(("key", "said"), [("contract", "graph contract 2"), ("schema", "schema 2")])
def test_another_version_is_refused_and_said(key: str, said: str) -> None:
    plain: dict[str, Any] = json.loads((Path(__file__).parent / "manifest.json").read_text())
    assert plain["contract"] == CONTRACT_VERSION
    assert decode_manifest(json.dumps(plain).encode()).contract == CONTRACT_VERSION
    plain[key] = 2
    with pytest.raises(BundleError, match=f"{said}, expected 1"):
        decode_manifest(json.dumps(plain).encode())
