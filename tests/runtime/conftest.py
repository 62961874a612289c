"""What the tests of the runtime do with a small real bundle."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from definitions.tiny_bundle import BACKEND_OF, Floats, Pixels, judge_pictures, make_bundle, reference
from sspcab_edge.bundle import Bundle
from sspcab_edge.protocols import Engine
from sspcab_runtime.engines import open_engine

# No test of this folder may tell anybody that OpenVINO was imported; the runtime does the same by itself.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


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
        save(f"pictures/{'late' if number % 2 else 'early'}/{number:03d}.png", pixels[..., ::-1])
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
