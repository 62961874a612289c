"""Settings and fixtures for every test. Imports neither torch nor an engine by itself."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from hypothesis import settings

from definitions.running import Array, Arrays, RunGraph
from sspcab_runtime.engines.openvino_engine import import_openvino

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime reads it once, when it is first imported
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # torch reads it likewise; spinning threads starve a shared machine

# what a shell started in the background ignores Ctrl-C, and so would all that the tests start
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("shared machine", deadline=None)  # how fast an example runs is no matter of tests
settings.load_profile("shared machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: of two that share the files, neither is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in every run."""
    return np.random.default_rng(20211109)


@pytest.fixture(scope="session")
def run_onnxruntime() -> RunGraph:
    """Run a graph on ONNX Runtime's CPU provider."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

    def run(model: bytes, inputs: Arrays) -> list[Array]:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        return list(session.run(None, dict(inputs)))

    return run


@pytest.fixture(scope="session")
def run_openvino() -> RunGraph:
    """Run a graph on OpenVINO's CPU plugin in float32, whatever this CPU would prefer."""
    core = import_openvino().Core()

    def run(model: bytes, inputs: Arrays) -> list[Array]:
        compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        results = compiled(dict(inputs))
        return [np.array(results[port]) for port in compiled.outputs]

    return run


@pytest.fixture(params=["onnxruntime", "openvino"])
def run_graph(request: pytest.FixtureRequest) -> RunGraph:
    """Run a graph on each engine that is installed."""
    run: RunGraph = request.getfixturevalue(f"run_{request.param}")
    return run
