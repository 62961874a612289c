"""A small real bundle, made without the exporter, and what the tests of the runtime do with it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.bundle import Bundle, staging, write_bundle
from sspcab_edge.manifest import (
    Artifact,
    Decision,
    FileEntry,
    FrontEndSpec,
    Gate,
    Manifest,
    Model,
    Parity,
    ParityPack,
    Precision,
    Preprocess,
    ScoreMap,
)
from sspcab_edge.parity import PackItem, write_pack
from sspcab_edge.ports import whole_frame_ports
from sspcab_edge.protocols import Engine
from sspcab_runtime.engines import open_engine

# No test of this folder may tell anybody that OpenVINO was imported; the runtime does the same by itself.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

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
            PackItem(f"judge {i}", "blend" if i % 3 == 0 else "picture", p, float(s) + lie, bool(i % 2), m)
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


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with both targets; nobody may write into it."""
    return make_bundle(tmp_path_factory.mktemp("pristine") / "bundle").path


@pytest.fixture
def bundle_path(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, to be done with as one likes."""
    return Path(shutil.copytree(pristine, tmp_path / "bundle"))


@pytest.fixture
def build() -> Callable[..., Bundle]:
    """Makes other tiny bundles: see :func:`make_bundle`."""
    return make_bundle


@pytest.fixture
def network() -> Callable[[Pixels], tuple[Floats, Floats]]:
    """The tiny network in NumPy: (N, H, W, 3) uint8 -> scores (N,), maps (N, H, W)."""
    return reference


@pytest.fixture
def frames() -> Pixels:
    """(12, H, W, 3) frames at graph size."""
    return np.stack(judge_pictures())


@pytest.fixture(params=sorted(BACKEND_OF.items()), ids=lambda row: row[1])
def opened(request: pytest.FixtureRequest, pristine: Path) -> Iterator[tuple[str, Callable[..., Engine]]]:
    """A backend's name and what opens the tiny network on it, for each backend that is installed."""
    target, backend = request.param
    bundle = Bundle.open(pristine)
    artifact = next(a for a in bundle.manifest.artifacts if a.target == target)
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    engines: list[Engine] = []

    def open_(*, threads: int | None = None) -> Engine:
        engines.append(open_engine(bundle, artifact, backend=backend, threads=threads))
        return engines[-1]

    yield backend, open_
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(opened: tuple[str, Callable[..., Engine]]) -> Engine:
    """The tiny network on each backend."""
    return opened[1]()


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of its own for every test, subprocesses included."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "sspcab-edge"


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str, npt.NDArray[np.generic]], Path]:
    """Write pixels as OpenCV takes them (BGR, BGRA, grey) to a file below ``tmp_path``."""

    def write(name: str, pixels: npt.NDArray[np.generic]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels)  # type: ignore[arg-type]
        return path

    return write


@pytest.fixture
def folder(frames: Pixels, save: Callable[[str, npt.NDArray[np.generic]], Path], tmp_path: Path) -> Path:
    """Twelve good pictures in two folders, as PNG."""
    for number, pixels in enumerate(frames):
        save(f"pictures/{'good' if number % 2 else 'broken'}/{number:03d}.png", pixels[..., ::-1])
    return tmp_path / "pictures"


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command() -> Command:
    """Run a command of ours in a process of its own, as users do, and capture what it prints."""

    def run(
        module: str, *arguments: object, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=None if env is None else dict(env),
        )

    return run


@pytest.fixture(scope="session")
def backend_of() -> dict[str, str]:
    """Target -> backend, for every backend that the tests know."""
    return BACKEND_OF
