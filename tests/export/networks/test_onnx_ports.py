"""ONNX files as other tools write them: half and double precision, channels last, scores without axes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, save_model
from torch import nn

from sspcab_edge.errors import HostError
from sspcab_export import export
from sspcab_export.hosts import HostOptions
from sspcab_export.hosts.onnx_graph import load_onnx
from sspcab_runtime import Detector

H, W = 16, 20


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.layers(x)
        return made


class Arranged(nn.Module):
    """An auto-encoder whose picture is turned before and whose outputs are arranged after."""

    def __init__(self, arrange: Callable[[torch.Tensor, torch.Tensor], Any], last: bool) -> None:
        super().__init__()
        self.network, self.arrange, self.last = Autoencoder(), arrange, last

    def forward(self, given: torch.Tensor) -> Any:
        x = given.permute(0, 3, 1, 2) if self.last else given
        if given.dtype == torch.float64:  # at the edges alone: ONNX Runtime has no convolution of doubles
            x = x.float()
        return self.arrange(x, self.network(x))


def anomaly(x: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    return (made - x).pow(2).mean(1, keepdim=True)


def save(
    path: Path, arrange: Callable[..., Any], outputs: list[str], *, dtype: torch.dtype = torch.float32,
    last: bool = False, free: bool = True,
) -> None:  # fmt: skip
    module = Arranged(arrange, last).eval().to(torch.float16 if dtype == torch.float16 else torch.float32)
    example = torch.rand((1, H, W, 3) if last else (1, 3, H, W), dtype=dtype)
    axes = {name: {0: "batch"} for name in ["images", *outputs]} if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (example,), path, dynamo=False, opset_version=17, input_names=["images"],
            output_names=outputs, dynamic_axes=axes,
        )  # fmt: skip


FRAMES = np.random.default_rng(0).integers(0, 256, (2, H, W, 3)).astype(np.uint8)


def expected(frame: np.ndarray, dtype: torch.dtype = torch.float32) -> np.ndarray:
    """(H, W) float64: the squared error, channels averaged, of torch on one frame."""
    x = (torch.from_numpy(frame.transpose(2, 0, 1).copy())[None] / 255).to(dtype)
    with torch.no_grad():
        found: np.ndarray = anomaly(x, Autoencoder().to(dtype)(x))[0, 0].double().numpy()
    return found


DTYPES = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_reconstructions_of_any_float_and_order(tmp_path: Path, dtype: torch.dtype, last: bool) -> None:
    def arrange(x: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        made = made.permute(0, 2, 3, 1) if last else made
        return made.to(dtype)

    save(tmp_path / "m.onnx", arrange, ["made"], dtype=dtype, last=last)
    options = HostOptions(score="error", allow_no_block=True)
    bundle = export(
        tmp_path / "m.onnx", host=options, targets=["onnx", "openvino"], output=tmp_path / "b"
    ).bundle
    dtype = torch.float32 if dtype == torch.float64 else dtype
    tolerance = 2e-3 if dtype == torch.float16 else 1e-5
    for backend in ("onnxruntime", "openvino"):
        with Detector.open(bundle.path, backend=backend) as detector:
            for frame in FRAMES:
                wanted = expected(frame, dtype)
                found = detector(frame)
                assert found.score == pytest.approx(wanted.mean(), rel=tolerance)
                assert found.map is not None
                np.testing.assert_allclose(found.map, wanted, atol=tolerance)


def score_and_map(x: torch.Tensor, made: torch.Tensor) -> tuple[torch.Tensor, ...]:
    found = anomaly(x, made)
    return found.amax((1, 2, 3)), found


ARRANGED: dict[str, tuple[Callable[..., Any], bool]] = {
    "a score of no axes": (lambda x, made: (score_and_map(x, made)[0][0], anomaly(x, made)), False),
    "a score of two axes": (lambda x, made: (score_and_map(x, made)[0][:, None], anomaly(x, made)), True),
    "a score of four axes": (
        lambda x, made: (score_and_map(x, made)[0][:, None, None, None], anomaly(x, made)), True,
    ),
    "a map of three axes": (lambda x, made: (score_and_map(x, made)[0], anomaly(x, made)[:, 0]), True),
    "a map with its channel last": (
        lambda x, made: (score_and_map(x, made)[0], anomaly(x, made).permute(0, 2, 3, 1)), True,
    ),
    "a map of no batch": (lambda x, made: (score_and_map(x, made)[0], anomaly(x, made)[0, 0]), False),
}  # fmt: skip


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize(("arrange", "free"), ARRANGED.values(), ids=ARRANGED)
def test_scores_and_maps_of_any_rank(
    tmp_path: Path, arrange: Callable[..., Any], free: bool, last: bool
) -> None:
    save(tmp_path / "m.onnx", arrange, ["score", "map"], last=last, free=free)
    host = load_onnx(tmp_path / "m.onnx", HostOptions())
    assert host.batch == (None if free else 1)
    assert host.map_size == (H, W)
    scores, maps = host.source.infer({"frames": FRAMES})
    wanted = np.stack([expected(frame) for frame in FRAMES])
    assert maps is not None
    np.testing.assert_allclose(maps, wanted, atol=1e-5)
    np.testing.assert_allclose(scores, wanted.max((1, 2)), rtol=1e-4)
    bundle = export(tmp_path / "m.onnx", host=HostOptions(allow_no_block=True), output=tmp_path / "b").bundle
    with Detector.open(bundle.path) as detector:
        assert detector(FRAMES[0]).score == pytest.approx(wanted[0].max(), rel=1e-4)


def test_labels_and_masks_are_left_alone(tmp_path: Path) -> None:
    def arrange(x: torch.Tensor, made: torch.Tensor) -> tuple[torch.Tensor, ...]:
        score, found = score_and_map(x, made)
        return score, score > 0.1, found, (found > 0.1).int(), found.argmax(1)

    save(tmp_path / "m.onnx", arrange, ["score", "label", "map", "mask", "classes"])
    host = load_onnx(tmp_path / "m.onnx", HostOptions())
    assert [output.name for output in host.source.graph().graph.outputs] == ["score", "map"]


def ports(path: Path, dtype: int, shape: list[Any]) -> None:
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT64)],
        "g",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT64, shape)],
    )
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.parametrize(
    ("dtype", "shape", "said"),
    [
        (TensorProto.UINT8, ["n", 3, H, W], r"takes UINT8 .* expected float pictures \(N, C, H, W\)"),
        (TensorProto.INT32, ["n", H, W, 3], "takes INT32 .* expected float pictures"),
        (TensorProto.FLOAT, ["n", 3 * H * W], "expected float pictures"),
        (TensorProto.FLOAT, [4, 3, H, W], "takes 4 pictures at once, expected 1 or a free batch size"),
        (TensorProto.FLOAT, ["n", 3, H, W], "gives no tensors of floating point numbers"),
    ],
)  # fmt: skip
def test_other_ports_are_named(tmp_path: Path, dtype: int, shape: list[Any], said: str) -> None:
    ports(tmp_path / "m.onnx", dtype, shape)
    with pytest.raises(HostError, match=said):
        load_onnx(tmp_path / "m.onnx", HostOptions(score="error"))
