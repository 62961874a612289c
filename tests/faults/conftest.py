"""What the fault matrix shares: a small bundle, a camera that obeys, and how long it may take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from definitions.fake_camera import FakeCamera, noisy_scene
from definitions.tiny_bundle import HEIGHT, WIDTH, make_bundle

pytest.importorskip("av", reason="PyAV is not installed: no cameras")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: no daemon")

LONG = os.environ.get("SSPCAB_FAULTS") == "long"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, ONNX only."""
    return make_bundle(tmp_path_factory.mktemp("tiny") / "bundle", targets=("onnx",)).path


@pytest.fixture
def camera() -> Iterator[FakeCamera]:
    """A camera with a still, noisy scene, 20 frames a second."""
    made = FakeCamera(noisy_scene(4 * HEIGHT, 4 * WIDTH))
    yield made
    made.kill()


@pytest.fixture
def toml(bundle: Path, camera: FakeCamera) -> str:
    """A configuration with that camera, quick to notice things."""
    return f"""
[bundles.tiny]
path = "{bundle}"
infer_s = 1.0
replay_s = 1.0
[cameras.one]
source = "{camera.uri}"
bundle = "tiny"
read_s = 2.0
open_s = 2.0
[cameras.one.integrity]
stall_s = 2.0
frozen_s = 2.0
[cameras.one.alarm]
threshold = 10.0
cool_down_s = 0.0
needed = 1
of = 1
"""


@pytest.fixture
def scale() -> int:
    """How many times more there is of everything in the long set."""
    return 10 if LONG else 1
