"""The committed demo detector: good at its job, and the same verdicts from every artifact."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from definitions.draem_plain import (
    Discriminative,
    OfficialBlock,
    Reconstructive,
    authors_verdict,
    read_rgb,
)
from sspcab_bench.peer_torch import against_torch
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import InputError
from sspcab_edge.metrics import auroc
from sspcab_export import export
from sspcab_runtime import Detector

DEMO = Path(__file__).parents[2] / "examples" / "demo"
BACKENDS = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def networks() -> tuple[torch.nn.Module, torch.nn.Module]:
    """The demo checkpoint in the plain second definition; every key has to fit."""
    (path,) = [p for p in (DEMO / "model").glob("*.pckl") if not p.stem.endswith("_seg")]
    reconstructive, discriminative = Reconstructive(12), Discriminative(8)
    reconstructive.encoder["block5"] = OfficialBlock(96)
    reconstructive.load_state_dict(torch.load(path, weights_only=True))
    segmentation = path.with_name(path.stem + "_seg.pckl")
    discriminative.load_state_dict(torch.load(segmentation, weights_only=True))
    return reconstructive.eval(), discriminative.eval()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo bundle for both targets."""
    return export(
        DEMO / "model",
        targets=["onnx", "openvino"],
        calibration=DEMO / "calibration",
        validation=DEMO / "test",
        false_alarm_rate=0.1,
        output=tmp_path_factory.mktemp("demo") / "bundle",
    ).bundle.path


def held_out() -> tuple[list[Path], list[bool]]:
    paths = sorted((DEMO / "test").rglob("*.jpg"))
    return paths, [path.parent.name != "good" for path in paths]


def test_the_data_are_small_enough_to_commit_and_large_enough_to_judge() -> None:
    sizes = {path: path.stat().st_size for path in DEMO.rglob("*") if path.is_file()}
    assert sum(size for path, size in sizes.items() if path.parent.name != "cutpaste") <= 6e6
    assert sum(size for path, size in sizes.items() if path.parent.name == "cutpaste") <= 3.2e6
    paths, labels = held_out()
    assert sum(labels) >= 40
    assert len(paths) - sum(labels) >= 30
    for path, anomalous in zip(paths, labels, strict=True):
        mask = DEMO / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        assert mask.is_file() == anomalous


def test_the_detector_finds_held_out_defects_of_other_kinds_in_torch_and_in_every_artifact(
    networks: tuple[torch.nn.Module, torch.nn.Module], bundle: Path
) -> None:
    paths, labels = held_out()
    source = [authors_verdict(*networks, path)[0] for path in paths]
    reached = auroc(source, labels)
    assert reached is not None
    assert reached >= 0.95
    for backend in BACKENDS:
        with Detector.open(bundle, backend=backend) as detector:
            scores = [detector(read_rgb(path)).score for path in paths]
        own = auroc([float(score) for score in scores if score is not None], labels)
        assert own == pytest.approx(reached, abs=0.001)
        np.testing.assert_allclose(np.array(scores, float), source, atol=1e-4)


def test_the_gate_judged_sixty_pictures_and_more_with_blends_and_no_verdict_flips(bundle: Path) -> None:
    manifest = Bundle.open(bundle).manifest
    for artifact in manifest.artifacts:
        parity = artifact.parity
        assert parity.pictures >= 60
        assert parity.blends >= 10
        assert parity.flips == 0
        assert parity.max_abs_score_diff <= 1e-4
        assert parity.max_abs_map_diff is not None
        assert parity.max_abs_map_diff <= 1e-3


def test_colours_decide_verdicts_and_artifacts_decide_like_the_source(
    networks: tuple[torch.nn.Module, torch.nn.Module], bundle: Path, tmp_path: Path
) -> None:
    """Good pictures with red and blue exchanged: most become anomalous, for source and artifacts alike."""
    swapped = []
    for path in sorted((DEMO / "test" / "good").glob("*.jpg")):
        swapped.append(tmp_path / f"{path.stem}.png")
        assert cv2.imwrite(str(swapped[-1]), read_rgb(path))  # written as if it were BGR
    threshold = Bundle.open(bundle).manifest.decision.threshold
    assert threshold is not None
    source = [authors_verdict(*networks, path)[0] > threshold for path in swapped]
    right = [
        authors_verdict(*networks, path)[0] > threshold
        for path in sorted((DEMO / "test" / "good").glob("*.jpg"))
    ]
    assert sum(a != b for a, b in zip(source, right, strict=True)) >= len(source) / 2
    for backend in BACKENDS:
        with Detector.open(bundle, backend=backend) as detector:
            assert [detector(read_rgb(path)).anomalous for path in swapped] == source


def test_every_defect_that_passes_in_the_video_is_flagged(bundle: Path) -> None:
    command = [sys.executable, "-m", "sspcab_runtime.cli", str(bundle), str(DEMO / "surface.mp4"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [verdict["index"] for verdict in verdicts] == list(range(len(verdicts)))
    truth = json.loads((DEMO / "surface.json").read_text())
    for defect in truth["defects"]:
        first, last = defect["whole"]
        assert any(verdict["anomalous"] for verdict in verdicts[first : last + 1]), defect


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_int8_keeps_the_verdicts_on_pictures_that_nothing_was_fitted_to(tmp_path: Path) -> None:
    """The defaults of the gate, with over 300 judge pictures, on the faster engine."""
    pytest.importorskip("skimage", reason="scikit-image is not installed: no wall to draw pictures of")
    more = tmp_path / "more"
    script = DEMO.parent / "demo_pictures.py"
    counts = ["--calibration", "100", "--good", "300", "--defects", "4"]
    subprocess.run([sys.executable, str(script), "--out", str(more), *counts], check=True, timeout=120)
    bundle = export(
        DEMO / "model",
        targets=["openvino"],
        precisions=["int8"],
        calibration=more / "calibration",
        validation=more / "test",
        output=tmp_path / "bundle",
    ).bundle
    assert bundle.manifest.calibration is not None
    assert bundle.manifest.calibration.ranges >= 8
    for artifact in bundle.manifest.artifacts:
        parity = artifact.parity
        assert parity.pictures - parity.blends >= 300
        assert parity.flips_upper95 is not None
        assert parity.flips_upper95 <= 0.02
        assert parity.auroc_source is not None
        assert parity.auroc_artifact is not None
        assert parity.auroc_source - parity.auroc_artifact <= 0.005


def test_against_torch(bundle: Path, tmp_path: Path) -> None:
    """The network that the bundle was made of is a peer; another one is refused."""
    command = [sys.executable, "-m", "sspcab_bench.cli", "peers", str(bundle), "--torch", "eager",
               "--backend", "onnxruntime", "--seconds", "0.2", "--rounds", "0", "--json"]  # fmt: skip
    done = subprocess.run(
        [*command, "--checkpoint", str(DEMO / "model")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    _, found = json.loads(done.stdout)["results"]
    assert found["peer"] == f"torch {torch.__version__} eager"
    assert 0 < found["ours_ms"] < 1e4
    assert 0 < found["peer_ms"] < 1e4
    other = tmp_path / "model"
    other.mkdir()
    for path in (DEMO / "model").glob("*.pckl"):
        tensors = torch.load(path, weights_only=True)
        next(iter(tensors.values())).add_(1e-3)
        torch.save(tensors, other / path.name)
    with pytest.raises(InputError, match="was not made of"):
        against_torch(Bundle.open(bundle), [other], "eager", backend=None, seconds=0.1)
