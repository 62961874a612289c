"""A small real bundle, made without the exporter: a network of two convolutions, and what it must give."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.bundle import Bundle, staging, write_bundle
from sspcab_edge.front_end_spec import FrontEndSpec, Preprocess
from sspcab_edge.manifest import (
    Artifact,
    Decision,
    FileEntry,
    Gate,
    Manifest,
    Model,
    Parity,
    ParityPack,
    Precision,
)
from sspcab_edge.parity import PackItem, write_pack
from sspcab_edge.ports import whole_frame_ports
from sspcab_edge.score_map import ScoreMap

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

HEIGHT, WIDTH = 24, 32
THRESHOLD = 0.6
HALF_OFF = ScoreMap(artifact=(0.0, 1.0), source=(0.5, 1.5))
BACKEND_OF: dict[str, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
"""Every target with the backend that runs it: the tests' own row per backend."""

_RNG = np.random.default_rng(7)
_WIDE = (_RNG.normal(size=(4, 3, 3, 3)) * np.array([0.2, 0.6, 1.4])[None, :, None, None]).astype(np.float32)
_NARROW = np.array([0.9, -0.7, 0.8, -0.5], dtype=np.float32)


def reference(frames: Pixels) -> tuple[Floats, Floats]:
    """The tiny network in NumPy: (N, H, W, 3) uint8 -> scores (N,), maps (N, H, W)."""
    x = frames.astype(np.float64).transpose(0, 3, 1, 2) / 255
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    hidden = np.maximum(np.einsum("nchwij,ocij->nohw", windows, _WIDE), 0)
    maps = 1 / (1 + np.exp(-np.einsum("nohw,o->nhw", hidden, _NARROW)))
    return maps.max(axis=(1, 2)).astype(np.float32), maps.astype(np.float32)


def tiny_onnx() -> bytes:
    """The same network as ONNX, contract version 1."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: no graph to test with")
    helper, numpy_helper, kinds = onnx.helper, onnx.numpy_helper, onnx.TensorProto
    node = helper.make_node
    graph = helper.make_graph(
        [
            node("Cast", ["frames"], ["f"], to=kinds.FLOAT),
            node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
            node("Div", ["t", "full"], ["x"]),
            node("Conv", ["x", "wide"], ["c"], pads=[1, 1, 1, 1]),
            node("Relu", ["c"], ["r"]),
            node("Conv", ["r", "narrow"], ["l"]),
            node("Sigmoid", ["l"], ["s"]),
            node("Squeeze", ["s", "axis"], ["map"]),
            node("ReduceMax", ["map"], ["score"], axes=[1, 2], keepdims=0),
        ],
        "tiny",
        [helper.make_tensor_value_info("frames", kinds.UINT8, ["N", HEIGHT, WIDTH, 3])],
        [
            helper.make_tensor_value_info("score", kinds.FLOAT, ["N"]),
            helper.make_tensor_value_info("map", kinds.FLOAT, ["N", HEIGHT, WIDTH]),
        ],
        [
            numpy_helper.from_array(np.float32(255), "full"),
            numpy_helper.from_array(_WIDE, "wide"),
            numpy_helper.from_array(_NARROW.reshape(1, 4, 1, 1), "narrow"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def judge_pictures() -> list[Pixels]:
    """Pictures at graph size whose scores lie on both sides of the threshold."""
    rng = np.random.default_rng(11)
    base = rng.integers(0, 256, (12, HEIGHT // 4, WIDTH // 4, 3), dtype=np.uint8)
    strength = np.linspace(0.1, 1, 12)
    return [
        np.repeat(np.repeat((small * factor).astype(np.uint8), 4, 0), 4, 1)
        for small, factor in zip(base, strength, strict=True)
    ]


def make_bundle(
    output: Path,
    *,
    targets: tuple[Literal["onnx", "openvino"], ...] = ("onnx", "openvino"),
    precisions: tuple[Precision, ...] = ("fp32",),
    wrong: tuple[str, ...] = (),
    threshold: float | None = THRESHOLD,
    lie: float = 0.0,
    score_map: ScoreMap | None = None,
    onnx_file: bytes | None = None,
) -> Bundle:
    """Write a bundle through core alone. ``lie`` is added to the pack's scores, so that none would pass.

    Artifacts of every precision run the same fp32 graph; those named in ``wrong`` give scores that are off by
    one half.
    """
    openvino = pytest.importorskip("openvino", reason="openvino is not installed: no IR to test with")
    inputs, outputs = whole_frame_ports(HEIGHT, WIDTH, (HEIGHT, WIDTH))
    with staging(output) as folder:
        (folder / "model.fp32.onnx").write_bytes(tiny_onnx() if onnx_file is None else onnx_file)
        files: dict[str, tuple[str, ...]] = {"onnx": ("model.fp32.onnx",)}
        if "openvino" in targets:
            (folder / "openvino").mkdir()
            model = openvino.Core().read_model(tiny_onnx())
            openvino.save_model(model, folder / "openvino/model.fp32.xml", compress_to_fp16=False)
            files["openvino"] = ("openvino/model.fp32.xml", "openvino/model.fp32.bin")
        if "onnx" not in targets:
            (folder / "model.fp32.onnx").unlink()
        pictures = judge_pictures()
        scores, maps = reference(np.stack(pictures))
        items = [
            PackItem(
                f"judge {i}",
                "blend" if i % 3 == 0 else "picture",
                {"frames": p},
                float(s) + lie,
                bool(i % 2),
                m,
            )
            for i, (p, s, m) in enumerate(zip(pictures, scores, maps, strict=True))
        ]
        pack = write_pack(folder, items)
        gate = Gate(max_flips=0, score_tolerance=1e-4, map_tolerance=1e-3)
        parity = Parity(
            pictures=12, labelled=8, blends=4, scene="given", engine="tests", max_abs_score_diff=1e-6,
            score_excess=1e-6,
            mean_abs_score_diff=1e-7, max_abs_map_diff=1e-6, margin=0.01, flips=0, blend_flips=0,
            flips_upper95=0.22,
            auroc_source=0.5, auroc_artifact=0.5, gate=gate, passed=True,
        )  # fmt: skip
        artifacts = tuple(
            Artifact(
                target=target, precision=precision, files=files[target], size_bytes=1, opset=17,
                parity=parity, replay=gate,
                score_map=HALF_OFF if f"{target}-{precision}" in wrong else score_map or ScoreMap(),
            )
            for target in targets
            for precision in precisions
        )  # fmt: skip
        manifest = Manifest(
            schema=1, contract=1, release=1, created="2026-01-01T00:00:00+00:00", tools={"tests": "1"},
            model=Model(
                name="tiny", source=(FileEntry(path="tiny.pckl", size=1, sha256="0" * 64),), digest="0" * 64
            ),
            host="draem", blocks=(), inputs=inputs, outputs=outputs,
            preprocess=Preprocess(width=WIDTH, height=HEIGHT, resize="opencv-linear"),
            front_end=FrontEndSpec(), decision=Decision(threshold=threshold, policy="given"),
            artifacts=artifacts, parity_pack=ParityPack(index=pack.index, inputs=pack.inputs), files=(),
        )  # fmt: skip
        return write_bundle(folder, manifest, output)
