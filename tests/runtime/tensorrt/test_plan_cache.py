"""The cache of plans: reused when everything fits, never handed to TensorRT when anything does not."""

from __future__ import annotations

import hashlib
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.errors import EngineError
from sspcab_runtime.engines.tensorrt import PlanOptions, TensorRtEngine
from sspcab_runtime.engines.tensorrt.cuda import Gpu
from sspcab_runtime.engines.tensorrt.plan_cache import PlanCache, PlanKey

Pixels = npt.NDArray[np.uint8]
Load = Callable[..., TensorRtEngine]
GPU = Gpu("Pretend Orin", "8.7", "12.6", "12.6", 7620)


def plan_of(plans: Path) -> Path:
    (found,) = (path for path in plans.glob("*.plan") if path.stem != "timings")
    return found


def test_a_plan_is_built_once(load: Load, trt: Any, plans: Path) -> None:
    first = load().prepared
    assert first.built
    assert first.plan == plan_of(plans)
    trt.CALLS.clear()
    again = load().prepared
    assert (again.built, again.plan, again.size_bytes) == (False, first.plan, first.size_bytes)
    assert "build" not in trt.CALLS
    assert "parse" not in trt.CALLS


def test_the_timing_cache_is_kept_and_used(load: Load, plans: Path) -> None:
    load()
    load(options=PlanOptions(max_batch=2))
    assert (plans / "timings.plan").read_bytes().endswith(b"\ntt"), "the second build went on from the first"


@pytest.mark.parametrize("start", [b"bad", b"other"])
def test_a_timing_cache_that_tensorrt_refuses_is_begun_anew(load: Load, plans: Path, start: bytes) -> None:
    key = PlanKey.of(b"", "10.3.0", GPU, PlanOptions())
    PlanCache(plans).write(key.timings(), start)
    load()
    assert (plans / "timings.plan").read_bytes().endswith(b"\nt")


def other_gpu(trt: Any, cuda: Any, onnx_file: Path) -> None:
    cuda._gpu = replace(cuda._gpu, name="Other GPU", capability="8.6")


def other_driver(trt: Any, cuda: Any, onnx_file: Path) -> None:
    cuda._gpu = replace(cuda._gpu, driver="13.2")


def other_runtime(trt: Any, cuda: Any, onnx_file: Path) -> None:
    cuda._gpu = replace(cuda._gpu, runtime="13.0")


def other_version(trt: Any, cuda: Any, onnx_file: Path) -> None:
    trt.__version__ = "10.16.1.11"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_gpu, "it is for capability 8.7, expected 8.6, gpu Pretend Orin, expected Other GPU"),
        (other_driver, "it is for driver 12.6, expected 13.2"),
        (other_runtime, "it is for runtime 12.6, expected 13.0"),
        (other_version, "it is for tensorrt 10.3.0, expected 10.16.1.11"),
    ],
)
def test_a_plan_for_something_else_is_said_and_replaced(
    load: Load,
    trt: Any,
    cuda: Any,
    onnx_file: Path,
    plans: Path,
    caplog: pytest.LogCaptureFixture,
    change: Callable[..., None],
    said: str,
) -> None:
    load()
    change(trt, cuda, onnx_file)
    trt.CALLS.clear()
    assert load().prepared.built
    assert trt.CALLS.count("deserialize") == 1, "the old plan never reached TensorRT"
    lines = [record.getMessage() for record in caplog.records if "is ignored" in record.getMessage()]
    assert any(said in line for line in lines)
    assert plan_of(plans), "the new plan has the old one's place"


def test_another_model_and_other_options_have_plans_of_their_own(
    load: Load, onnx_file: Path, plans: Path
) -> None:
    load()
    load(options=PlanOptions(max_batch=2))
    onnx_file.write_bytes(b"frames" * 200)
    load()
    assert len([path for path in plans.glob("*.plan") if path.stem != "timings"]) == 3


def test_the_plan_of_another_model_in_its_place_is_ignored(
    load: Load, trt: Any, onnx_file: Path, plans: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load()
    foreign = plan_of(plans).read_bytes()
    plan_of(plans).unlink()
    onnx_file.write_bytes(b"frames" * 200)
    load()
    plan_of(plans).write_bytes(foreign)
    trt.CALLS.clear()
    assert load().prepared.built
    assert trt.CALLS.count("deserialize") == 1
    assert "is ignored: it is for onnx " in caplog.text


def flip_last(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: data[:-5], "it is truncated"),
        (lambda data: data + b"more", "it is truncated"),
        (lambda data: data[:40], "its header is damaged"),
        (lambda data: b"", "it is no plan of ours"),
        (lambda data: b"\0" * 4096, "it is no plan of ours"),
        (lambda data: data[data.rindex(b"\n") + 1 :], "it is no plan of ours"),
        (flip_last, "it was changed"),
        (lambda data: data.replace(b'"size"', b'"Size"'), "its header is damaged"),
        (lambda data: data.split(b"\n")[0] + b"\n" + b"{" * 200_000, "its header is damaged"),
    ],
    ids=[
        "cut",
        "longer",
        "cut header",
        "empty",
        "zeros",
        "bare plan",
        "bit flip",
        "header key",
        "huge header",
    ],
)
def test_a_damaged_plan_never_reaches_tensorrt(
    load: Load,
    trt: Any,
    plans: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
    said: str,
) -> None:
    load()
    path = plan_of(plans)
    good = path.read_bytes()
    path.write_bytes(damage(good))
    trt.CALLS.clear()
    assert load().prepared.built
    assert trt.CALLS.count("deserialize") == 1
    assert f"is ignored: {said}" in caplog.text
    assert path.read_bytes() == good


