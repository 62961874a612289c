"""NVIDIA's real parser and builder (TensorRT-RTX, no GPU needed) on graphs like ours, through our build path.

This shows that graphs parse and build; it runs nothing, and TensorRT on a Jetson is another version.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sspcab_edge.errors import EngineError
from sspcab_edge.ports import Port
from sspcab_runtime.engines.tensorrt import BuiltPlan, PlanOptions, build_plan, check_with, import_checker
from sspcab_runtime.engines.tensorrt.messages import HARMLESS, messages_of
from sspcab_runtime.engines.tensorrt.plan import _add_profile

FRAMES = Port(name="frames", dtype="uint8", shape=("N", 24, 32, 3), layout="NHWC", colour="RGB")
SCORE = Port(name="score", dtype="float32", shape=("N",), layout="N")
Check = Callable[..., BuiltPlan]
onnx: Any = None


@pytest.fixture(scope="module", autouse=True)
def _onnx() -> None:
    global onnx
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: no graph to check")


@pytest.fixture(scope="module")
def rtx() -> Any:
    """The module."""
    module = import_checker()
    if module is None:
        pytest.skip("tensorrt_rtx is not installed: no real parser and builder to check with")
    return module


@pytest.fixture
def check(rtx: Any) -> Check:
    """Parse and build, as the exporter does."""

    def run(graph: bytes, **options: Any) -> BuiltPlan:
        return check_with(rtx, graph, [FRAMES], outputs=[SCORE], **options)

    return run


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    return onnx.helper.make_node(operator, inputs, outputs, **attributes)


def graph(nodes: Sequence[Any], constants: dict[str, Any], *, opset: int = 17) -> bytes:
    """uint8 frames (N, 24, 32, 3) -> score (N,)."""
    helper, kinds = onnx.helper, onnx.TensorProto
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("frames", kinds.UINT8, ["N", 24, 32, 3])],
        [helper.make_tensor_value_info("score", kinds.FLOAT, ["N"])],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return bytes(helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString())


def front(kind: str = "FLOAT") -> list[Any]:
    return [
        node("Cast", ["frames"], ["f"], to=getattr(onnx.TensorProto, kind)),
        node("Transpose", ["f"], ["x"], perm=[0, 3, 1, 2]),
    ]


def score(of: str) -> Any:
    return node("ReduceMax", [of], ["score"], axes=[1, 2, 3], keepdims=0)


def weights() -> Any:
    return np.random.default_rng(3).normal(size=(4, 3, 3, 3)).astype(np.float32)


def conv(inputs: Sequence[str], name: str = "conv1") -> Any:
    return node("Conv", inputs, ["c"], name=name, pads=[1, 1, 1, 1])


def float_graph() -> bytes:
    return graph([*front(), conv(["x", "w"]), score("c")], {"w": weights()})


def block_graph() -> bytes:
    """The folded block with its attention branch, and the separable mean of the score head."""
    nodes = [
        *front(),
        node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1]),
        node("Conv", ["h", "m"], ["b"], pads=[2, 2, 2, 2], dilations=[4, 4]),
        node("Relu", ["b"], ["r"]),
        node("GlobalAveragePool", ["r"], ["p"]),
        node("Flatten", ["p"], ["v"]),
        node("Gemm", ["v", "down"], ["d"]),
        node("Relu", ["d"], ["e"]),
        node("Gemm", ["e", "up"], ["u"]),
        node("Sigmoid", ["u"], ["s"]),
        node("Unsqueeze", ["s", "axes"], ["g"]),
        node("Mul", ["r", "g"], ["o"]),
        node("AveragePool", ["o"], ["a"], kernel_shape=[5, 1]),
        node("Resize", ["a", "", "scales"], ["z"], mode="linear"),
        score("z"),
    ]
    rng = np.random.default_rng(5)
    return graph(
        nodes,
        {
            "w": weights(),
            "m": rng.normal(size=(4, 4, 2, 2)).astype(np.float32),
            "down": rng.normal(size=(4, 2)).astype(np.float32),
            "up": rng.normal(size=(2, 4)).astype(np.float32),
            "axes": np.array([2, 3], np.int64),
            "scales": np.array([1, 1, 2, 2], np.float32),
        },
    )


def fp16_graph() -> bytes:
    nodes = [*front("FLOAT16"), conv(["x", "w"]), node("Cast", ["c"], ["y"], to=1), score("y")]
    return graph(nodes, {"w": weights().astype(np.float16)})


def int8_graph(zero: Any = np.int8(0), *, name: str = "quantise") -> bytes:  # noqa: B008
    """Q/DQ on activations, per-channel DQ on int8 weights, float bias."""
    nodes = [
        *front(),
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name=name),
        node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        node("DequantizeLinear", ["wq", "ws", "wz"], ["w"], axis=0),
        conv(["dq", "w", "bias"]),
        score("c"),
    ]
    return graph(
        nodes,
        {
            "scale": np.float32(2.01),
            "zero": zero,
            "wq": np.random.default_rng(3).integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
            "ws": np.array([0.01, 0.02, 0.03, 0.04], np.float32),
            "wz": np.zeros(4, np.int8),
            "bias": np.ones(4, np.float32),
        },
    )


GRAPHS: dict[str, Callable[[], bytes]] = {
    "float": float_graph,
    "block": block_graph,
    "fp16": fp16_graph,
    "int8 signed symmetric": int8_graph,
}


@pytest.mark.parametrize("name", list(GRAPHS))
def test_builds_without_a_warning(check: Check, name: str) -> None:
    built = check(GRAPHS[name]())
    assert built.plan.startswith(b"vtrt"), "an engine of TensorRT-RTX, and no plan for a Jetson"
    assert built.warnings == ()
    assert built.timing_cache is None
    assert built.seconds < 60


def test_builds_for_other_profiles_and_tells_its_progress(rtx: Any) -> None:
    told: list[tuple[str, int, int]] = []
    options = PlanOptions(min_batch=2, opt_batch=3, max_batch=8, workspace_mb=64, optimization_level=0)
    build_plan(rtx, float_graph(), options, [FRAMES], None, lambda *step: told.append(step))
    assert len(told) > 10
    assert all(0 <= done <= total for _, done, total in told)


def test_ctrl_c_stops_the_build(rtx: Any) -> None:
    def interrupted(phase: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(rtx, float_graph(), PlanOptions(), [FRAMES], None, interrupted)


def test_a_file_is_named_in_its_errors(rtx: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(float_graph())
    assert check_with(rtx, path, [FRAMES]).plan
    path.write_bytes(b"nonsense" * 99)
    with pytest.raises(EngineError, match=r"tensorrt cannot load .*model.onnx: .*Failed to parse the ONNX"):
        check_with(rtx, path, [FRAMES])
    path.write_bytes(b"")
    with pytest.raises(EngineError, match=r"tensorrt cannot load .*model.onnx: it is empty"):
        check_with(rtx, path, [FRAMES])


def test_all_unsupported_nodes_are_named(check: Check) -> None:
    nodes = [
        *front(),
        node("ReduceMax", ["x"], ["m"], axes=[1, 2, 3], keepdims=0),
        node("Unique", ["m"], ["u"], name="uniq"),
        node("Det", ["x"], ["d"], name="determinant"),
        node("Identity", ["u"], ["score"]),
    ]
    expected = (
        r"node 'uniq' \(Unique\): TensorRT has no such operator; "
        r"node 'determinant' \(Det\): TensorRT has no such operator"
    )
    with pytest.raises(EngineError, match=expected):
        check(graph(nodes, {}))


def test_a_wrong_shape_names_its_node(check: Check) -> None:
    bad = graph([*front(), conv(["x", "w"]), score("c")], {"w": weights()[:, :2]})
    with pytest.raises(EngineError, match=r"node 'conv1' \(Conv\): .*Kernel weight dimension failed"):
        check(bad)


def test_mixed_types_are_an_error_since_the_network_is_strongly_typed(check: Check) -> None:
    bad = graph([*front(), conv(["x", "w"]), score("c")], {"w": weights().astype(np.float16)})
    with pytest.raises(EngineError, match="conv1"):
        check(bad)


def test_a_transpose_before_the_cast_is_an_error(check: Check) -> None:
    nodes = [
        node("Transpose", ["frames"], ["t"], perm=[0, 3, 1, 2], name="turn"),
        node("Cast", ["t"], ["x"], to=1),
        score("x"),
    ]
    with pytest.raises(EngineError, match=r"node 'turn' \(Transpose\): .*UInt8"):
        check(graph(nodes, {}))


@pytest.mark.parametrize(
    ("zero", "message"),
    [
        (np.int8(3), r"node 'quantise' \(QuantizeLinear\): .*Non-zero zero point is not supported"),
        (np.uint8(128), r"node 'quantise' \(QuantizeLinear\): .*Non-zero zero point is not supported"),
        (np.uint8(0), "upper half of each range saturates: export int8 in the signed flavour"),
    ],
    ids=["asymmetric int8", "uint8 at 128", "uint8 at 0: a warning alone, and wrong results"],
)
def test_other_zero_points_are_refused(check: Check, zero: Any, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        check(int8_graph(zero))


def test_the_ports_have_to_be_the_graphs(rtx: Any) -> None:
    renamed = Port(name="images", dtype="uint8", shape=FRAMES.shape, layout="NHWC")
    with pytest.raises(EngineError, match=r"it has inputs \['frames'\], expected \['images'\]"):
        check_with(rtx, float_graph(), [renamed])
    larger = Port(name="frames", dtype="uint8", shape=("N", 24, 33, 3), layout="NHWC")
    with pytest.raises(EngineError, match=r"input frames has shape \(-1, 24, 32, 3\), expected"):
        check_with(rtx, float_graph(), [larger])
    other = Port(name="verdict", dtype="float32", shape=("N",), layout="N")
    with pytest.raises(EngineError, match=r"it has outputs \['score'\], expected \['verdict'\]"):
        check_with(rtx, float_graph(), [FRAMES], outputs=[other])


def test_a_profile_that_the_builder_refuses_is_an_error(rtx: Any) -> None:
    """Options cannot say min > max; the builder's own check, a -1, is heard all the same."""
    options = PlanOptions()
    object.__setattr__(options, "min_batch", 5)
    logger, _ = messages_of(rtx)
    builder = rtx.Builder(logger)
    with pytest.raises((EngineError, ValueError), match=r"profile|dimensions|MIN"):
        _add_profile(builder, builder.create_builder_config(), options, [FRAMES], "cannot load it")


