"""Small real networks, manifests with geometry, and natural pictures for the tests of front-ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sspcab_edge.front_end_spec import FrameSize, FrontEndSpec, Preprocess
from sspcab_edge.manifest import Decision, FileEntry, Manifest, decode_manifest, encode_manifest
from sspcab_edge.ports import whole_frame_ports
from sspcab_edge.protocols import Engine, Frame, FrontEnd, Verdict
from sspcab_edge.score_map import ScoreMap
from sspcab_runtime.calls import answer
from sspcab_runtime.engines.table import load_engine

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

ROOT = Path(__file__).parents[3]
THRESHOLD = 0.5
RADIUS = {1: 3, 2: 4}
"""How far a pixel of the map sees, by the stride of the network."""


def conv_net(height: int, width: int, stride: int) -> bytes:
    """Three 3x3 convolutions with zero padding, the second one with a stride; score is the map's maximum."""
    rng = np.random.default_rng(5)
    weights = [rng.normal(0, 0.4, shape) for shape in ((6, 3, 3, 3), (6, 6, 3, 3), (1, 6, 3, 3))]
    node = helper.make_node
    nodes = [
        node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        node("Div", ["planes", "full"], ["x0"]),
    ]
    for number in range(3):
        step = stride if number == 1 else 1
        last = number == 2
        nodes.append(
            node(
                "Conv",
                [f"x{number}", f"w{number}"],
                ["raw" if last else f"y{number}"],
                pads=[1, 1, 1, 1],
                strides=[step, step],
            )
        )
        if not last:
            nodes.append(node("Relu", [f"y{number}"], [f"x{number + 1}"]))
    nodes += [
        node("Sigmoid", ["raw"], ["heat"]),
        node("Squeeze", ["heat", "axis"], ["map"]),
        node("ReduceMax", ["map"], ["score"], axes=[1, 2], keepdims=0),
    ]
    kept = [numpy_helper.from_array(w.astype(np.float32), f"w{n}") for n, w in enumerate(weights)]
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", height, width, 3])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info(
                "map", TensorProto.FLOAT, ["N", -(-height // stride), -(-width // stride)]
            ),
        ],
        [
            *kept,
            numpy_helper.from_array(np.array(255, dtype=np.float32), "full"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Opens :func:`conv_net` of a size on ONNX Runtime: ``network(height, width, stride=1)``."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: no engine to test with")
    engines: list[Engine] = []

    def open_(height: int, width: int, stride: int = 1) -> Engine:
        path = tmp_path / f"net{len(engines)}.onnx"
        path.write_bytes(conv_net(height, width, stride))
        inputs, outputs = whole_frame_ports(height, width, (height // stride, width // stride))
        engines.append(load_engine("onnxruntime", path, inputs, outputs, threads=1))
        return engines[-1]

    yield open_
    for engine in engines:
        engine.close()


class Counting:
    """A real engine, and how many entries each of its calls had."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.entries: list[int] = []

    def judge(self, front_end: FrontEnd, pixels: Pixels, path: str | None = None) -> Verdict:
        """What the pipeline does with one frame, without its threads."""
        request = front_end.push(Frame(pixels, 7, "made", 0.0, 0.0, path=path))
        assert request is not None
        count = len(request.inputs["frames"])
        limit = request.batch or count
        self.entries += [min(limit, count - start) for start in range(0, count, limit)]
        return front_end.merge(answer(self.engine, request), request.context)


@pytest.fixture
def counting() -> Callable[[Engine], Counting]:
    """Wraps an engine: ``.judge(front_end, pixels)`` and ``.entries``."""
    return Counting


@pytest.fixture(scope="session")
def made() -> Callable[..., Manifest]:
    """A manifest as it would be read from a bundle, with a front-end, checked like one that was read."""

    def make(
        spec: FrontEndSpec,
        height: int,
        width: int,
        *,
        stride: int = 1,
        score: str | None = "map-max",
        score_map: ScoreMap | None = None,
        localises: bool = True,
    ) -> Manifest:
        base = decode_manifest((ROOT / "tests/core/manifest.json").read_bytes())
        size = (height // stride, width // stride) if localises else None
        inputs, outputs = whole_frame_ports(height, width, size)
        pictures = {spec.mask, None if spec.registration is None else spec.registration.reference}
        entries = [FileEntry(path=name, size=1, sha256="0" * 64) for name in sorted(filter(None, pictures))]
        artifact = msgspec.structs.replace(base.artifacts[0], score_map=score_map or ScoreMap())
        manifest = msgspec.structs.replace(
            base,
            preprocess=Preprocess(width=width, height=height, resize="opencv-linear"),
            inputs=inputs,
            outputs=outputs,
            front_end=spec,
            score=score,
            decision=Decision(threshold=THRESHOLD, policy="given"),
            artifacts=(artifact,),
            files=(*base.files, *entries),
        )
        return decode_manifest(encode_manifest(manifest))

    return make


@pytest.fixture(scope="session")
def natural() -> Callable[[str], Pixels]:
    """A natural picture by name, (320, 320, 3) uint8 RGB; the demo's surface under its number, 288 x 288."""

    def load(name: str) -> Pixels:
        folder = "examples/demo/calibration" if name.isdigit() else "export/sspcab_export/builtin_pictures"
        raw = cv2.imread(str(ROOT / folder / f"{name}.jpg"))
        assert raw is not None
        return np.ascontiguousarray(raw[..., ::-1], dtype=np.uint8)

    return load


@pytest.fixture
def surface(rng: np.random.Generator) -> Callable[[int, int], Pixels]:
    """A smooth random surface, (height, width, 3) uint8 RGB."""

    def draw(height: int, width: int) -> Pixels:
        coarse = rng.uniform(0, 255, (height // 4 + 2, width // 4 + 2, 3)).astype(np.float32)
        fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        return np.asarray(np.clip(np.rint(fine), 0, 255), dtype=np.uint8)

    return draw


@pytest.fixture
def frame_size() -> Callable[[Pixels], FrameSize]:
    """The size of a picture as a manifest says it."""
    return lambda pixels: FrameSize(width=pixels.shape[1], height=pixels.shape[0])
