"""What is done to pixels: in NumPy against the definition, as nodes against NumPy on both engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from definitions.graph_text import graph, serialised
from definitions.running import Array, RunGraph
from sspcab_edge.errors import OptionError
from sspcab_export.contract.inputs import GREY_WEIGHTS, InputSpec, make_picture, put_input
from sspcab_export.host_options import Colour

SPECS = [
    InputSpec(),
    InputSpec("BGR", 0.0, 255.0),
    InputSpec("grey", -1.0, 1.0),
    InputSpec("RGB", -1.0, 1.0, (0.1,), (0.5,)),
    InputSpec("RGB", 0.0, 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    InputSpec("BGR", 0.0, 255.0, (104.0, 117.0, 123.0)),
    InputSpec("BGR", -1.0, 1.0, (), (0.5, 0.25, 2.0)),
    InputSpec("grey", 0.0, 255.0, (127.5,), (64.0,)),
    InputSpec("grey", 0.0, 1.0, (0.449,), (0.226,)),
]


def by_definition(frames: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[np.float64]:
    """Channel by channel in float64: order, range, minus mean, over deviation."""
    red, green, blue = (frames[..., channel].astype(np.float64) for channel in range(3))
    grey = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = {"RGB": [red, green, blue], "BGR": [blue, green, red], "grey": [grey]}[spec.colour]
    made = []
    for channel, plane in enumerate(planes):
        values = spec.low + plane / 255 * (spec.high - spec.low)
        if spec.mean:
            values = values - (spec.mean[channel] if len(spec.mean) > 1 else spec.mean[0])
        if spec.std:
            values = values / (spec.std[channel] if len(spec.std) > 1 else spec.std[0])
        made.append(values)
    return np.stack(made, axis=1)


def scenes(count: int, height: int = 5, width: int = 7) -> npt.NDArray[np.uint8]:
    """Noise with a black and a white pixel in it."""
    frames = np.random.default_rng(3).integers(0, 256, (count, height, width, 3)).astype(np.uint8)
    frames[:, 0, 0], frames[:, 0, 1] = 0, 255
    return frames


def close(got: Array, wanted: Array, tolerance: float) -> None:
    """Equal relative to the largest value."""
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= tolerance * max(1.0, float(np.abs(wanted).max()))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_picture_is_what_the_definition_says(spec: InputSpec) -> None:
    frames = scenes(2)
    picture = make_picture(frames, spec)
    assert picture.dtype == np.float32
    assert picture.flags.c_contiguous
    assert picture.shape == (2, 1 if spec.colour == "grey" else 3, 5, 7)
    close(picture, by_definition(frames, spec), 1e-6)


@given(
    colour=st.sampled_from(("RGB", "BGR", "grey")),
    low=st.floats(-300, 0, width=32),
    span=st.floats(0.125, 512, width=32),
    channels=st.data(),
)
def test_a_picture_of_any_range_is_what_the_definition_says(
    colour: Colour, low: float, span: float, channels: st.DataObject
) -> None:
    count = channels.draw(st.sampled_from((0, 1, 1 if colour == "grey" else 3)))
    mean = channels.draw(st.tuples(*[st.floats(-2, 2, width=32)] * count))
    std = channels.draw(st.tuples(*[st.floats(0.125, 4, width=32)] * count))
    spec = InputSpec(colour, low, low + span, mean, std)
    wanted = by_definition(scenes(1), spec)
    size = (abs(low) + span + max(map(abs, mean), default=0.0)) / min(std, default=1.0)
    assert np.abs(make_picture(scenes(1), spec) - wanted).max() <= 1e-6 * max(1.0, size)


def test_the_ends_of_the_range_are_met_and_unscaled_pixels_stay_whole() -> None:
    ends = make_picture(scenes(1), InputSpec("RGB", -1.0, 1.0))
    assert (ends.min(), ends.max()) == (-1.0, 1.0)
    frames = scenes(1)
    np.testing.assert_array_equal(
        make_picture(frames, InputSpec("RGB", 0.0, 255.0)), frames.transpose(0, 3, 1, 2).astype(np.float32)
    )


def test_grey_of_a_grey_frame_is_its_value_and_the_weights_are_bt_601() -> None:
    assert sum(GREY_WEIGHTS) == pytest.approx(1.0)
    frames = np.repeat(np.arange(256, dtype=np.uint8)[None, None, :, None], 3, axis=3)
    grey = make_picture(frames, InputSpec("grey", 0.0, 255.0))
    np.testing.assert_allclose(grey[0, 0, 0], np.arange(256), atol=3e-5)


def contract_graph(spec: InputSpec, opset: int, taken: dict[str, Any] | None = None) -> ir.Model:
    """A network that gives its picture back, with the contract's input before it."""
    shape = f"float[N,{spec.channels},5,7]"
    lines, arrays = "y = Identity (x)", {"unused": np.zeros(1, np.float32)}
    if taken:
        lines = f"z = Add (x, {next(iter(taken))}) y = Identity (z)"
        arrays = taken
    model = graph(lines, arrays, inputs=f"{shape} x", outputs=f"{shape} y", opset=opset)
    frames = ir.Value(name="frames", shape=ir.Shape(["N", 5, 7, 3]), type=ir.TensorType(ir.DataType.UINT8))
    prepared = put_input(model.graph, model.graph.inputs[0], spec, frames)
    assert prepared.shape is not None
    assert list(model.graph.inputs) == [frames]
    return model


