"""Every behaviour of an engine, once, on every backend."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EngineError, InputError, MissingPackageError, OptionError
from sspcab_edge.ports import Port
from sspcab_edge.protocols import Engine, Request
from sspcab_runtime.calls import answer
from sspcab_runtime.engines import ENGINES, choose, engine_class, installed, load_engine, open_engine
from sspcab_runtime.engines.onnxruntime_engine import import_onnxruntime, map_errors, vendor_errors
from sspcab_runtime.engines.openvino_engine import OpenVinoEngine
from sspcab_runtime.engines.table import candidates, fitting

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Network = Callable[[Pixels], tuple[Floats, Floats]]
Opened = tuple[str, Callable[..., Engine]]

FILES = {"onnxruntime": "model.fp32.onnx", "openvino": "openvino/model.fp32.xml"}


@pytest.mark.parametrize("batch", [1, 2, 5, 12])
def test_gives_what_the_network_gives(engine: Engine, frames: Pixels, network: Network, batch: int) -> None:
    outputs = engine.infer({"frames": frames[:batch]})
    scores, maps = network(frames[:batch])
    assert outputs["score"].dtype == outputs["map"].dtype == np.float32
    assert np.allclose(outputs["score"], scores, rtol=0, atol=1e-6)
    assert np.allclose(outputs["map"], maps, rtol=0, atol=1e-6)


def test_sees_colours_in_their_order(engine: Engine, frames: Pixels) -> None:
    right = engine.infer({"frames": frames})["score"]
    swapped = engine.infer({"frames": frames[..., ::-1]})["score"]
    assert np.abs(np.asarray(right) - np.asarray(swapped)).max() > 0.01


def test_is_deterministic(engine: Engine, frames: Pixels) -> None:
    first, second = (engine.infer({"frames": frames}) for _ in range(2))
    assert np.array_equal(first["map"], second["map"])
    assert np.array_equal(first["score"], second["score"])


def test_outputs_outlive_the_next_call(engine: Engine, frames: Pixels) -> None:
    first = engine.infer({"frames": frames[:1]})
    kept = {name: np.array(array) for name, array in first.items()}
    for other in range(1, 6):
        engine.infer({"frames": frames[other : other + 1]})
    for name, array in kept.items():
        assert np.array_equal(first[name], array), name


def test_takes_arrays_that_are_not_contiguous_or_not_writable(engine: Engine, frames: Pixels) -> None:
    expected = engine.infer({"frames": frames[::2].copy()})["score"]
    assert np.array_equal(engine.infer({"frames": frames[::2]})["score"], expected)
    frozen = frames[::2].copy()
    frozen.flags.writeable = False
    assert np.array_equal(engine.infer({"frames": frozen})["score"], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: {"frames": f.astype(np.float32)}, "input frames is float32, expected uint8"),
        (lambda f: {"frames": f[0]}, r"input frames has shape \(24, 32, 3\)"),
        (lambda f: {"frames": f[:, :, :16]}, r"input frames has shape \(12, 24, 16, 3\)"),
        (lambda f: {"frames": f[..., :2]}, "input frames has shape"),
        (lambda f: {"frames": f[:0]}, "the batch is empty"),
        (lambda f: {"image": f}, r"inputs are named \['image'\], expected \['frames'\]"),
        (lambda f: {}, "inputs are named"),
        (lambda f: {"frames": f, "more": f}, "inputs are named"),
    ],
)
def test_refuses_inputs_that_do_not_fit(
    engine: Engine, frames: Pixels, change: Callable[[Pixels], dict[str, Pixels]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        engine.infer(change(frames))
    assert engine.infer({"frames": frames})["score"].shape == (12,), "and still works afterwards"


def test_closing_twice_is_fine_and_inferring_then_is_not(engine: Engine, frames: Pixels) -> None:
    with engine:
        engine.infer({"frames": frames})
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.infer({"frames": frames})


def test_says_what_it_is(opened: Opened) -> None:
    backend, open_ = opened
    engine = open_()
    assert engine.backend == backend
    assert engine.version[0].isdigit()
    assert engine.device
    assert engine.max_batch is None
    assert [port.name for port in engine.inputs] == ["frames"]
    assert [port.name for port in engine.outputs] == ["score", "map"]


def test_threads_change_nothing_but_speed(opened: Opened, frames: Pixels) -> None:
    _, open_ = opened
    one, two = (open_(threads=threads).infer({"frames": frames})["map"] for threads in (1, 2))
    assert np.allclose(one, two, rtol=0, atol=1e-6)
    with pytest.raises(OptionError, match="threads is 0, expected 1 or more"):
        open_(threads=0)


@pytest.mark.parametrize("backend", list(FILES))
def test_has_clocks_for_its_steps(backend: str, pristine: Path, frames: Pixels) -> None:
    manifest = Bundle.open(pristine).manifest
    path = pristine / FILES[backend]
    with load_engine(backend, path, manifest.inputs, manifest.outputs) as engine:
        engine.infer({"frames": frames})
        assert set(engine.stages_ms) == {"copy_in", "infer", "copy_out"}
        assert all(value >= 0 for value in engine.stages_ms.values())
        assert engine.stages_ms["infer"] > 0


def other_port(port: Port, **changes: object) -> Port:
    values = {field: getattr(port, field) for field in port.__struct_fields__}
    return Port(**{**values, **changes})


@pytest.mark.parametrize("backend", list(FILES))
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "images"}, r"has inputs \['frames'\], expected \['images'\]"),
        ({"dtype": "float32"}, "input frames of .* is uint8, expected float32"),
        ({"shape": ("N", 24, 33, 3)}, r"input frames of .* has shape \(None, 24, 32, 3\), expected"),
        ({"shape": ("N", 24, 32)}, "input frames of .* has shape"),
        ({"shape": ("N", "H", 32, 3)}, "input frames of .* has shape"),
    ],
)
def test_refuses_a_graph_whose_ports_are_not_the_manifests(
    backend: str, pristine: Path, changes: dict[str, object], message: str
) -> None:
    manifest = Bundle.open(pristine).manifest
    ports = [other_port(manifest.inputs[0], **changes)]
    with pytest.raises(EngineError, match=message):
        load_engine(backend, pristine / FILES[backend], ports, manifest.outputs)


@pytest.mark.parametrize("backend", list(FILES))
def test_refuses_outputs_that_are_not_the_manifests(backend: str, pristine: Path) -> None:
    manifest = Bundle.open(pristine).manifest
    path = pristine / FILES[backend]
    with pytest.raises(EngineError, match=r"has outputs \['map', 'score'\], expected \['score'\]"):
        load_engine(backend, path, manifest.inputs, manifest.outputs[:1])
    wrong = [manifest.outputs[0], other_port(manifest.outputs[1], shape=("N", 12, 16))]
    with pytest.raises(EngineError, match="output map of"):
        load_engine(backend, path, manifest.inputs, wrong)


@pytest.mark.parametrize("backend", list(FILES))
@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"nonsense" * 99]
)
def test_a_damaged_file_is_an_engine_error(
    backend: str, bundle_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    manifest = Bundle.open(bundle_path).manifest
    path = bundle_path / FILES[backend]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(EngineError, match=f"{backend} cannot load"):
        load_engine(backend, path, manifest.inputs, manifest.outputs)


@pytest.mark.parametrize("backend", list(FILES))
def test_a_missing_package_is_its_pip_command(
    backend: str, pristine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(pristine)
    monkeypatch.setitem(sys.modules, backend, None)
    assert not installed(backend)
    artifact = next(a for a in bundle.manifest.artifacts if a.target in engine_class(backend).targets)
    expected = rf"{backend} is not installed, .*: pip install '{backend}>="
    with pytest.raises(MissingPackageError, match=expected):
        open_engine(bundle, artifact)
    with pytest.raises(MissingPackageError, match=expected):
        load_engine(backend, pristine / FILES[backend], bundle.manifest.inputs, bundle.manifest.outputs)


def test_every_backend_has_a_row_in_these_tests(backend_of: dict[str, str]) -> None:
    elsewhere = {"tensorrt"}  # tests/runtime/tensorrt: it needs a GPU, or a fake of one
    assert set(backend_of.values()) == set(ENGINES) - elsewhere == set(FILES)


def test_every_extra_exists() -> None:
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for backend in ENGINES:
        engine = engine_class(backend)
        assert f'\n{engine.extra} = ["{engine.package}>=' in pyproject


def test_every_exception_of_onnxruntime_is_mapped() -> None:
    import_onnxruntime()
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    own = [v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception)]
    assert len(own) > 8
    for kind in own:
        assert kind in vendor_errors()
        with pytest.raises(EngineError, match="onnxruntime did it: because"), map_errors("did it"):
            raise kind("because")


def test_onnxruntime_runs_on_the_cpu_alone(pristine: Path) -> None:
    manifest = Bundle.open(pristine).manifest
    path = pristine / FILES["onnxruntime"]
    with load_engine("onnxruntime", path, manifest.inputs, manifest.outputs) as engine:
        assert engine._session.get_providers() == ["CPUExecutionProvider"]  # type: ignore[attr-defined]


def test_openvino_computes_in_the_precision_that_was_judged(pristine: Path) -> None:
    manifest = Bundle.open(pristine).manifest
    path = pristine / FILES["openvino"]
    with load_engine("openvino", path, manifest.inputs, manifest.outputs, threads=1) as engine:
        assert isinstance(engine, OpenVinoEngine)
        compiled = engine._compiled
        assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
        assert str(compiled.get_property("EXECUTION_MODE_HINT")).endswith("ACCURACY")
        assert str(compiled.get_property("PERFORMANCE_HINT")).endswith("LATENCY")
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
        assert compiled.get_property("ENABLE_CPU_PINNING") is False, "or every engine sits on the first core"
    with pytest.raises(EngineError, match="openvino has no precision hint for 'fp4'"):
        load_engine("openvino", path, manifest.inputs, manifest.outputs, precision="fp4")


def test_settings_tell_apart_what_is_computed_in(pristine: Path) -> None:
    """The default and its own name are the same; what the backend does not have is refused."""
    bundle = Bundle.open(pristine)
    onnx, openvino = bundle.manifest.artifacts
    with open_engine(bundle, openvino) as default, open_engine(bundle, openvino, hint="f32") as named:
        assert default.settings == named.settings == "f32"
    with open_engine(bundle, onnx) as engine:
        assert engine.settings == ""
    with pytest.raises(OptionError, match="onnxruntime has no precision hint 'f32': expected none"):
        open_engine(bundle, onnx, hint="f32")


def test_no_engine_leaves_traces_of_telemetry(pristine: Path, tmp_path: Path) -> None:
    """Seen with both: files in the home folder, made by a library that wants to call its maker."""
    home = tmp_path / "home"
    home.mkdir()
    code = f"""
