"""Attestations hold for exactly what they were made for."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from sspcab_edge.bundle import Bundle
from sspcab_edge.manifest import Artifact
from sspcab_edge.testing import FakeEngine
from sspcab_runtime.attestation import read_attestation, record_attestation
from sspcab_runtime.cache import cache_folder, write_atomically


class Engine(FakeEngine):
    """A fake whose identity can be chosen."""

    def __init__(
        self,
        backend: str = "onnxruntime",
        version: str = "1.32",
        device: str = "CPU A",
        settings: str = "",
    ) -> None:
        super().__init__(4, 4)
        self.backend, self.version, self.device, self.settings = backend, version, device, settings


@dataclass(frozen=True)
class Case:
    bundle: Bundle
    artifact: Artifact
    engine: Engine


@pytest.fixture
def case(pristine: Path) -> Case:
    bundle = Bundle.open(pristine)
    return Case(bundle, bundle.manifest.artifacts[0], Engine())


def record(case: Case) -> Path:
    path = record_attestation(case.bundle, case.artifact, case.engine, case.artifact.parity)
    assert path is not None
    return path


def found(case: Case) -> bool:
    return read_attestation(case.bundle, case.artifact, case.engine) is not None


def test_is_read_back(case: Case, cache: Path) -> None:
    assert not found(case)
    path = record(case)
    assert path.parent == cache / "attestations"
    assert found(case)
    attestation = read_attestation(case.bundle, case.artifact, Engine())
    assert attestation is not None
    assert attestation.parity == case.artifact.parity
    assert list(cache.rglob(".*")) == [], "nothing half-written stays"


@pytest.mark.parametrize("what", ["digest", "artifact", "backend", "version", "device", "settings"])
def test_holds_for_nothing_else(case: Case, what: str) -> None:
    record(case)
    others = {
        "digest": replace(case, bundle=replace(case.bundle, digest="f" * 64)),
        "artifact": replace(case, artifact=case.bundle.manifest.artifacts[1]),
        "backend": replace(case, engine=Engine(backend="openvino")),
        "version": replace(case, engine=Engine(version="1.33")),
        "device": replace(case, engine=Engine(device="CPU B")),
        "settings": replace(case, engine=Engine(settings="bf16")),
    }
    assert not found(others[what])
    assert found(case)


@pytest.mark.parametrize("what", ["cut", "empty", "other key", "not passed", "more keys"])
def test_a_file_that_was_tampered_with_counts_for_nothing(case: Case, what: str) -> None:
    path = record(case)
    data = path.read_bytes()
    plain = msgspec.json.decode(data)
    if what == "cut":
        data = data[:100]
    elif what == "empty":
        data = b""
    else:
        if what == "other key":
            plain["key"]["device"] = "CPU B"
        if what == "not passed":
            plain["parity"]["passed"] = False
        if what == "more keys":
            plain["extra"] = 1
        data = msgspec.json.encode(plain)
    path.write_bytes(data)
    assert not found(case)
    record(case)
    assert found(case), "and it is replaced by the next one"


def test_an_engine_without_settings_has_none(case: Case) -> None:
    """The protocol does not ask for them."""
    record(case)
    plain = FakeEngine(4, 4)
    assert not hasattr(plain, "settings")
    plain.backend, plain.version, plain.device = "onnxruntime", "1.32", "CPU A"
    assert read_attestation(case.bundle, case.artifact, plain) is not None


def test_a_failure_is_never_attested(case: Case) -> None:
    failed = msgspec.structs.replace(case.artifact.parity, passed=False)
    with pytest.raises(ValueError, match="did not pass"):
        record_attestation(case.bundle, case.artifact, case.engine, failed)


def test_a_cache_that_cannot_be_written_is_a_warning(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_the_way))
    with caplog.at_level(logging.WARNING):
        written = record_attestation(case.bundle, case.artifact, case.engine, case.artifact.parity)
    assert written is None
    assert "was proved but cannot be remembered" in caplog.text
    assert not found(case)


def test_the_cache_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == Path(os.environ["XDG_CACHE_HOME"]) / "sspcab-edge"
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == tmp_path / ".cache" / "sspcab-edge"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(path, b"third")
    assert [p.name for p in path.parent.iterdir()] == ["file"]
