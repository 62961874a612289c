"""CUDA through ctypes, on the libraries that the device has: libcuda for facts, libcudart for the rest.

JetPack and the CUDA toolkit bring libcudart, and so do NVIDIA's wheels; nothing is compiled or installed.
"""

from __future__ import annotations

import ctypes
import glob
import importlib.util
import logging
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from sspcab_edge.errors import EngineError
from sspcab_runtime.engines.tensorrt.cuda import CudaError, Gpu, HostBlock

__all__ = ["CudaRuntime", "load_cudart", "load_libcuda", "open_cuda"]

_LOG = logging.getLogger(__name__)

_DRIVERS = ("libcuda.so.1",)
_RUNTIMES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "/usr/local/cuda/lib64/libcudart.so")
_WHEELS = ("cuda_runtime/lib/libcudart.so.*", "cu*/lib/libcudart.so.*")

_NON_BLOCKING = 1
_CAPTURE_THREAD_LOCAL = 1
_TO_DEVICE, _TO_HOST = 1, 2
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_NAME_BYTES = 256

_P, _I, _Z, _U, _Q = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint, ctypes.c_ulonglong
_PI, _PP, _PZ = ctypes.POINTER(_I), ctypes.POINTER(_P), ctypes.POINTER(_Z)

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cudaDriverGetVersion": (_PI,),
    "cudaFree": (_P,),
    "cudaFreeHost": (_P,),
    "cudaGetDeviceCount": (_PI,),
    "cudaGetLastError": (),
    "cudaGraphDestroy": (_P,),
    "cudaGraphExecDestroy": (_P,),
    "cudaGraphInstantiateWithFlags": (_PP, _P, _Q),
    "cudaGraphLaunch": (_P, _P),
    "cudaHostAlloc": (_PP, _Z, _U),
    "cudaMalloc": (_PP, _Z),
    "cudaMemGetInfo": (_PZ, _PZ),
    "cudaMemcpyAsync": (_P, _P, _Z, _I, _P),
    "cudaRuntimeGetVersion": (_PI,),
    "cudaStreamBeginCapture": (_P, _I),
    "cudaStreamCreateWithFlags": (_PP, _U),
    "cudaStreamDestroy": (_P,),
    "cudaStreamEndCapture": (_P, _PP),
    "cudaStreamSynchronize": (_P,),
}
"""The functions used, with their arguments; they are the same in the CUDA runtimes 11.4 to 13."""


def load_libcuda(names: tuple[str, ...] = _DRIVERS) -> Any:
    """The driver's library, initialised. TensorRT dies of a segmentation fault where this fails.

    Raises:
        EngineError: There is no driver, or it has no GPU.
    """
    reason = "no driver library was named"
    for name in names:
        try:
            library = ctypes.CDLL(name)
        except OSError as error:
            reason = f"no NVIDIA driver ({error})"
            continue
        code = library.cuInit(_U(0))
        if code == 0:
            return library
        reason = f"the driver's cuInit fails: {_driver_error(library, code)}"
    raise EngineError(f"no CUDA device: {reason}")


def load_cudart(names: tuple[str, ...] | None = None) -> Any:
    """The first CUDA runtime library that sees a GPU, from ``names`` or the usual places.

    Raises:
        EngineError: None can be loaded, or none sees a GPU.
    """
    reason = "libcudart is not installed: JetPack and NVIDIA's CUDA packages bring it"
    for name in _candidates() if names is None else names:
        try:
            library = ctypes.CDLL(name)
        except OSError as error:
            _LOG.debug("%s: %s", name, error)
            continue
        try:
            _declare(library)
        except AttributeError as error:
            reason = f"{name} is no usable CUDA runtime: {error}"
            continue
        count = _I()
        code = library.cudaGetDeviceCount(ctypes.byref(count))
        if code == 0 and count.value > 0:
            return library
        reason = f"{name} sees none" if code == 0 else f"{name}: {_runtime_error(library, code)}"
    raise EngineError(f"no CUDA device: {reason}")


