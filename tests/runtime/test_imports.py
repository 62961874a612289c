"""What is imported when: a device must be able to run with one engine, and start quickly."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

import sspcab_runtime

FORBIDDEN = (
    "torch",
    "tensorrt",
    "tensorrt_rtx",
    "onnx",
    "onnxscript",
    "onnx_ir",
    "nncf",
    "onnxruntime",
    "openvino",
    "av",
    "sspcab_export",
    "sspcab_bench",
)
ROOT = Path(__file__).parents[2]


def modules() -> list[str]:
    """Every module of core and runtime."""
    found = []
    for package, top in (("sspcab_edge", ROOT), ("sspcab_runtime", ROOT / "runtime")):
        for path in sorted((top / package).rglob("*.py")):
            parts = path.relative_to(top).with_suffix("").parts
            found.append(".".join(part for part in parts if part != "__init__"))
    return found


def loaded_by(code: str) -> set[str]:
    line = f"{code}\nimport sys; print(*sorted(name.split('.')[0] for name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", line], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split())


def test_importing_everything_loads_no_engine_and_nothing_heavy() -> None:
    names = modules()
    assert "sspcab_runtime.engines.openvino_engine" in names
    assert "sspcab_edge.demo" in names
    loaded = loaded_by("\n".join(f"import {name}" for name in names))
    assert "sspcab_runtime" in loaded
    assert loaded & set(FORBIDDEN) == set()


def test_nobody_here_imports_the_exporter_or_the_benchmarks() -> None:
    for top in (ROOT / "sspcab_edge", ROOT / "runtime"):
        for path in top.rglob("*.py"):
            text = path.read_text()
            for package in ("sspcab_export", "sspcab_bench"):
                assert f"import {package}" not in text, path
                assert f"from {package}" not in text, path


def test_only_the_engine_that_is_used_is_loaded(pristine: Path) -> None:
    opened = f"Detector.open({str(pristine)!r}, backend='onnxruntime').close()"
    loaded = loaded_by(f"from sspcab_runtime import Detector\n{opened}")
    assert "onnxruntime" in loaded
    assert loaded & (set(FORBIDDEN) - {"onnxruntime"}) == set()


def test_importing_the_runtime_is_quick() -> None:
    """At most a second more than the interpreter alone, in CPU time: the machine may be shared."""

    def best(code: str) -> float:
        times = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(times)

    assert best("import sspcab_runtime") - best("pass") < 1


def test_what_is_exported_exists() -> None:
    assert sorted(sspcab_runtime.__all__) == sspcab_runtime.__all__
    for name in sspcab_runtime.__all__:
        assert getattr(sspcab_runtime, name)


@pytest.mark.parametrize("name", modules())
def test_every_module_says_what_it_exports(name: str) -> None:
    if name in ("sspcab_edge.cli", "sspcab_runtime.inspect") or name.endswith("__main__"):
        return
    module = __import__(name, fromlist=["__all__"])
    for exported in module.__all__:
        assert hasattr(module, exported), f"{name}.{exported}"
