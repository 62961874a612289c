"""A bundle with a network that can be computed by hand, and a clock that moves only when told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.bundle import Bundle, staging, write_bundle
from sspcab_edge.front_end_spec import FrontEndSpec, Preprocess
from sspcab_edge.manifest import Artifact, Decision, Gate, Manifest, Model, Parity, Target
from sspcab_edge.parity import PackItem, write_pack
from sspcab_edge.ports import whole_frame_ports
from sspcab_edge.testing import brightness

# No test of this folder may tell anybody that OpenVINO was imported; the runtime does the same by itself.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

HEIGHT, WIDTH = 16, 24
INPUTS = 7


class FakeClock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def taking(self, *durations_ms: float) -> Callable[[], float]:
        """A timed call that takes these milliseconds in turn, the last of them for ever."""
        remaining = list(durations_ms)

        def run() -> float:
            taken_ms = remaining.pop(0) if len(remaining) > 1 else remaining[0]
            self.now_s += taken_ms / 1e3
            return taken_ms

        return run


@pytest.fixture
def clock() -> FakeClock:
    """A clock of one's own."""
    return FakeClock()


def brightness_onnx() -> bytes:
    """The graph of :func:`sspcab_edge.testing.brightness`: map = mean of RGB / 255, score = its maximum."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: no graph to test with")
    helper, kinds = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["frames"], ["f"], to=kinds.FLOAT),
            helper.make_node("ReduceMean", ["f"], ["m"], axes=[3], keepdims=0),
            helper.make_node("Div", ["m", "full"], ["map"]),
            helper.make_node("ReduceMax", ["map"], ["score"], axes=[1, 2], keepdims=0),
        ],
        "brightness",
        [helper.make_tensor_value_info("frames", kinds.UINT8, ["N", HEIGHT, WIDTH, 3])],
        [
            helper.make_tensor_value_info("score", kinds.FLOAT, ["N"]),
            helper.make_tensor_value_info("map", kinds.FLOAT, ["N", HEIGHT, WIDTH]),
        ],
        [onnx.numpy_helper.from_array(np.float32(255), "full")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def make_bundle(
    output: Path,
    *,
    targets: tuple[Target, ...] = ("onnx", "openvino"),
    wrong_score_of: int | None = None,
    wrong_map: bool = False,
    inputs: int = INPUTS,
) -> Bundle:
    """Write a bundle whose pack lies where a test asks for it."""
    openvino = pytest.importorskip("openvino", reason="openvino is not installed: no IR to test with")
    ports = whole_frame_ports(HEIGHT, WIDTH, (HEIGHT, WIDTH))
    with staging(output) as folder:
        files: dict[Target, tuple[str, ...]] = {
            "onnx": ("model.fp32.onnx",),
            "openvino": ("openvino/model.fp32.xml", "openvino/model.fp32.bin"),
        }
        if "onnx" in targets:
            (folder / "model.fp32.onnx").write_bytes(brightness_onnx())
        if "openvino" in targets:
            (folder / "openvino").mkdir()
            model = openvino.Core().read_model(brightness_onnx())
            openvino.save_model(model, folder / "openvino/model.fp32.xml", compress_to_fp16=False)
        pack = write_pack(folder, _items(inputs, wrong_score_of, wrong_map))
        gate = Gate(max_flips=0, score_tolerance=1e-4, map_tolerance=1e-3)
        parity = Parity(
            pictures=inputs, labelled=0, blends=0, scene="given", engine="tests", max_abs_score_diff=0.0,
            score_excess=0.0,
            mean_abs_score_diff=0.0, max_abs_map_diff=0.0, margin=0.01, flips=0, blend_flips=0,
            flips_upper95=0.3,
            auroc_source=None, auroc_artifact=None, passed=True,
            gate=gate,
        )  # fmt: skip
        manifest = Manifest(
            schema=1, contract=1, release=3, created="2026-01-01T00:00:00+00:00", tools={},
            model=Model(name="bright", source=(), digest="0" * 64), host="onnx", blocks=(),
            inputs=ports[0], outputs=ports[1],
            preprocess=Preprocess(width=WIDTH, height=HEIGHT, resize="opencv-linear"),
            front_end=FrontEndSpec(), decision=Decision(threshold=0.5, policy="given"),
            artifacts=tuple(
                Artifact(
                    target=target, precision="fp32", files=files[target], size_bytes=1, opset=17,
                    parity=parity, replay=gate,
                )
                for target in targets
            ),
            parity_pack=pack, files=(),
        )  # fmt: skip
        return write_bundle(folder, manifest, output)


def _items(count: int, wrong_score_of: int | None, wrong_map: bool) -> list[PackItem]:
    rng = np.random.default_rng(5)
    items = []
    for number in range(count):
        pixels = rng.integers(0, 40 * (number + 1) % 250 + 5, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        outputs = brightness({"frames": pixels[None]})
        score = float(np.asarray(outputs["score"], np.float64)[0]) + (0.01 if number == wrong_score_of else 0)
        heat: npt.NDArray[np.float32] = np.asarray(outputs["map"], np.float32)[0] + np.float32(wrong_map)
        items.append(
            PackItem(
                f"input {number}", "picture", {"frames": pixels}, score, None, heat if number < 3 else None
            )
        )
    return items


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle with both targets; nobody may write into it."""
    return make_bundle(tmp_path_factory.mktemp("bench") / "bundle").path


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Bundle]:
    """Makes other bundles, below ``tmp_path``: see :func:`make_bundle`."""

    def make(name: str = "other", **how: object) -> Bundle:
        return make_bundle(tmp_path / name, **how)  # type: ignore[arg-type]

    return make


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def bench() -> Command:
    """Run ``sspcab-bench`` in a process of its own, as users do, and capture what it prints."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sspcab_bench.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def bright(bundle_path: Path) -> Bundle:
    """The same, opened."""
    return Bundle.open(bundle_path)
