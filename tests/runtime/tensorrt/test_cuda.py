"""CUDA through ctypes: the real libcudart where a wheel brings it, without a GPU; and libraries that lack."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sspcab_edge.errors import EngineError, MissingPackageError
from sspcab_runtime.engines.tensorrt import can_build, check_with, cudart, importing
from sspcab_runtime.engines.tensorrt.cuda import _STICKY, CudaError
from sspcab_runtime.engines.tensorrt.cudart import CudaRuntime, load_cudart, load_libcuda, open_cuda

Command = Callable[..., subprocess.CompletedProcess[str]]
FAKE = Path(__file__).parent / "fake"


def on_path(folder: Path) -> str:
    """PYTHONPATH with ``folder`` first."""
    return os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))


def has_gpu() -> bool:
    try:
        open_cuda()
    except EngineError:
        return False
    return True


@pytest.fixture(autouse=True)
def _no_gpu() -> None:
    if has_gpu():
        pytest.skip("this machine has a GPU: what is said without one cannot be seen")


@pytest.fixture
def library() -> str:
    """The path of a real libcudart, of a wheel or the toolkit."""
    for name in cudart._candidates():
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    pytest.skip("no libcudart here: pip install nvidia-cuda-runtime-cu12")


def test_a_machine_without_a_driver_says_so() -> None:
    with pytest.raises(EngineError, match=r"^no CUDA device: no NVIDIA driver \(libcuda.so.1: cannot open"):
        load_libcuda()
    with pytest.raises(EngineError, match="no CUDA device"):
        open_cuda()


def test_a_driver_that_does_not_start_says_so(tmp_path: Path) -> None:
    """A library with libcuda's two functions, compiled here, that says 100: no device."""
    source = tmp_path / "cuda.c"
    source.write_text(
        "int cuInit(unsigned f) { return 100; }\n"
        'int cuGetErrorName(int c, const char **s) { *s = "CUDA_ERROR_NO_DEVICE"; return 0; }\n'
    )
    path = tmp_path / "libcuda.so.1"
    try:
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(path), str(source)], check=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("no gcc to compile a pretend driver with")
    with pytest.raises(EngineError, match=r"the driver's cuInit fails: CUDA_ERROR_NO_DEVICE \(100\)"):
        load_libcuda((str(path),))


def test_the_real_runtime_names_its_error(library: str) -> None:
    expected = r"no CUDA device: .*libcudart.*: cudaErrorInsufficientDriver \(35\): CUDA driver version is"
    with pytest.raises(EngineError, match=expected):
        load_cudart((library,))


def test_every_function_exists_in_the_real_runtime(library: str) -> None:
    loaded = ctypes.CDLL(library)
    for name in cudart._SIGNATURES:
        assert hasattr(loaded, name)


def test_sticky_errors_have_the_names_they_are_meant_by(library: str) -> None:
    loaded = ctypes.CDLL(library)
    cudart._declare(loaded)
    names = {code: loaded.cudaGetErrorName(code).decode() for code in sorted(_STICKY)}
    assert names == {
        214: "cudaErrorECCUncorrectable",
        220: "cudaErrorNvlinkUncorrectable",
        700: "cudaErrorIllegalAddress",
        702: "cudaErrorLaunchTimeout",
        710: "cudaErrorAssert",
        714: "cudaErrorHardwareStackError",
        715: "cudaErrorIllegalInstruction",
        716: "cudaErrorMisalignedAddress",
        717: "cudaErrorInvalidAddressSpace",
        718: "cudaErrorInvalidPc",
        719: "cudaErrorLaunchFailure",
    }


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda cuda: cuda.allocate(3 << 20), "cannot allocate 3.0 MiB on the GPU"),
        (lambda cuda: cuda.allocate_host(1 << 20), "cannot allocate 1.0 MiB of pinned memory"),
        (lambda cuda: cuda.create_stream(), "cannot create a CUDA stream"),
        (lambda cuda: cuda.free_memory_mb(), "the GPU does not tell its memory"),
    ],
)
def test_every_call_on_the_real_runtime_is_an_engine_error(
    library: str, call: Callable[[Any], object], said: str
) -> None:
    loaded = ctypes.CDLL(library)
    cudart._declare(loaded)
    with pytest.raises(CudaError, match=rf"{said}: cudaErrorInsufficientDriver \(35\)") as raised:
        call(CudaRuntime(loaded, None))
    assert raised.value.code == 35
    assert not raised.value.sticky


def test_no_runtime_and_a_wrong_library_are_said(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no CUDA device: libcudart is not installed: JetPack"):
        load_cudart((str(tmp_path / "libcudart.so"),))
    libc = "libc.so.6"
    with pytest.raises(EngineError, match=r"libc.so.6 is no usable CUDA runtime: .*cudaDriverGetVersion"):
        load_cudart((libc,))


def test_without_the_package_its_pip_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'tensorrt>=10\.3'"):
        importing.import_tensorrt()
    assert "tensorrt is not installed" in str(can_build())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ImportError('libnvinfer.so.10: cannot open shared object file')", "libnvinfer.so.10: cannot"),
        ("import tensorrt_libs_of_no_version", "cannot be imported: No module named"),
        ("raise OSError('wrong ELF class')", "cannot be imported: wrong ELF class"),
    ],
)
def test_a_package_that_does_not_load_is_an_engine_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    (tmp_path / "tensorrt.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(EngineError, match=message):
        importing.import_tensorrt()


@pytest.mark.parametrize("use", ["engine", "prepare", "check"])
def test_tensorrt_is_not_called_without_cuda(onnx_file: Path, use: str) -> None:
    """The real one dies of a segmentation fault; this one aborts. Nobody may get as far."""
    what = {
        "engine": "TensorRtEngine(path, inputs, outputs, precision='fp32')",
        "prepare": "prepare(path, inputs)",
        "check": "check_with(__import__('tensorrt'), path, inputs)",
    }[use]
    code = f"""
from pathlib import Path
from sspcab_edge.errors import EngineError
from sspcab_edge.ports import whole_frame_ports
from sspcab_runtime.engines.tensorrt import TensorRtEngine, check_with, prepare
inputs, outputs = whole_frame_ports(24, 32, (24, 32))
path = Path({str(onnx_file)!r})
try:
    {what}
except EngineError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": on_path(FAKE), "FAKE_TENSORRT_ABORTS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no CUDA device: ")
    assert done.stdout.count("\n") == 1


def test_the_pretend_module_really_aborts() -> None:
    """Or the test above would show nothing."""
    environment = {**os.environ, "PYTHONPATH": on_path(FAKE), "FAKE_TENSORRT_ABORTS": "1"}
    code = "import tensorrt; tensorrt.Runtime(None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert done.returncode < 0


def test_a_checker_needs_no_driver_and_tensorrt_does(trt: Any, ports: Any) -> None:
    with pytest.raises(EngineError, match="no CUDA device"):
        check_with(trt, b"frames" * 100, ports[0])