def open_cuda() -> CudaRuntime:
    """CUDA on the first GPU (``CUDA_VISIBLE_DEVICES`` chooses another).

    Raises:
        EngineError: There is no driver, no runtime library or no GPU; the text says which.
    """
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")  # the default since 12.2; saves memory before it
    driver = load_libcuda()
    return CudaRuntime(load_cudart(), driver)


class CudaRuntime:
    """Implements :class:`~sspcab_runtime.engines.tensorrt.cuda.Cuda` on libcudart and libcuda."""

    def __init__(self, cudart: Any, libcuda: Any) -> None:
        self._rt = cudart
        self._driver = libcuda
        self._gpu: Gpu | None = None

    def gpu(self) -> Gpu:
        """The GPU, asked once."""
        if self._gpu is None:
            self._gpu = self._ask()
        return self._gpu

    def free_memory_mb(self) -> int:
        """Device memory that is free now, in MiB."""
        return self._memory()[0] >> 20

    def allocate(self, size: int) -> int:
        """Address of ``size`` bytes of device memory."""
        address = _P()
        what = f"cannot allocate {_mib(size)} on the GPU"
        self._check(self._rt.cudaMalloc(ctypes.byref(address), size), what)
        return int(address.value or 0)

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._check(self._rt.cudaFree(address), "cannot free GPU memory")

    def allocate_host(self, size: int) -> HostBlock:
        """``size`` bytes of pinned host memory."""
        address = _P()
        what = f"cannot allocate {_mib(size)} of pinned memory"
        self._check(self._rt.cudaHostAlloc(ctypes.byref(address), size, 0), what)
        at = int(address.value or 0)
        return HostBlock(at, np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(at)))

    def free_host(self, block: HostBlock) -> None:
        """Give pinned memory back; its array must not be used any more."""
        self._check(self._rt.cudaFreeHost(block.address), "cannot free pinned memory")

    def copy_in(self, address: int, block: HostBlock, size: int, stream: int) -> None:
        """Enqueue a copy of ``size`` bytes from host to device."""
        code = self._rt.cudaMemcpyAsync(address, block.address, size, _TO_DEVICE, stream)
        self._check(code, "cannot copy to the GPU")

    def copy_out(self, block: HostBlock, address: int, size: int, stream: int) -> None:
        """Enqueue a copy of ``size`` bytes from device to host."""
        code = self._rt.cudaMemcpyAsync(block.address, address, size, _TO_HOST, stream)
        self._check(code, "cannot copy from the GPU")

    def create_stream(self) -> int:
        """A stream that does not wait for the default stream."""
        stream = _P()
        code = self._rt.cudaStreamCreateWithFlags(ctypes.byref(stream), _NON_BLOCKING)
        self._check(code, "cannot create a CUDA stream")
        return int(stream.value or 0)

    def destroy_stream(self, stream: int) -> None:
        """Give a stream back."""
        self._check(self._rt.cudaStreamDestroy(stream), "cannot destroy a CUDA stream")

    def synchronize(self, stream: int) -> None:
        """Wait until all that was enqueued is done."""
        self._check(self._rt.cudaStreamSynchronize(stream), "the GPU failed")

    def begin_capture(self, stream: int) -> None:
        """From here on, what is enqueued is recorded and not run."""
        code = self._rt.cudaStreamBeginCapture(stream, _CAPTURE_THREAD_LOCAL)
        self._check(code, "cannot begin to capture a CUDA graph")

    def end_capture(self, stream: int) -> int:
        """What was recorded, as a graph that can be launched."""
        graph, executable = _P(), _P()
        code = self._rt.cudaStreamEndCapture(stream, ctypes.byref(graph))
        self._check(code, "cannot capture a CUDA graph")
        code = self._rt.cudaGraphInstantiateWithFlags(ctypes.byref(executable), graph, 0)
        self._rt.cudaGraphDestroy(graph)
        self._check(code, "cannot instantiate a CUDA graph")
        return int(executable.value or 0)

    def abandon_capture(self, stream: int) -> None:
        """End a capture that failed and forget its error; raises nothing."""
        graph = _P()
        self._rt.cudaStreamEndCapture(stream, ctypes.byref(graph))
        if graph.value:
            self._rt.cudaGraphDestroy(graph)
        self._rt.cudaGetLastError()

    def launch(self, graph: int, stream: int) -> None:
        """Enqueue a recorded graph."""
        self._check(self._rt.cudaGraphLaunch(graph, stream), "cannot launch a CUDA graph")

    def destroy_graph(self, graph: int) -> None:
        """Give a graph back."""
        self._check(self._rt.cudaGraphExecDestroy(graph), "cannot destroy a CUDA graph")

    def _ask(self) -> Gpu:
        device, major, minor = _I(), _I(), _I()
        name = ctypes.create_string_buffer(_NAME_BYTES)
        calls = (
            self._driver.cuDeviceGet(ctypes.byref(device), _I(0)),
            self._driver.cuDeviceGetName(name, _I(_NAME_BYTES), device),
            self._driver.cuDeviceGetAttribute(ctypes.byref(major), _I(_CAPABILITY_MAJOR), device),
            self._driver.cuDeviceGetAttribute(ctypes.byref(minor), _I(_CAPABILITY_MINOR), device),
        )
        for code in calls:
            if code != 0:
                raise EngineError(f"the GPU cannot be asked what it is: {_driver_error(self._driver, code)}")
        supported, loaded = _I(), _I()
        self._check(self._rt.cudaDriverGetVersion(ctypes.byref(supported)), "the driver has no version")
        self._check(self._rt.cudaRuntimeGetVersion(ctypes.byref(loaded)), "libcudart has no version")
        return Gpu(
            name=name.value.decode(errors="replace"),
            capability=f"{major.value}.{minor.value}",
            driver=_version(supported.value),
            runtime=_version(loaded.value),
            memory_mb=self._memory()[1] >> 20,
        )

    def _memory(self) -> tuple[int, int]:
        free, total = _Z(), _Z()
        code = self._rt.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
        self._check(code, "the GPU does not tell its memory")
        return free.value, total.value

    def _check(self, code: int, what: str) -> None:
        """Raise CudaError unless ``code`` is success; the library forgets errors that are not sticky."""
        if code != 0:
            self._rt.cudaGetLastError()
            name, text = _runtime_texts(self._rt, code)
            raise CudaError(what, code, name, text)