def test_a_plan_that_others_can_write_is_ignored(
    load: Load, plans: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load()
    path = plan_of(plans)
    path.chmod(path.stat().st_mode | stat.S_IWOTH)
    assert load().prepared.built
    assert "is ignored: another user can write it" in caplog.text


def test_a_folder_in_its_place_is_ignored(load: Load, plans: Path, caplog: pytest.LogCaptureFixture) -> None:
    load()
    path = plan_of(plans)
    path.unlink()
    path.mkdir()
    prepared = load().prepared
    assert (prepared.built, prepared.plan) == (True, None)
    assert "is ignored: Is a directory" in caplog.text
    assert "the plan cannot be kept" in caplog.text


def test_a_cache_that_cannot_be_written_costs_the_next_start_alone(
    load: Load, tmp_path: Path, frames: Pixels, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    engine = load(cache=PlanCache(tmp_path / "file/plans"))
    assert (engine.prepared.built, engine.prepared.plan) == (True, None)
    assert engine.infer({"frames": frames[:1]})["score"].shape == (1,)
    assert "the plan cannot be kept and is built again at the next start: Not a directory" in caplog.text


def test_without_a_home_folder_plans_stay_in_memory(
    load: Load, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert load(cache=PlanCache()).prepared.plan is None
    assert "set XDG_CACHE_HOME" in caplog.text


def test_plans_are_in_the_users_cache_folder(load: Load, cache: Path) -> None:
    path = load(cache=PlanCache()).prepared.plan
    assert path is not None
    assert path.parent == cache / "tensorrt"


def test_a_cached_plan_that_does_not_load_is_built_once_more(
    load: Load, trt: Any, caplog: pytest.LogCaptureFixture
) -> None:
    load()
    trt.FAULTS["deserialize"] = 1
    trt.CALLS.clear()
    assert load().prepared.built
    assert trt.CALLS.count("build") == 1
    assert "does not load, and is built again: Serialization assertion failed: wrong magic tag" in caplog.text


def test_a_cached_plan_that_does_not_load_is_deleted(load: Load, trt: Any, plans: Path) -> None:
    load()
    trt.FAULTS.update(deserialize=1, build="no more memory")
    with pytest.raises(EngineError, match="no more memory"):
        load()
    assert [path for path in plans.glob("*.plan") if path.stem != "timings"] == []


def test_a_warning_of_the_build_is_kept_and_said(
    load: Load, trt: Any, caplog: pytest.LogCaptureFixture
) -> None:
    trt.FAULTS["build_warning"] = "Detected layernorm nodes in FP16"
    assert load().prepared.warnings == ("Detected layernorm nodes in FP16",)
    assert "tensorrt: Detected layernorm nodes in FP16" in caplog.text
    trt.FAULTS["build_warning"] = "CUDA lazy loading is not enabled. Enabling it saves memory."
    assert load(options=PlanOptions(max_batch=2)).prepared.warnings == ()


def test_a_fresh_plan_that_does_not_load_is_an_error(load: Load, trt: Any, plans: Path) -> None:
    trt.FAULTS["deserialize"] = 2
    with pytest.raises(EngineError, match="refuses the plan it has built: Serialization assertion failed"):
        load()
    assert [path for path in plans.glob("*.plan") if path.stem != "timings"] == []


def test_a_second_process_finds_the_plan_of_the_first(plans: Path) -> None:
    """While one builds another waits; then its own look into the cache succeeds."""
    key = PlanKey.of(b"frames", "10.3.0", GPU, PlanOptions())
    cache = PlanCache(plans)
    code = f"""
from pathlib import Path
from sspcab_runtime.engines.tensorrt import PlanOptions
from sspcab_runtime.engines.tensorrt.cuda import Gpu
from sspcab_runtime.engines.tensorrt.plan_cache import PlanCache, PlanKey
key = PlanKey.of(b"frames", "10.3.0", {GPU!r}, PlanOptions())
cache = PlanCache(Path({str(plans)!r}))
print("ready", flush=True)
with cache.building(key):
    print(cache.read(key))
"""
    with cache.building(key):
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        time.sleep(0.3)
        cache.write(key, b"the plan")
    rest, _ = other.communicate(timeout=30)
    assert rest == "b'the plan'\n"


def test_the_key_holds_the_hash_of_the_graph_and_every_option() -> None:
    key = PlanKey.of(b"frames", "10.3.0", GPU, PlanOptions())
    assert key.onnx == hashlib.sha256(b"frames").hexdigest()
    assert set(key.options) == {
        "min_batch",
        "opt_batch",
        "max_batch",
        "workspace_mb",
        "optimization_level",
    }
