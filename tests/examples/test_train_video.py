"""The script that trains a video detector on a synthetic street: from nothing to a verified bundle."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from definitions.sspcab_torch import SumThenRelu
from sspcab_export.checkpoints import checkpoint_files, read_checkpoint
from sspcab_export.hosts import HostOptions, load_host
from sspcab_runtime.video_datasets import read_videos

SCRIPT = Path(__file__).parents[2] / "examples" / "train_video.py"


def train(out: Path, *options: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(out), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that was trained for a moment."""
    out = tmp_path_factory.mktemp("street")
    train(
        out, "--training", "1", "--testing", "3", "--frames", "180", "--objects", "48", "--epochs", "1"
    )  # fmt: skip
    return out


def test_what_it_leaves(street: Path) -> None:
    assert len(list((street / "training_videos").iterdir())) == 1
    videos = read_videos(street, "avenue")
    assert [len(video.labels) for video in videos] == [180] * 3
    assert all(video.labels.any() and not video.labels[:45].any() for video in videos)
    assert all(video.regions is not None and len(video.regions.tracks) for video in videos)
    log = json.loads((street / "model" / "training.json").read_text())
    assert 24 <= log["objects"] <= 48  # evenly over the video
    assert set(log["streams"]) == {"appearance", "backward", "forward"}


def test_its_checkpoint_is_read(street: Path) -> None:
    """Every weight has a place, and each stream its block."""
    host = load_host(read_checkpoint(checkpoint_files([street / "model/street.pt"])), HostOptions())
    assert host.name == "background-agnostic"
    assert [(spec.path, spec.dialect, spec.channels) for spec in host.blocks] == [
        (f"{name}.decoder.2", "official", 16) for name in ("appearance", "backward", "forward")
    ]


def test_the_same_seed_draws_the_same_street(tmp_path: Path) -> None:
    labels = []
    for name in ("a", "b"):
        train(tmp_path / name, "--training", "0", "--testing", "1", "--frames", "60", "--videos-only")
        labels.append(np.load(tmp_path / name / "ground_truth_demo/testing_label_mask/01.npy"))
        assert not (tmp_path / name / "model").exists()
    assert np.array_equal(*labels)
    assert (tmp_path / "a/testing_videos/01.mp4").read_bytes() == (
        tmp_path / "b/testing_videos/01.mp4"
    ).read_bytes()


def test_its_block_is_the_paper_s() -> None:
    """Against the plain definition of the tests, with the same weights."""
    spec = importlib.util.spec_from_file_location("train_video", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_video"] = module
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    own, plain = module.Block(16), SumThenRelu(16)
    plain.load_state_dict(own.state_dict())
    x = torch.randn(2, 16, 9, 7)
    assert torch.allclose(own(x), plain(x), atol=1e-6)
