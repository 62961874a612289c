"""Small graphs to quantise, and Q/DQ of one of them written in NumPy from the ONNX definition."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from numpy.lib.stride_tricks import sliding_window_view
from onnx_ir.passes import common as ir_passes

from definitions.graph_text import graph
from definitions.running import Array
from sspcab_export.precision.activations import Activations, Frame, measure
from sspcab_export.precision.quantise import Flavour, quantise

SIZE = 16
FLAVOURS: tuple[Flavour, ...] = ("unsigned", "signed")
FRONT = """
    f = Cast <to = 1> (frames)
    t = Transpose <perm = [0, 3, 1, 2]> (f)
    x = Div (t, full)
"""
HEAD = """
    probabilities = Softmax <axis = 1> (logits)
    smooth = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (probabilities)
    first = Slice (smooth, zero, one, one)
    map = Squeeze (first, one)
    score = ReduceMax <keepdims = 0> (map, inner)
"""
NET = f"""
    {FRONT}
    a = Conv <pads = [1, 1, 1, 1]> (x, "stem.weight", "stem.bias")
    ra = Relu (a)
    b = Conv <pads = [1, 1, 1, 1]> (ra, "skip.weight", "skip.bias")
    rb = Relu (b)
    pool = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (rb)
    c = Conv <pads = [1, 1, 1, 1]> (pool, "deep.weight")
    up = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor">
        (c, , scales)
    both = Concat <axis = 1> (rb, up)
    logits = Conv <pads = [1, 1, 1, 1]> (both, "last.weight", "last.bias")
    {HEAD}
