"""A bundle whose network scores objects, small enough to know by heart: brightness plus speed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from definitions.tiny_bundle import make_bundle
from sspcab_edge.bundle import Bundle, staging, write_bundle
from sspcab_edge.front_end_spec import FlowSpec, FrameSize, FrontEndSpec, Objects, Preprocess, Proposals
from sspcab_edge.manifest import Decision, ParityPack
from sspcab_edge.parity import PackItem, write_pack
from sspcab_edge.ports import Entry, object_ports

SIZE = 16
PAIRS = ((0, -1), (0, 1))
EMPTY = 0.0


def tiny_objects_onnx() -> bytes:
    """score = mean of appearance / 255 + mean of |flow| / 10."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: no graph to test with")
    helper, arrays, kinds = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Cast", ["appearance"], ["a"], to=kinds.FLOAT),
            node("ReduceMean", ["a"], ["bright"], axes=[1, 2, 3, 4], keepdims=0),
            node("Div", ["bright", "white"], ["first"]),
            node("Abs", ["flow"], ["speed"]),
            node("ReduceMean", ["speed"], ["fast"], axes=[1, 2, 3, 4], keepdims=0),
            node("Div", ["fast", "ten"], ["second"]),
            node("Add", ["first", "second"], ["score"]),
        ],
        "tiny",
        [
            helper.make_tensor_value_info("appearance", kinds.UINT8, ["N", 1, SIZE, SIZE, 3]),
            helper.make_tensor_value_info("flow", kinds.FLOAT, ["N", 2, SIZE, SIZE, 2]),
        ],
        [helper.make_tensor_value_info("score", kinds.FLOAT, ["N"])],
        [arrays.from_array(np.float32(255), "white"), arrays.from_array(np.float32(10), "ten")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def score_of(entry: Entry) -> float:
    """By the definition."""
    appearance = np.asarray(entry["appearance"], np.float64)
    return float(appearance.mean() / 255 + np.abs(np.asarray(entry["flow"], np.float64)).mean() / 10)


def entries(count: int) -> list[Entry]:
    """Objects of rising brightness and speed."""
    rng = np.random.default_rng(2)
    return [
        {
            "appearance": rng.integers(0, 20 + 230 * n // count, (1, SIZE, SIZE, 3), dtype=np.uint8),
            "flow": (rng.normal(0, 1, (2, SIZE, SIZE, 2)) * n / 3).astype(np.float32),
        }
        for n in range(count)
    ]


def make_object_bundle(
    output: Path, *, height: int, width: int, threshold: float | None = 5.0, kind: str = "difference"
) -> Bundle:
    """Write it through core alone; frames have this size, objects are what moves."""
    plain = make_bundle(output.with_name(output.name + "-plain"), targets=("onnx",)).manifest
    inputs, outputs = object_ports(SIZE, SIZE, (0,), PAIRS)
    with staging(output) as folder:
        (folder / "model.fp32.onnx").write_bytes(tiny_objects_onnx())
        items = [
            PackItem(f"object {n}", "picture", entry, score_of(entry), None)
            for n, entry in enumerate(entries(6))
        ]
        pack = write_pack(folder, items)
        manifest = msgspec.structs.replace(
            plain,
            host="background-agnostic",
            inputs=inputs,
            outputs=outputs,
            preprocess=Preprocess(width=SIZE, height=SIZE, resize="opencv-linear"),
            front_end=FrontEndSpec(
                kind="objects",
                frame=FrameSize(width=width, height=height),
                objects=Objects(
                    proposals=Proposals(kind=kind, min_area=20),  # type: ignore[arg-type]
                    flow=FlowSpec(width=width, height=height),
                    empty_score=EMPTY,
                ),
            ),
            decision=Decision(threshold=threshold, policy="given"),
            parity_pack=ParityPack(index=pack.index, inputs=pack.inputs),
            files=(),
        )
        return write_bundle(folder, manifest, output)
