"""A chain of slices is the rectangle that NumPy would cut."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definitions.graph_text import graph
from sspcab_export.passes._windows import padding_of, window_of

SIZE = (2, 3, 12, 10)
cuts = st.tuples(st.sampled_from([2, 3, -1, -2]), st.integers(-13, 13), st.integers(-13, 14))


def chain(steps: list[tuple[int, int, int]], shape: str) -> ir.Value:
    """The value that these slices, (axis, start, end) each, cut out of ``p`` of this shape."""
    lines, arrays = ["v0 = Neg (x)"], {}
    for number, step in enumerate(steps):
        for name, item in zip(("axis", "start", "end"), step, strict=True):
            arrays[f"{name}{number}"] = np.array([item])
        lines.append(f"v{number + 1} = Slice (v{number}, start{number}, end{number}, axis{number})")
    lines.append(f"y = Neg (v{len(steps)})")
    model = graph("\n".join(lines), arrays, inputs=f"float[{shape}] x", outputs="float[A,B,C,D] y")
    node = model.graph.node(0)
    node.outputs[0].shape = model.graph.inputs[0].shape
    return model.graph.node(len(steps)).outputs[0]


@given(steps=st.lists(cuts, max_size=4))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_fixed_sizes_are_cut_as_numpy_cuts(steps: list[tuple[int, int, int]]) -> None:
    data = np.arange(np.prod(SIZE)).reshape(SIZE)
    wanted = data
    for axis, start, end in steps:
        wanted = np.moveaxis(np.moveaxis(wanted, axis, 0)[start:end], 0, axis)
    window = window_of(chain(steps, ",".join(map(str, SIZE))))
    if wanted.size == 0:
        assert window is None
        return
    assert window is not None
    (top, bottom), (left, right) = window.rows, window.columns
    got = data[:, :, top : SIZE[2] - bottom, left : SIZE[3] - right]
    np.testing.assert_array_equal(got, wanted)


@given(steps=st.lists(cuts, max_size=3))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_free_sizes_are_known_only_when_they_do_not_matter(steps: list[tuple[int, int, int]]) -> None:
    window = window_of(chain(steps, "N,3,H,W"))
    if window is None:
        return
    for size in ((2, 3, 40, 50), (1, 3, 61, 47)):
        data = np.arange(np.prod(size)).reshape(size)
        wanted = data
        for axis, start, end in steps:
            wanted = np.moveaxis(np.moveaxis(wanted, axis, 0)[start:end], 0, axis)
        (top, bottom), (left, right) = window.rows, window.columns
        np.testing.assert_array_equal(data[:, :, top : size[2] - bottom, left : size[3] - right], wanted)


@pytest.mark.parametrize("axis", [0, 1, -4, -3])
def test_a_cut_through_batch_or_channels_is_no_window(axis: int) -> None:
    assert window_of(chain([(axis, 1, 2**31 - 1)], "4,3,12,10")) is None
    assert window_of(chain([(axis, 0, 2**31 - 1)], "4,3,12,10")) is not None


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        ("Pad (x, amounts)", (2, "constant")),
        ("Pad (x, amounts, zero)", (2, "constant")),
        ('Pad <mode = "reflect"> (x, amounts)', (2, "reflect")),
        ("Pad (x, short, , axes)", (2, "constant")),
        ("Pad (x, amounts, one)", None),
        ("Pad (x, uneven)", None),
        ("Pad (x, channels)", None),
        ("Pad (x, none)", None),
        ("Pad (x, crop)", None),
        ("Neg (x)", None),
    ],
)
def test_padding(call: str, wanted: tuple[int, str] | None) -> None:
    arrays = {
        "amounts": np.array([0, 0, 2, 2, 0, 0, 2, 2]),
        "short": np.array([2, 2, 2, 2]),
        "axes": np.array([-1, 2]),
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "uneven": np.array([0, 0, 2, 2, 0, 0, 2, 1]),
        "channels": np.array([0, 1, 2, 2, 0, 1, 2, 2]),
        "none": np.zeros(8, np.int64),
        "crop": np.array([0, 0, -2, -2, 0, 0, -2, -2]),
    }
    model = graph(f"p = {call}\n y = Neg (p)", arrays, outputs="float[A,B,C,D] y")
    padding = padding_of(model.graph.node(0).outputs[0])
    if wanted is None:
        assert padding is None
    else:
        assert padding is not None
        assert (padding.size, padding.mode, padding.source) == (*wanted, model.graph.inputs[0])
