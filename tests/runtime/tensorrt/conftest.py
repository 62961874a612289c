"""A pretend TensorRT and GPU for what needs neither to be shown: buffers, graphs, caches, errors."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.bundle import Bundle, replace_manifest
from sspcab_edge.ports import Port, whole_frame_ports
from sspcab_runtime.engines.tensorrt import TensorRtEngine
from sspcab_runtime.engines.tensorrt.plan_cache import PlanCache

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Load = Callable[..., TensorRtEngine]

FAKE = Path(__file__).parent / "fake"
HEIGHT, WIDTH = 24, 32


def _load_fake() -> Any:
    specification = importlib.util.spec_from_file_location("pretend_tensorrt", FAKE / "tensorrt.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def pretend() -> Any:
    """The pretend module, loaded once: the first logger of a process is the only one."""
    return _load_fake()


@pytest.fixture
def trt(pretend: Any, network: Callable[[Pixels], tuple[Floats, Floats]]) -> Iterator[Any]:
    """The pretend module without faults, computing the tests' tiny network."""
    pretend.NETWORKS["tiny"] = lambda frames: dict(zip(("score", "map"), network(frames), strict=True))
    kinds = pretend.DataType
    pretend.TENSORS["tiny"] = (
        [pretend.Tensor("frames", kinds.UINT8, (-1, HEIGHT, WIDTH, 3))],
        [
            pretend.Tensor("score", kinds.FLOAT, (-1,)),
            pretend.Tensor("map", kinds.FLOAT, (-1, HEIGHT, WIDTH)),
        ],
    )
    pretend.FAULTS.clear()
    pretend.CALLS.clear()
    pretend.__version__ = "10.3.0"
    yield pretend
    pretend.FAULTS.clear()


@pytest.fixture
def cuda(trt: Any) -> Any:
    """The pretend GPU that the pretend module computes on."""
    trt.CUDA = trt.FakeCuda()
    return trt.CUDA


@pytest.fixture
def ports() -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Inputs and outputs of the tiny network."""
    return whole_frame_ports(HEIGHT, WIDTH, (HEIGHT, WIDTH))


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """What stands for the typed ONNX; the pretend parser looks for the input's name alone."""
    path = tmp_path / "model.fp32.onnx"
    path.write_bytes(b"frames" * 100)
    return path


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    """The folder of plans."""
    return tmp_path / "plans"


@pytest.fixture
def load(
    trt: Any, cuda: Any, onnx_file: Path, plans: Path, ports: tuple[tuple[Port, ...], tuple[Port, ...]]
) -> Iterator[Load]:
    """Open an engine; in the end all are closed and the GPU holds nothing."""
    engines = []

    def open_(**changes: Any) -> TensorRtEngine:
        options: dict[str, Any] = {
            "path": onnx_file,
            "inputs": ports[0],
            "outputs": ports[1],
            "precision": "fp32",
            "cache": PlanCache(plans),
            "device": (trt, cuda),
        }
        engines.append(TensorRtEngine(**{**options, **changes}))
        return engines[-1]

    yield open_
    cuda.faults.clear()
    for engine in engines:
        engine.close()


@pytest.fixture
def tensorrt_bundle(bundle_path: Path) -> Bundle:
    """The tiny bundle, with its fp32 graph as a TensorRT artifact too."""
    bundle = Bundle.open(bundle_path)
    manifest = bundle.manifest
    first = next(artifact for artifact in manifest.artifacts if artifact.target == "onnx")
    added = msgspec.structs.replace(first, target="tensorrt")
    return replace_manifest(bundle, msgspec.structs.replace(manifest, artifacts=(*manifest.artifacts, added)))
