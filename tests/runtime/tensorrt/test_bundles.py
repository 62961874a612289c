"""A bundle's TensorRT artifacts made ready: plans, replayed packs, attestations; and machines that cannot."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sspcab_edge.bundle import Bundle, replace_manifest
from sspcab_edge.errors import EngineError, GateError, MissingPackageError, OptionError
from sspcab_runtime.attestation import read_attestation
from sspcab_runtime.engines.tensorrt import TensorRtEngine, importing, prepare_bundle
from sspcab_runtime.engines.tensorrt.importing import can_build


def test_builds_replays_and_attests(trt: Any, cuda: Any, tensorrt_bundle: Bundle) -> None:
    told: list[tuple[str, str, int, int]] = []
    (done,) = prepare_bundle(
        tensorrt_bundle,
        device=(trt, cuda),
        progress=lambda artifact, what, n, of: told.append((artifact.name, what, n, of)),
    )
    assert done.artifact.name == "tensorrt-fp32"
    assert done.plan is not None
    assert done.plan.is_file()
    assert done.built
    assert done.size_bytes > 0
    assert done.reason is None
    assert done.version == "10.3.0"
    assert done.device is not None
    assert done.device.startswith("Pretend Orin (sm_87")
    assert done.parity is not None
    assert done.parity.passed
    assert done.parity.engine == "tensorrt 10.3.0"
    assert told[0] == ("tensorrt-fp32", "Building", 0, 2)
    assert told[-1] == ("tensorrt-fp32", "replaying", 12, 12)
    assert cuda.holds_nothing()
    manifest = tensorrt_bundle.manifest
    path = tensorrt_bundle.file(done.artifact.files[0])
    with TensorRtEngine(
        path, manifest.inputs, manifest.outputs, precision="fp32", device=(trt, cuda)
    ) as engine:
        assert read_attestation(tensorrt_bundle, done.artifact, engine) is not None
    (again,) = prepare_bundle(tensorrt_bundle, device=(trt, cuda), precisions=["fp32"])
    assert not again.built


def test_other_verdicts_do_not_pass_the_gate(
    trt: Any, cuda: Any, tensorrt_bundle: Bundle, network: Any
) -> None:
    def off(frames: Any) -> dict[str, Any]:
        scores, maps = network(frames)
        return {"score": np.float32(1) - scores, "map": maps}

    trt.NETWORKS["tiny"] = off
    with pytest.raises(GateError, match=r"tensorrt-fp32 on tensorrt 10.3.0 does not give the source's"):
        prepare_bundle(tensorrt_bundle, device=(trt, cuda))
    assert cuda.holds_nothing()


def test_a_bundle_without_such_an_artifact(bundle_path: Any, tensorrt_bundle: Bundle) -> None:
    with pytest.raises(OptionError, match=r"no artifact for tensorrt-int8: it has .*tensorrt-fp32"):
        prepare_bundle(tensorrt_bundle, precisions=["int8"])
    others = tuple(a for a in tensorrt_bundle.manifest.artifacts if a.target != "tensorrt")
    bare = replace_manifest(
        tensorrt_bundle, msgspec.structs.replace(tensorrt_bundle.manifest, artifacts=others)
    )
    with pytest.raises(OptionError, match="no artifact for tensorrt: it has"):
        prepare_bundle(bare)


def test_without_the_package(tensorrt_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    (done,) = prepare_bundle(tensorrt_bundle)
    assert done.plan is None
    assert done.parity is None
    assert done.reason is not None
    assert done.reason.startswith("no plan was built here (tensorrt is not installed")
    assert done.reason.endswith(f"with sspcab-export {tensorrt_bundle.path} --target tensorrt")
    with pytest.raises(MissingPackageError):
        prepare_bundle(tensorrt_bundle, require_plan=True)


def test_without_a_gpu(trt: Any, tensorrt_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_cuda() -> None:
        raise EngineError("no CUDA device: no NVIDIA driver")

    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr(importing, "open_cuda", no_cuda)
    assert can_build() == "no CUDA device: no NVIDIA driver"
    (done,) = prepare_bundle(tensorrt_bundle)
    assert done.reason is not None
    assert "no CUDA device" in done.reason
    with pytest.raises(EngineError, match="no CUDA device"):
        prepare_bundle(tensorrt_bundle, require_plan=True)


def test_with_both(trt: Any, cuda: Any, tensorrt_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setattr(importing, "open_cuda", lambda: cuda)
    assert can_build() is None
    assert prepare_bundle(tensorrt_bundle, require_plan=True)[0].built


def test_a_command_without_a_gpu_ends_with_one_line(
    tensorrt_bundle: Bundle, folder: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a TensorRT that kills its process when it is called without CUDA, as the real one does."""
    reason = importing.can_build() or ""
    if not reason:
        pytest.skip("this machine has TensorRT and a GPU")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "fake"), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_TENSORRT_ABORTS", "1")
    done = command("sspcab_runtime.cli", tensorrt_bundle.path, folder, "--backend", "tensorrt")
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("sspcab-run: no CUDA device: ")
    assert done.stderr.count("\n") == 1