def test_a_build_that_fails_after_parsing_is_told_with_its_reason(check: Check) -> None:
    nodes = [
        *front(),
        node("Reshape", ["x", "flat"], ["v"]),
        node("TopK", ["v", "k"], ["t", "i"], name="top", axis=1),
        node("ReduceMax", ["t"], ["score"], axes=[1], keepdims=0),
    ]
    large = graph(nodes, {"flat": np.array([0, -1], np.int64), "k": np.array([2000], np.int64)})
    assert check(large).plan, "2000 of 2304 are within the limit"
    nodes[1] = node("Concat", ["x", "x", "x"], ["xx"], axis=1)
    nodes.insert(2, node("Reshape", ["xx", "flat"], ["v"]))
    larger = graph(nodes, {"flat": np.array([0, -1], np.int64), "k": np.array([5000], np.int64)})
    with pytest.raises(EngineError, match=r"3840|top"):
        check(larger)


def test_every_known_harmless_message_has_a_reason() -> None:
    assert all(pattern and reason for pattern, reason in HARMLESS)


def test_one_process_can_check_many_graphs(rtx: Any) -> None:
    """The first logger of a process is the only one: what it heard of one graph is not held on to."""
    with pytest.raises(EngineError):
        check_with(rtx, int8_graph(np.uint8(0)), [FRAMES])
    assert check_with(rtx, int8_graph(), [FRAMES]).warnings == ()


def test_nothing_of_it_is_imported_by_the_runtime() -> None:
    code = "import sys, sspcab_runtime.engines.tensorrt; print('tensorrt_rtx' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"