def _candidates() -> Iterator[str]:
    """Where libcudart may be: the loader's path, the toolkit, NVIDIA's wheels."""
    yield from _RUNTIMES
    nvidia = importlib.util.find_spec("nvidia")
    for place in (nvidia.submodule_search_locations or ()) if nvidia is not None else ():
        for pattern in _WHEELS:
            yield from sorted(glob.glob(os.path.join(place, pattern)))


def _declare(library: Any) -> None:
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, _I
    for name in ("cudaGetErrorName", "cudaGetErrorString"):
        function = getattr(library, name)
        function.argtypes, function.restype = (_I,), ctypes.c_char_p


def _runtime_texts(library: Any, code: int) -> tuple[str, str]:
    name, text = library.cudaGetErrorName(code), library.cudaGetErrorString(code)
    return (name or b"unknown").decode(), (text or b"").decode()


def _runtime_error(library: Any, code: int) -> str:
    name, text = _runtime_texts(library, code)
    return f"{name} ({code}): {text}"


def _driver_error(library: Any, code: int) -> str:
    name = ctypes.c_char_p()
    library.cuGetErrorName(_I(code), ctypes.byref(name))
    return f"{(name.value or b'unknown').decode()} ({code})"


def _version(number: int) -> str:
    """12060 -> 12.6."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
