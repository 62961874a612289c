"""What is installed, and that a device needs no more than the runtime and one engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from definitions.draem_plain import Discriminative, OfficialBlock, Reconstructive, randomise
from sspcab_export import HostOptions, export

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "onnx", "openvino", "onnxscript", "onnx_ir")
MAX_MEGABYTES = 350


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheels_top_level_names_are_exactly_the_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top == {"sspcab_edge", "sspcab_export", "sspcab_runtime", "sspcab_bench"}
    for package in top:
        assert f"{package}/py.typed" in names
    assert any(name.startswith("sspcab_export/builtin_pictures/") for name in names)


THIS = f"{sys.version_info.major}.{sys.version_info.minor}"


def interpreter(version: str) -> str:
    """The Python of that version: this one, pyenv's, or one on the path; skips where there is none."""
    if version == THIS:
        return sys.executable
    roots = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [str(path) for path in sorted(roots.glob(f"{version}.*/bin/python"))]
    for python in (*reversed(found), shutil.which(f"python{version}") or ""):
        if python and subprocess.run([python, "-c", "import venv"], capture_output=True).returncode == 0:
            return python
    pytest.skip(f"Python {version} is not on this machine")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle with a threshold."""
    folder = tmp_path_factory.mktemp("bundle")
    reconstructive = Reconstructive(4)
    reconstructive.encoder["block5"] = OfficialBlock(32)
    torch.save(randomise(reconstructive, 1).state_dict(), folder / "run.pckl")
    torch.save(randomise(Discriminative(4), 2).state_dict(), folder / "run_seg.pckl")
    return export(
        folder / "run.pckl",
        host=HostOptions(input_size=(64, 64)),
        threshold=0.2,
        output=folder / "bundle",
    ).bundle.path


@pytest.mark.slow
@pytest.mark.parametrize("version", sorted({THIS, "3.10", "3.12"}))
def test_a_device_runs_a_bundle_with_onnxruntime_alone(
    wheel: Path, bundle: Path, tmp_path: Path, version: str
) -> None:
    python = interpreter(version)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ORT_DISABLE_TELEMETRY")}
    environment |= {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    (tmp_path / "home").mkdir()
    venv = tmp_path / "venv"
    subprocess.run([python, "-m", "venv", str(venv)], check=True)
    own = venv / "bin" / "python"
    install = [str(own), "-m", "pip", "install", "--quiet", "--no-compile", f"{wheel}[onnxruntime]"]
    subprocess.run(install, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": ""})
    assert _megabytes_on_disk(venv) <= MAX_MEGABYTES, _megabytes_on_disk(venv)
    for name in HEAVY:
        probe = subprocess.run([own, "-c", f"import {name}"], capture_output=True, env=environment)
        assert probe.returncode == 1, f"{name} came along"

    assert cv2.imwrite(str(tmp_path / "picture.png"), np.full((50, 60, 3), 90, np.uint8))
    command = [venv / "bin" / "sspcab-run", bundle, tmp_path / "picture.png", "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    (verdict,) = map(json.loads, done.stdout.splitlines())
    wanted = {"schema", "source", "index", "path", "score", "threshold", "anomalous", "latency_ms"}
    assert wanted <= set(verdict)
    assert verdict["threshold"] == 0.2
    assert not list((tmp_path / "home").rglob("*onnxruntime*")), "telemetry left its files"


def _megabytes_on_disk(folder: Path) -> float:
    """Blocks in use, as ``du`` counts them."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) / 1e6


def test_a_fresh_interpreter_loads_core_and_runtime_without_anything_heavy() -> None:
    modules = "sspcab_edge.cli, sspcab_edge.parity, sspcab_edge.bundle, sspcab_runtime, sspcab_export.cli"
    code = f"import {modules}, sys; "
    code += "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not set(HEAVY) & set(loaded.split())
    assert not {"onnxruntime", "av", "nncf"} & set(loaded.split())
