"""CutPaste from file to verdict: a bundle's scores against plain torch and scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from definitions.cutpaste_plain import (
    AddedBlock,
    Projection,
    ReplacedConvolution,
    embeddings,
    kernel_score,
    mahalanobis,
    spread_of,
)
from definitions.draem_plain import OfficialBlock, randomise
from definitions.scenes import edge_network
from sspcab_edge.errors import OptionError
from sspcab_edge.preprocess import decode_picture
from sspcab_export import HostOptions, export
from sspcab_runtime import Detector

SIZE = 96
WIDTH = 8
BACKENDS = {"onnx": "onnxruntime", "openvino": "openvino"}
Pixels = npt.NDArray[np.uint8]


class LastStage(Projection):
    """The block instead of the whole last stage."""

    def __init__(self, w: int) -> None:
        super().__init__(w)
        self.resnet18.layer4 = OfficialBlock(4 * w)


ARRANGEMENTS: dict[str, Callable[[], Projection]] = {
    "between layer3 and layer4": lambda: AddedBlock(WIDTH),
    "conv1 of the last block": lambda: ReplacedConvolution(WIDTH, "layer4.1.conv1", 8 * WIDTH),
    "the last stage": lambda: LastStage(WIDTH),
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Soft noise in colour, of the network's size; those that are asked differ more and more."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(8)
    for folder, count in (("training", 40), ("calibration", 24), ("asked", 12)):
        (root / folder).mkdir()
        for number in range(count):
            strength = 25 if folder != "asked" else 10 + 12 * number
            coarse = rng.normal(120, strength, (9, 9, 3)).astype(np.float32)
            fine = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(root / folder / f"{number:02d}.png"), np.clip(fine, 0, 255).astype(np.uint8))
    return root


def read(folder: Path) -> list[Pixels]:
    return [decode_picture(path).pixels for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("density", ["mahalanobis", "kde"])
@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_verdicts_are_those_of_torch_and_scikit_learn(
    pictures: Path, tmp_path: Path, name: str, density: str
) -> None:
    network = randomise(ARRANGEMENTS[name](), 3).eval()
    torch.save(network.state_dict(), tmp_path / "model.pth")
    bundle = export(
        tmp_path / "model.pth",
        targets=["onnx", "openvino", "tensorrt"],
        calibration=pictures / "calibration",
        training=pictures / "training",
        host=HostOptions(
            input_size=(SIZE, SIZE),
            density="kde" if density == "kde" else "mahalanobis",
            bandwidth=0.1 if density == "kde" else None,
        ),
        output=tmp_path / "bundle",
    ).bundle
    (block,) = bundle.manifest.blocks
    assert block.form == "folded"
    assert bundle.manifest.calibration is not None
    assert bundle.manifest.calibration.training == 40
    normal = embeddings(network, read(pictures / "training"))
    asked = embeddings(network, read(pictures / "asked"))
    wanted = kernel_score(normal, asked, 0.1) if density == "kde" else mahalanobis(normal, asked)
    for backend in BACKENDS.values():
        with Detector.open(bundle.path, backend=backend) as detector:
            got = [detector(pixels).score for pixels in read(pictures / "asked")]
        difference = np.abs(np.asarray(got, dtype=np.float64) - wanted).max()
        print(f"{name}, {density}, {backend}: {difference / spread_of(wanted):.2g} of the IQR")
        assert difference <= 1e-4 * spread_of(wanted)


def test_without_pictures_for_it_half_of_the_calibration_makes_the_density(
    pictures: Path, tmp_path: Path
) -> None:
    network = randomise(AddedBlock(WIDTH), 3)
    torch.save(network.state_dict(), tmp_path / "model.pth")
    options = HostOptions(input_size=(SIZE, SIZE), patch_map=True)
    with pytest.raises(OptionError, match="--calibration"):
        export(tmp_path / "model.pth", host=options, output=tmp_path / "none")
    assert not (tmp_path / "none").exists()
    exported = export(
        tmp_path / "model.pth",
        calibration=pictures / "calibration",
        host=options,
        output=tmp_path / "bundle",
    )
    record = exported.bundle.manifest.calibration
    assert record is not None
    assert (record.training, record.fit, record.judge) == (12, 6, 6)
    assert exported.bundle.manifest.decision.threshold is not None
    with Detector.open(exported.bundle.path) as detector:
        verdict = detector(read(pictures / "asked")[-1])
    assert verdict.anomalous
    assert verdict.map is not None


def test_training_pictures_alone_make_the_density_all_of_them_and_nothing_else(
    pictures: Path, tmp_path: Path
) -> None:
    network = randomise(AddedBlock(WIDTH), 3).eval()
    torch.save(network.state_dict(), tmp_path / "model.pth")
    bundle = export(
        tmp_path / "model.pth",
        training=pictures / "training",
        host=HostOptions(input_size=(SIZE, SIZE)),
        output=tmp_path / "bundle",
    ).bundle
    record, decision = bundle.manifest.calibration, bundle.manifest.decision
    assert record is not None
    assert (record.training, record.fit, record.ranges, record.judge) == (40, 0, 0, 0)
    assert (decision.threshold, decision.policy) == (None, "none")
    assert decision.note is not None
    assert "sspcab-edge fit BUNDLE DIR" in decision.note
    normal, asked = (embeddings(network, read(pictures / name)) for name in ("training", "asked"))
    wanted = mahalanobis(normal, asked)
    with Detector.open(bundle.path) as detector:
        got = [detector(pixels).score for pixels in read(pictures / "asked")]
    assert np.abs(np.asarray(got, dtype=np.float64) - wanted).max() <= 1e-4 * spread_of(wanted)


def test_training_pictures_are_for_hosts_that_are_fitted(pictures: Path, tmp_path: Path) -> None:
    onnx.save(edge_network(), tmp_path / "model.onnx")
    with pytest.raises(OptionError, match="--training"):
        export(
            tmp_path / "model.onnx",
            calibration=pictures / "calibration",
            training=pictures / "training",
            host=HostOptions(allow_no_block=True),
            output=tmp_path / "bundle",
        )
