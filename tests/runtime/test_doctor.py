"""``sspcab-edge doctor`` and what it reads of a machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sspcab_runtime import doctor
from sspcab_runtime.engines import ENGINES, probe
from sspcab_runtime.machine import cpu_device, gpus, jetson, memory_mb, read_cpu

Command = Callable[..., subprocess.CompletedProcess[str]]

LAPTOP = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Core(TM) i5-1240P
flags\t\t: fpu sse4_1 avx fma f16c avx2 avx_vnni
processor\t: 1
model name\t: Intel(R) Core(TM) i5-1240P
flags\t\t: fpu sse4_1 avx fma f16c avx2 avx_vnni
"""
ORIN = """processor\t: 0
Features\t: fp asimd evtstrm aes asimdhp asimddp fphp
CPU implementer\t: 0x41
CPU part\t: 0xd42
"""


def proc(root: Path, cpuinfo: str, **files: str) -> Path:
    (root / "cpuinfo").write_text(cpuinfo)
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_laptop(tmp_path: Path) -> None:
    root = proc(tmp_path, LAPTOP, meminfo="MemTotal: 16000000 kB\nMemAvailable: 8192000 kB\nHugePages: 0\n")
    assert read_cpu(root).model == "Intel(R) Core(TM) i5-1240P"
    assert read_cpu(root).flags == ("sse4_1", "avx", "fma", "f16c", "avx2", "avx_vnni")
    assert cpu_device(root) == "Intel(R) Core(TM) i5-1240P (sse4_1 avx fma f16c avx2 avx_vnni)"
    assert memory_mb(root) == (15625, 8000)
    assert jetson(root) is None
    assert gpus(root, tmp_path / "dev") == ()


def test_devices_differ_by_what_changes_rounding(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    assert cpu_device(proc(first, LAPTOP)) != cpu_device(proc(second, LAPTOP.replace(" avx_vnni", "")))


def test_a_jetson(tmp_path: Path) -> None:
    model = "NVIDIA Jetson Orin Nano Developer Kit\0"
    root = proc(tmp_path, ORIN, device_tree__model=model)
    board = "NVIDIA Jetson Orin Nano Developer Kit"
    assert jetson(root) == board
    assert read_cpu(root).model == f"{board}, ARM implementer 0x41 part 0xd42"
    assert read_cpu(root).flags == ("asimd", "fphp", "asimdhp", "asimddp")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvhost-gpu").write_bytes(b"")
    assert gpus(root, tmp_path / "dev") == ("NVIDIA GPU",)


def test_a_graphics_card(tmp_path: Path) -> None:
    root = proc(tmp_path, LAPTOP, driver__nvidia__gpus__0__information="Model: \t NVIDIA RTX A2000\n")
    assert gpus(root, tmp_path / "dev") == ("NVIDIA RTX A2000",)


def test_a_kernel_that_says_nothing(tmp_path: Path) -> None:
    assert read_cpu(tmp_path).model
    assert read_cpu(tmp_path).flags == ()
    assert memory_mb(tmp_path) is None
    report = doctor.examine(proc=tmp_path, dev=tmp_path, backends=[])
    assert report.machine.memory_mb is None


def test_the_tiny_graph_is_what_it_says() -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    helper, kinds = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["frames"], ["x"], to=kinds.FLOAT),
            helper.make_node("ReduceMax", ["x"], ["score"], axes=[1, 2, 3], keepdims=0),
        ],
        "tiny",
        [helper.make_tensor_value_info("frames", kinds.UINT8, ["N", 2, 2, 3])],
        [helper.make_tensor_value_info("score", kinds.FLOAT, ["N"])],
    )
    expected = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    expected.producer_name = ""
    assert expected.SerializeToString() == probe.TINY_ONNX


@pytest.mark.parametrize("backend", list(ENGINES))
def test_a_backend_that_runs(backend: str) -> None:
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    found = probe.probe(backend)
    assert found.error is None
    assert found.version is not None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "it died of SIGILL"),
        ("import time; time.sleep(60)", "it hung for 2 s"),
        ("raise OSError('libonnx.so: wrong ELF class')", "it failed: OSError: libonnx.so: wrong ELF class"),
        ("raise ImportError('libstdc++ is too old')", "onnxruntime cannot be imported: libstdc++ is too old"),
        ("import nothing_of_this_name", "onnxruntime cannot be imported: No module named"),
    ],
    ids=["illegal instruction", "hangs", "OSError", "ImportError", "its dependency is missing"],
)
def test_a_backend_that_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    """A library that kills its process does not kill the doctor."""
    (tmp_path / "onnxruntime.py").write_text(body)
    path = [str(tmp_path), *(entry for entry in sys.path if entry)]
    monkeypatch.setenv("PYTHONPATH", ":".join(path))
    found = probe.probe("onnxruntime", timeout_s=2 if "sleep" in body else 30)
    assert found.version is None
    assert found.error is not None
    assert found.error.startswith(message)


def test_a_wrong_backend_on_the_command_line(command: Command) -> None:
    done = command("sspcab_runtime.engines.probe", "nothing")
    assert done.returncode == 1
    assert done.stderr.startswith("usage:")


def test_the_command(command: Command) -> None:
    done = command("sspcab_edge.cli", "doctor")
    assert done.returncode == 0, done.stderr
    for word in ("Python", "CPU", "memory", "cache", "onnxruntime", "openvino", "numpy", "av"):
        assert word in done.stdout


def test_the_command_speaks_json(command: Command) -> None:
    report = json.loads(command("sspcab_edge.cli", "doctor", "--json").stdout)
    assert report["schema"] == 1
    assert [engine["backend"] for engine in report["engines"]] == list(ENGINES)
    assert report["machine"]["cpus"] >= 1
    assert report["cache_error"] is None


def test_what_is_missing_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "av" else "1")
    report = doctor.examine(backends=["openvino"])
    (engine,) = report.engines
    assert (engine.runs, engine.error) == (False, "not installed")
    text = doctor.format_report(report)
    assert "not installed: pip install 'openvino>=2025.0'" in text
    assert "videos: pip install 'av>=17.1'" in text
    assert "no backend runs here" in text


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    report = doctor.examine(backends=[])
    assert report.cache == str(tmp_path / "file/sspcab-edge")
    assert report.cache_error is not None
    assert report.cache_error.startswith("not writable")