@pytest.mark.parametrize("opset", [13, 17, 18, 20])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_nodes_do_the_same_on_both_engines(
    spec: InputSpec, opset: int, run_onnxruntime: RunGraph, run_openvino: RunGraph
) -> None:
    data = serialised(contract_graph(spec, opset))
    for count in (1, 3):
        frames = scenes(count)
        wanted = make_picture(frames, spec)
        for run in (run_onnxruntime, run_openvino):
            (got,) = run(data, {"frames": frames})
            close(got, wanted, 1e-6)


def test_the_first_node_is_a_cast_of_the_frames() -> None:
    model = contract_graph(InputSpec("grey", -1.0, 1.0, (0.5,), (0.5,)), 18)
    users = [use.node for use in model.graph.inputs[0].uses()]
    assert [node.op_type for node in users] == ["Cast"]
    assert model.graph[0] is users[0]


def test_weights_under_the_contracts_names_keep_their_values(run_onnxruntime: RunGraph) -> None:
    for name in ("contract_white", "contract_mean", "contract_std", "contract_range", "contract_low"):
        spec = InputSpec("RGB", -1.0, 1.0, (0.1, 0.2, 0.3), (0.5,))
        model = contract_graph(spec, 18, {name: np.full((1, 1, 1, 1), 5.0, np.float32)})
        (got,) = run_onnxruntime(serialised(model), {"frames": scenes(1)})
        close(got, make_picture(scenes(1), spec) + 5, 1e-6)


def test_a_graph_without_a_node_can_be_given_the_contract(run_onnxruntime: RunGraph) -> None:
    picture = ir.Value(name="x", shape=ir.Shape([1, 3, 5, 7]), type=ir.TensorType(ir.DataType.FLOAT))
    empty = ir.Graph([picture], [picture], nodes=[], opset_imports={"": 18}, name="nothing")
    frames = ir.Value(name="frames", shape=ir.Shape([1, 5, 7, 3]), type=ir.TensorType(ir.DataType.UINT8))
    prepared = put_input(empty, picture, InputSpec(), frames)
    prepared.name = "y"
    (got,) = run_onnxruntime(serialised(ir.Model(empty, ir_version=10)), {"frames": scenes(1)})
    close(got, make_picture(scenes(1), InputSpec()), 1e-6)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"low": 1.0, "high": 1.0}, r"input range is 1:1, expected LOW:HIGH with LOW < HIGH"),
        ({"low": 1.0, "high": 0.0}, r"input range is 1:0"),
        ({"high": float("inf")}, r"input range is 0:inf"),
        ({"low": float("nan")}, r"input range is nan:1"),
        ({"mean": (0.1, 0.2)}, r"2 numbers for the mean of 3 channels"),
        ({"std": (0.1, 0.2, 0.3), "colour": "grey"}, r"3 numbers for the std of 1 channels"),
        ({"std": (0.1, 0.0, 0.3)}, r"the std is \(0\.1, 0\.0, 0\.3\), expected finite numbers, std above 0"),
        ({"std": (-1.0,)}, r"the std is \(-1\.0,\)"),
        ({"mean": (float("nan"),)}, r"the mean is \(nan,\)"),
        ({"std": (float("inf"),)}, r"the std is \(inf,\)"),
    ],
)
def test_numbers_that_make_no_picture_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        InputSpec(**fields)
    assert "\n" not in str(caught.value)