"""
OUTPUTS = f"float[N] score, float[N,{SIZE},{SIZE}] map"
CONSTANTS: dict[str, Array] = {
    "full": np.array(255, np.float32),
    "zero": np.array([0]),
    "one": np.array([1]),
    "inner": np.array([1, 2]),
    "scales": np.array([1, 1, 2, 2], np.float32),
}


def normal(*shape: int, seed: int = 0) -> Array:
    spread = np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 4.0
    return np.asarray(np.random.default_rng([seed, *shape]).normal(size=shape) / spread, np.float32)


ARRAYS: dict[str, Array] = {
    **CONSTANTS,
    "stem.weight": normal(6, 3, 3, 3),
    "stem.bias": normal(6),
    "skip.weight": normal(5, 6, 3, 3),
    "skip.bias": normal(5),
    "deep.weight": normal(4, 5, 3, 3) * np.float32(3),
    "last.weight": normal(2, 9, 3, 3) * np.float32(2),
    "last.bias": normal(2),
}


def network(body: str, arrays: Mapping[str, Array], outputs: str = OUTPUTS, opset: int = 18) -> ir.Model:
    """A graph of the contract, with the types and shapes that measuring needs."""
    model = graph(
        body, {**CONSTANTS, **arrays}, inputs=f"uint8[N,{SIZE},{SIZE},3] frames", outputs=outputs, opset=opset
    )
    ir_passes.ShapeInferencePass()(model)
    return model


def small(body: str, **arrays: Array) -> ir.Model:
    """Pixels ``x`` to features ``y``, of which the largest is the score."""
    return network(
        f"{FRONT} {body}\n score = ReduceMax <keepdims = 0> (y, all)",
        {"all": np.array([1, 2, 3]), **{name.replace("_", "."): array for name, array in arrays.items()}},
        "float[N] score",
    )


def pictures(count: int = 4, seed: int = 0) -> list[Frame]:
    random = np.random.default_rng(seed)
    return list(random.integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8))


def measured(model: ir.Model) -> Activations:
    return measure(model, pictures(), lambda done: None)


def lowered(
    model: ir.Model, flavour: Flavour = "unsigned", keep: Collection[str] = ()
) -> tuple[ir.Model, tuple[str, ...]]:
    return quantise(model, measured(model), flavour, keep)


def constants(model: ir.Model) -> dict[str, Array]:
    found = {}
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        found[name] = value.const_value.numpy()
    return found


def quantisers(model: ir.Model) -> dict[str, tuple[Array, Array]]:
    """Scale and zero point of what is quantised in the graph, by name; stored weights are not."""
    arrays = constants(model)
    found = {}
    for node in model.graph:
        if node.op_type == "QuantizeLinear":
            value, scale, origin = (item.name or "" for item in node.inputs if item is not None)
            assert (arrays[scale].size, arrays[origin].size) == (1, 1)
            found[value] = (arrays[scale], arrays[origin])
    return found


def node_making(model: ir.Model, name: str) -> ir.Node:
    return next(node for node in model.graph if any(value.name == name for value in node.outputs))


def source_operators(node: ir.Node) -> list[str]:
    """What makes the non-constant inputs of a node."""
    producers = [value.producer() for value in node.inputs if value is not None]
    return [producer.op_type for producer in producers if producer is not None]


# A reference of the whole: from the definitions, in float64


def convolve(x: Array, weights: Array, bias: Array | float = 0.0, groups: int = 1) -> Array:
    """3 x 3, padded by 1."""
    windows = sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
    share = x.shape[1] // groups
    outputs = len(weights) // groups
    parts = [
        np.einsum(
            "nchwij,ocij->nohw",
            windows[:, g * share : (g + 1) * share],
            weights[g * outputs : (g + 1) * outputs].astype(np.float64),
        )
        for g in range(groups)
    ]
    return np.asarray(np.concatenate(parts, 1) + np.reshape(bias, (-1, 1, 1)))


def softmax(x: Array) -> Array:
    exponentials = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def average(x: Array) -> Array:
    """The mean over 3 x 3 without the padding, the default of AveragePool."""
    sums = convolve(x, np.stack([np.eye(x.shape[1])[i][:, None, None] * np.ones((3, 3)) for i in (0, 1)]))
    return sums / convolve(np.ones_like(x[:, :1]), np.ones((1, 1, 3, 3)))


def forward(
    frames: Sequence[Frame],
    rounded: Callable[[str, Array], Array] = lambda name, x: x,
    weights: Mapping[str, Array] = ARRAYS,
) -> dict[str, Array]:
    """``NET`` in NumPy, with ``rounded`` put behind every tensor that int8 engines keep."""
    x = np.stack(frames).transpose(0, 3, 1, 2) / 255
    given: dict[str, Array] = {"x": x}
    ra = np.maximum(convolve(rounded("x", x), weights["stem.weight"], weights["stem.bias"]), 0)
    rb = np.maximum(convolve(rounded("ra", ra), weights["skip.weight"], weights["skip.bias"]), 0)
    rounded_rb = rounded("rb", rb)
    pool = rounded_rb.reshape(len(x), 5, SIZE // 2, 2, SIZE // 2, 2).max(axis=(3, 5))
    c = convolve(pool, weights["deep.weight"], weights.get("deep.bias", 0.0))
    up = rounded("c", c).repeat(2, 2).repeat(2, 3)
    both = np.concatenate([rounded_rb, rounded("up", up)], 1)
    logits = convolve(rounded("both", both), weights["last.weight"], weights["last.bias"])
    given |= {"ra": ra, "rb": rb, "pool": pool, "c": c, "up": up, "both": both, "logits": logits}
    given["map"] = average(softmax(logits))[:, 0]
    given["score"] = given["map"].max(axis=(1, 2))
    return given


LARGEST: dict[Flavour, int] = {"unsigned": 64, "signed": 127}
GROUPS = {"x": "x", "ra": "ra", **dict.fromkeys(("rb", "c", "up", "both"), "shared")}


def reference(flavour: Flavour, frames: Sequence[Frame]) -> dict[str, Array]:
    """``NET`` in int8: ranges, rounding, weights and biases by the formulas of the ONNX operators."""
    plain = forward(pictures())
    ranges: dict[str, tuple[float, float]] = {}
    for name, group in GROUPS.items():
        low, high = ranges.get(group, (0.0, 0.0))
        ranges[group] = (min(low, float(plain[name].min())), max(high, float(plain[name].max())))

    def rounded(name: str, x: Array) -> Array:
        low, high = ranges[GROUPS[name]]
        if flavour == "unsigned" and low == 0:
            scale, first, last = high / 255, 0, 255
        else:
            scale, first, last = max(-low, high) / 127, -128, 127
        return np.asarray(np.clip(np.rint(x / np.float32(scale)), first, last) * np.float32(scale))

    weights = dict(ARRAYS)
    inputs = {"stem": "x", "skip": "ra", "deep": "pool", "last": "both"}
    for layer, source in inputs.items():
        exact = ARRAYS[f"{layer}.weight"].astype(np.float64)
        scale = np.abs(exact).max(axis=(1, 2, 3), keepdims=True) / LARGEST[flavour]
        weights[f"{layer}.weight"] = np.rint(exact / scale) * scale
        lost = np.einsum(
            "ocij,c->o", exact - weights[f"{layer}.weight"], plain[source].mean(axis=(0, 2, 3), dtype=float)
        )
        weights[f"{layer}.bias"] = ARRAYS.get(f"{layer}.bias", 0.0) + lost
    return forward(frames, rounded, weights)


WEIGHTED: dict[str, tuple[str, tuple[int, ...], int]] = {
    "Conv": ("y = Conv <pads = [1, 1, 1, 1]> (x, w)", (4, 3, 3, 3), 0),
    "Conv in groups": ("y = Conv <group = 3> (x, w)", (6, 1, 1, 1), 0),
    "ConvTranspose": ("y = ConvTranspose <strides = [2, 2]> (x, w)", (3, 4, 2, 2), 1),
    "Gemm": ("p = GlobalAveragePool (x)\n v = Flatten (p)\n g = Gemm (v, w)", (3, 4), 1),
    "Gemm transposed": (
        "p = GlobalAveragePool (x)\n v = Flatten (p)\n g = Gemm <transB = 1> (v, w)",
        (4, 3),
        0,
    ),
    "MatMul": ("p = Transpose <perm = [0, 2, 3, 1]> (x)\n y = MatMul (p, w)", (3, 4), 1),
}
"""By operator: its line, the shape of its weights, and their axis of output channels."""
