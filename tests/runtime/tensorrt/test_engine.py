"""The engine against a pretend TensorRT and GPU: what it copies, captures, refuses and gives back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.errors import EngineError, InputError, OptionError
from sspcab_edge.ports import Port, whole_frame_ports
from sspcab_runtime.engines.tensorrt import PlanOptions, TensorRtEngine
from sspcab_runtime.engines.tensorrt.cuda import CudaError

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Network = Callable[[Pixels], tuple[Floats, Floats]]
Load = Callable[..., TensorRtEngine]


def check(engine: TensorRtEngine, frames: Pixels, network: Network) -> None:
    outputs = engine.infer({"frames": frames})
    scores, maps = network(frames)
    assert np.array_equal(outputs["score"], scores)
    assert np.array_equal(outputs["map"], maps)


def test_gives_what_the_network_gives_whatever_n_comes_next(
    load: Load, frames: Pixels, network: Network
) -> None:
    engine = load()
    for start, batch in enumerate((1, 3, 1, 1, 1, 4, 2, 2)):
        check(engine, frames[start : start + batch], network)


def test_says_what_it_is(load: Load, tmp_path: Path) -> None:
    (tmp_path / "driver/nvidia").mkdir(parents=True)
    text = "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build"
    (tmp_path / "driver/nvidia/version").write_text(text)
    engine = load(proc=tmp_path)
    assert engine.backend == "tensorrt"
    assert engine.version == "10.3.0"
    assert engine.device == "Pretend Orin (sm_87, CUDA 12.6, runtime 12.6, driver 540.4.0)"
    assert load().device == "Pretend Orin (sm_87, CUDA 12.6, runtime 12.6)"
    assert engine.max_batch == 4
    assert set(engine.stages_ms) == {"copy_in", "infer", "copy_out"}
    assert load(options=PlanOptions(max_batch=2)).max_batch == 2


def test_what_was_proved_holds_for_one_plan(load: Load) -> None:
    """Builds are not reproducible: another plan may round otherwise, and has to prove itself."""
    first, again = load(), load()
    other = load(options=PlanOptions(max_batch=2))
    assert first.settings == again.settings == f"plan {first.prepared.sha256}"
    assert other.settings != first.settings


def test_takes_no_precision_hint(load: Load) -> None:
    with pytest.raises(OptionError, match="tensorrt has no precision hint 'f16': expected none"):
        load(hint="f16")


def test_is_captured_in_a_graph_from_the_first_frame_on(
    load: Load, cuda: Any, trt: Any, frames: Pixels, network: Network
) -> None:
    engine = load()
    assert engine.captured
    enqueued = trt.CALLS.count("execute")
    cuda.calls.clear()
    check(engine, frames[:1], network)
    check(engine, frames[1:2], network)
    assert cuda.calls == ["launch", "synchronize"] * 2, "one launch and one wait a frame"
    assert trt.CALLS.count("execute") == enqueued
    check(engine, frames[:3], network)
    assert not engine.captured
    check(engine, frames[3:6], network)
    assert engine.captured
    assert len(cuda.graphs) == 1


@pytest.mark.parametrize("step", ["begin_capture", "end_capture", "copy_in"])
def test_runs_without_a_graph_where_none_can_be_captured(
    load: Load, cuda: Any, frames: Pixels, network: Network, step: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = load()
    check(engine, frames[:2], network)
    cuda.faults[step] = (900, "cudaErrorStreamCaptureUnsupported")
    caplog.set_level(logging.INFO)
    if step == "copy_in":
        with pytest.raises(EngineError, match="cudaErrorStreamCaptureUnsupported"):
            engine.infer({"frames": frames[:2]})
        cuda.faults.clear()
    else:
        check(engine, frames[:2], network)
    assert "runs without a CUDA graph" in caplog.text
    assert not engine.captured
    cuda.faults.clear()
    for _ in range(3):
        check(engine, frames[4:6], network)
    assert not engine.captured
    assert cuda.captures == {}


def test_outputs_outlive_the_next_call_and_the_engine(load: Load, frames: Pixels, network: Network) -> None:
    engine = load()
    first = engine.infer({"frames": frames[:1]})
    engine.infer({"frames": frames[5:6]})
    engine.close()
    assert np.array_equal(first["map"], network(frames[:1])[1])


@pytest.mark.parametrize("batch", [5, 12])
def test_more_than_the_profile_holds_is_said(
    load: Load, frames: Pixels, network: Network, batch: int
) -> None:
    engine = load()
    with pytest.raises(InputError, match=f"input frames has N = {batch}, expected 1 to 4: the plan of"):
        engine.infer({"frames": frames[:batch]})
    check(engine, frames[:4], network)


def test_a_fixed_batch_needs_no_profile(
    load: Load, trt: Any, frames: Pixels, network: Network, onnx_file: Path
) -> None:
    kinds = trt.DataType
    trt.TENSORS["tiny"] = (
        [trt.Tensor("frames", kinds.UINT8, (2, 24, 32, 3))],
        [trt.Tensor("score", kinds.FLOAT, (2,)), trt.Tensor("map", kinds.FLOAT, (2, 24, 32))],
    )
    inputs, outputs = whole_frame_ports(24, 32, (24, 32), batch=2)
    engine = load(inputs=inputs, outputs=outputs)
    assert engine.max_batch == 2
    check(engine, frames[:2], network)
    with pytest.raises(InputError, match=r"has shape \(1, 24, 32, 3\), expected \(2, 24, 32, 3\)"):
        engine.infer({"frames": frames[:1]})


def test_closing_gives_everything_back_and_twice_is_fine(load: Load, cuda: Any, frames: Pixels) -> None:
    engine = load()
    engine.infer({"frames": frames[:1]})
    assert len(cuda.device) == len(cuda.pinned) == 3
    engine.close()
    assert cuda.holds_nothing()
    engine.close()
    with pytest.raises(EngineError, match=r"the tensorrt engine of .* is closed"):
        engine.infer({"frames": frames[:1]})


@pytest.mark.parametrize("limit", [0, 3_000, 10_000, 14_000])
def test_too_little_memory_is_said_and_nothing_is_left_behind(load: Load, cuda: Any, limit: int) -> None:
    cuda.limit = limit
    with pytest.raises(
        CudaError, match=r"cannot allocate .*: cudaErrorMemoryAllocation \(2\): out of memory"
    ):
        load()
    assert cuda.holds_nothing()


@pytest.mark.parametrize("step", ["allocate_host", "create_stream"])
def test_what_cannot_be_allocated_leaves_nothing_behind(load: Load, cuda: Any, step: str) -> None:
    cuda.faults[step] = (2, "cudaErrorMemoryAllocation")
    with pytest.raises(EngineError, match=f"{step} failed: cudaErrorMemoryAllocation"):
        load()
    assert cuda.holds_nothing()


@pytest.mark.parametrize(
    ("fault", "value", "message"),
    [
        ("context", "out of memory", "tensorrt has no memory to run .*: out of memory"),
        ("address", True, "tensorrt refuses the memory of frames"),
        ("execute", "IExecutionContext::enqueueV3: boom", "tensorrt failed on .*enqueueV3: boom"),
        ("runtime_error", "pybind says no", "tensorrt failed on .*: pybind says no"),
    ],
)
def test_what_tensorrt_refuses_while_loading(
    load: Load, trt: Any, cuda: Any, fault: str, value: object, message: str
) -> None:
    trt.FAULTS[fault] = value
    with pytest.raises(EngineError, match=message):
        load()
    assert cuda.holds_nothing()


def test_a_failed_frame_does_not_end_the_engine(
    load: Load, trt: Any, frames: Pixels, network: Network
) -> None:
    engine = load()
    trt.FAULTS["execute"] = "boom"
    with pytest.raises(EngineError, match=r"tensorrt failed on .*: boom"):
        engine.infer({"frames": frames[:2]})
    trt.FAULTS.clear()
    check(engine, frames[:2], network)


def test_a_sticky_error_ends_the_engine_and_says_restart(load: Load, cuda: Any, frames: Pixels) -> None:
    engine = load()
    for step in ("synchronize", "copy_in", "launch", "free", "free_host", "destroy_graph", "destroy_stream"):
        cuda.faults[step] = (700, "cudaErrorIllegalAddress")
    with pytest.raises(CudaError, match=r"cudaErrorIllegalAddress \(700\).*in this process: restart it"):
        engine.infer({"frames": frames[:1]})
    cuda.calls.clear()
    with pytest.raises(EngineError, match=r"is broken: .*cudaErrorIllegalAddress"):
        engine.infer({"frames": frames[:1]})
    assert cuda.calls == [], "the GPU is not asked again"
    engine.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "images"}, r"it has inputs \['frames'\], expected \['images'\]"),
        ({"dtype": "float32"}, "input frames is uint8, expected float32"),
        ({"shape": ("N", 24, 33, 3)}, r"input frames has shape \(-1, 24, 32, 3\), expected"),
        ({"shape": ("N", "H", 32, 3)}, "only its first size, N, may be free|has shape"),
    ],
)
def test_other_ports_are_refused_before_the_build(
    load: Load,
    trt: Any,
    ports: tuple[tuple[Port, ...], tuple[Port, ...]],
    change: dict[str, object],
    message: str,
) -> None:
    port = ports[0][0]
    other = Port(**{**{field: getattr(port, field) for field in port.__struct_fields__}, **change})
    with pytest.raises(EngineError, match=message):
        load(inputs=[other])
    assert "build" not in trt.CALLS


def test_all_bad_nodes_are_named(load: Load, trt: Any) -> None:
    unsupported, invalid = trt.ErrorCode.UNSUPPORTED_NODE, trt.ErrorCode.INVALID_NODE
    trt.FAULTS["parse"] = [
        ("uniq", "Unique", unsupported, "false"),
        ("conv1", "Conv", invalid, "Kernel weight\ndimension failed"),
    ]
    expected = (
        r"tensorrt cannot load .*model.fp32.onnx: node 'uniq' \(Unique\): TensorRT has no such operator; "
        r"node 'conv1' \(Conv\): Kernel weight dimension failed"
    )
    with pytest.raises(EngineError, match=expected):
        load()


@pytest.mark.parametrize(
    ("fault", "value", "message"),
    [
        ("build", "Could not find any implementation for node conv1", "the build failed: Could not find any"),
        ("profile", -1, "it refuses the profile"),
        ("shape", [], r"the profile of frames is \[\], expected \[\(1, 24, 32, 3\)"),
        ("warning", "UINT8 zero_point only on DLA. Defaulting to INT8", "upper half of each range saturates"),
        ("build_warning", "UINT8 zero_point only on DLA", "upper half of each range saturates"),
    ],
)
def test_what_tensorrt_refuses_to_build(
    load: Load, trt: Any, plans: Path, fault: str, value: object, message: str
) -> None:
    trt.FAULTS[fault] = value
    with pytest.raises(EngineError, match=message):
        load()
    assert list(plans.glob("*.plan")) == [], "nothing is cached"


def test_progress_is_told_and_can_stop_the_build(load: Load, trt: Any) -> None:
    told: list[tuple[str, int, int]] = []
    load(progress=lambda *step: told.append(step))
    assert told == [("Building", 0, 2), ("Building", 1, 2), ("Building", 2, 2)]

    def interrupted(phase: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(progress=interrupted, options=PlanOptions(max_batch=3))


def test_builds_without_a_progress_monitor(load: Load, trt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(trt, "IProgressMonitor")
    assert load(progress=lambda *step: None).prepared.built


@pytest.mark.parametrize("damage", [b"", b"nonsense" * 99])
def test_a_damaged_graph_is_an_engine_error(load: Load, onnx_file: Path, damage: bytes) -> None:
    onnx_file.write_bytes(damage)
    with pytest.raises(EngineError, match="tensorrt cannot load"):
        load()
    onnx_file.unlink()
    with pytest.raises(EngineError, match=r"tensorrt cannot load .*No such file"):
        load()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_batch": 2}, r"profile is \(2, 1, 4\), expected 1 <= min <= opt <= max"),
        ({"opt_batch": 5}, "expected 1 <= min <= opt <= max"),
        ({"min_batch": 0}, "expected 1 <= min"),
        ({"workspace_mb": 0}, "the workspace is 0 MiB"),
        ({"optimization_level": 6}, "the optimization level is 6, expected 0 to 5"),
    ],
)
def test_options_that_contradict_themselves(values: dict[str, int], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        PlanOptions(**values)