import os, sys, time
from sspcab_edge.bundle import Bundle
from sspcab_runtime.engines import open_engine
bundle = Bundle.open({str(pristine)!r})
for artifact in bundle.manifest.artifacts:
    open_engine(bundle, artifact).close()
time.sleep(1)
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
assert "onnxruntime" in sys.modules and "openvino" in sys.modules
loaded = [name for name in sys.modules if name.startswith("openvino_telemetry") and sys.modules[name]]
assert not loaded, loaded
"""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "CI")
    }
    environment["HOME"] = str(home)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)
    assert list(home.rglob("*")) == []


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({}, ("onnx-fp32", "onnxruntime")),
        ({"backend": "openvino"}, ("openvino-fp32", "openvino")),
        ({"target": "openvino"}, ("openvino-fp32", "openvino")),
        ({"precision": "fp32"}, ("onnx-fp32", "onnxruntime")),
    ],
)
def test_choose_takes_what_was_asked_for(
    pristine: Path, wish: dict[str, str], expected: tuple[str, str]
) -> None:
    artifact, backend = choose(Bundle.open(pristine).manifest.artifacts, **wish)
    assert (artifact.name, backend) == expected


def test_choose_falls_back_to_what_is_installed(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts = Bundle.open(pristine).manifest.artifacts
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    artifact, backend = choose(artifacts)
    assert (artifact.name, backend) == ("openvino-fp32", "openvino")
    with pytest.raises(MissingPackageError, match="onnxruntime is not installed"):
        choose(artifacts, backend="onnxruntime")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'onnxruntime>=1\.18'"):
        choose(artifacts)


def test_candidates_come_in_order_of_preference(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts = Bundle.open(pristine).manifest.artifacts

    def names(**wish: str) -> list[str]:
        return [f"{artifact.name} {backend}" for artifact, backend in candidates(artifacts, **wish)]

    assert names() == ["onnx-fp32 onnxruntime", "openvino-fp32 openvino"]
    assert names(target="openvino") == ["openvino-fp32 openvino"]
    assert names(hint="bf16") == ["openvino-fp32 openvino"]
    with pytest.raises(OptionError, match="no artifact for backend onnxruntime, hint bf16: it has"):
        names(backend="onnxruntime", hint="bf16")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert names() == ["openvino-fp32 openvino"]
    with pytest.raises(MissingPackageError, match="onnxruntime is not installed"):
        names(backend="onnxruntime")
    assert [name for _, name in fitting(artifacts)] == ["onnxruntime", "openvino"], "installed or not"


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"precision": "int8"}, "no artifact for precision int8: it has onnx-fp32 .*; openvino-fp32"),
        ({"backend": "onnxruntime", "target": "openvino"}, "backend onnxruntime, target openvino: it has"),
        ({"backend": "tpu"}, "unknown backend 'tpu': expected one of onnxruntime, openvino"),
    ],
)
def test_choose_lists_what_there_is(pristine: Path, wish: dict[str, str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        choose(Bundle.open(pristine).manifest.artifacts, **wish)


def test_an_engine_for_single_entries_gives_the_same_and_takes_no_more(
    pristine: Path, frames: Pixels
) -> None:
    bundle = Bundle.open(pristine)
    onnx, openvino = bundle.manifest.artifacts
    with open_engine(bundle, openvino) as free, open_engine(bundle, openvino, single=True) as single:
        together = free.infer({"frames": frames})["map"]
        alone = [single.infer({"frames": frame[None]})["map"][0] for frame in frames]
        assert np.allclose(together, alone, rtol=0, atol=1e-6)
        assert (free.max_batch, single.max_batch) == (None, 1)
        with pytest.raises(InputError, match="takes 1 entry a call"):
            single.infer({"frames": frames})
        request = Request({"frames": frames})
        assert np.allclose(answer(single, request)["map"], together, rtol=0, atol=1e-6)
    with open_engine(bundle, onnx, single=True) as engine:
        assert engine.max_batch is None, "it would gain nothing"
