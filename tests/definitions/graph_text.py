"""Small ONNX graphs written as text, which a test edits line by line."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from definitions.running import Array, Arrays, RunGraph

CHANNELS = 4

# official dialect, k = 1, d = 1: pad 2, border 4
BLOCK = """
    p = Pad (x, pads)
    top = Slice (p, first, cut, rows)
    bottom = Slice (p, border, end, rows)
    tl = Slice (top, first, cut, columns)
    bl = Slice (bottom, first, cut, columns)
    tr = Slice (top, border, end, columns)
    br = Slice (bottom, border, end, columns)
    c1 = Conv (tl, w1, b1)
    c2 = Conv (bl, w2, b2)
    c3 = Conv (tr, w3, b3)
    c4 = Conv (br, w4, b4)
    s1 = Add (c1, c2)
    s2 = Add (s1, c3)
    s = Add (s2, c4)
    r = Relu (s)
    mean = GlobalAveragePool (r)
    hidden = Conv (mean, v1, d1)
    active = Relu (hidden)
    logit = Conv (active, v2, d2)
    gate = Sigmoid (logit)
    y = Mul (r, gate)
"""


def block_arrays(kernel: int = 1, dilation: int = 1) -> dict[str, Array]:
    """Every constant that ``BLOCK`` names, with random weights."""
    rng = np.random.default_rng(kernel * 10 + dilation)
    pad, border = kernel + dilation, kernel + 2 * dilation + 1
    arrays: dict[str, Array] = {
        "pads": np.array([0, 0, pad, pad, 0, 0, pad, pad]),
        "first": np.array([0]),
        "cut": np.array([-border]),
        "border": np.array([border]),
        "end": np.array([2**63 - 1]),
        "rows": np.array([2]),
        "columns": np.array([3]),
        "v1": rng.standard_normal((2, CHANNELS, 1, 1), dtype=np.float32),
        "d1": rng.standard_normal(2, dtype=np.float32),
        "v2": rng.standard_normal((CHANNELS, 2, 1, 1), dtype=np.float32),
        "d2": rng.standard_normal(CHANNELS, dtype=np.float32),
    }
    for number in range(1, 5):
        arrays[f"w{number}"] = rng.standard_normal((CHANNELS, CHANNELS, kernel, kernel), dtype=np.float32)
        arrays[f"b{number}"] = rng.standard_normal(CHANNELS, dtype=np.float32)
    return arrays


def graph(
    body: str,
    arrays: Arrays,
    *,
    inputs: str = "float[N,4,9,11] x",
    outputs: str = "float[N,4,9,11] y",
    opset: int = 18,
) -> ir.Model:
    """The graph with these nodes; every array that they name is an initialiser."""
    text = f'<ir_version: 8, opset_import: ["": {opset}]> g ({inputs}) => ({outputs}) {{{body}}}'
    proto = onnx.parser.parse_model(text)
    named = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items() if name in named
    )
    onnx.checker.check_model(proto)
    return ir.serde.deserialize_model(proto)


def edited(text: str, **lines: str) -> str:
    """``text`` with the lines that make these values replaced, or left out where the new line is empty."""
    kept = []
    for line in text.strip().splitlines():
        name = line.split("=")[0].strip()
        new = lines.pop(name, line)
        kept.extend([new] if new else [])
    if lines:
        raise ValueError(f"no line makes {sorted(lines)}")
    return "\n".join(kept)


def serialised(model: ir.Model) -> bytes:
    """The ONNX file of a graph."""
    data: bytes = ir.serde.serialize_model(model).SerializeToString()
    return data


def images(*shape: int) -> dict[str, Array]:
    """Random values for the input ``x``, (2, 4, 9, 11) unless said otherwise."""
    return {"x": np.random.default_rng(5).standard_normal(shape or (2, 4, 9, 11), dtype=np.float32)}


def check_equal(
    before: ir.Model,
    after: ir.Model,
    inputs: Arrays,
    run: RunGraph,
) -> None:
    """Both graphs, run by the same engine, must give the same outputs up to rounding."""
    wanted, got = run(serialised(before), inputs), run(serialised(after), inputs)
    assert len(wanted) == len(got)
    for one, other in zip(wanted, got, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= 1e-5 * max(1.0, float(np.abs(one).max()))
