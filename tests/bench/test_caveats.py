"""When a report warns, and when it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sspcab_bench.artifact import Measured
from sspcab_bench.caveats import about_bounds, about_load, about_machine, about_order, about_stability
from sspcab_bench.load import Load
from sspcab_bench.machine import Machine
from sspcab_bench.summary import histogram, summarise
from sspcab_bench.timing import WarmUp

_QUIET = Machine(
    cpu="A", flags=(), architecture="x86_64", logical_cores=8, physical_cores=8, affinity_cores=8,
    cpu_limit=None, governors=("performance",), clock_mhz=None, max_clock_mhz=None, boost=None,
    memory_mb=None, memory_available_mb=None, memory_limit_mb=None, board=None, gpus=(), kernel="6",
    system=None,
    container=None, python="3.11", packages={},
)  # fmt: skip


def test_a_quiet_machine_needs_no_words() -> None:
    assert about_machine(_QUIET, None) == []
    assert about_machine(replace(_QUIET, governors=()), None) == []
    assert about_load(None) == about_load(Load(0.1, 0.01)) == []
    assert about_stability([("it", summarise([10.0, 10.1]))]) == []


def test_governor() -> None:
    (warning,) = about_machine(replace(_QUIET, governors=("performance", "powersave")), None)
    assert "governor is powersave, not performance" in warning


@pytest.mark.parametrize(("threads", "count"), [(None, 1), (2, 0)])
def test_limit_that_backends_do_not_know(threads: int | None, count: int) -> None:
    warnings = about_machine(replace(_QUIET, cpu_limit=2.0), threads)
    assert len(warnings) == count
    assert all("2 of 8 cores" in warning and "--threads 2" in warning for warning in warnings)


def test_others_and_the_hypervisor() -> None:
    other, steal = about_load(Load(1.25, 0.3))
    assert "1.2 cores busy" in other
    assert "hypervisor took 0.30 cores" in steal


def test_unstable() -> None:
    (warning,) = about_stability([("onnx-fp32", summarise([10.0, 20.0])), ("calm", summarise([1.0, 1.0]))])
    assert "onnx-fp32 is unstable" in warning
    assert "stable up to 5%" in warning


def _measured(engine_fps: float = 12.0, **stages_ms: float) -> Measured:
    return Measured(
        target="onnx", precision="fp32", backend="onnxruntime", version="1", threads=None, load_s=1.0,
        first_infer_ms=1.0, warm_up=WarmUp(1, 1.0, True), latency=summarise([1.0]),
        histogram=histogram([1.0]), stages={name: summarise([value]) for name, value in stages_ms.items()},
        fps=10.0, engine_fps=engine_fps, peak_rss_mb=None, inputs=1, checked=1, max_abs_score_diff=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(("engine_fps", "count"), [(12.0, 0), (9.9, 0), (8.0, 1)])
def test_a_stream_is_no_faster_than_its_engine(engine_fps: float, count: int) -> None:
    warnings = about_order([_measured(engine_fps)])
    assert len(warnings) == count
    assert all(
        "faster (10.0 frames a second) than the engine alone (8.00)" in warning for warning in warnings
    )


@pytest.mark.parametrize(
    ("stages_ms", "words"),
    [
        ({"decode": 2.0, "prepare": 1.0, "copy_in": 0.1, "infer": 5.0, "copy_out": 0.1}, []),
        (
            {"decode": 4.0, "prepare": 1.5, "infer": 5.0},
            ["decode-bound: decoding and preparing take 5.50 ms"],
        ),
        ({"decode": 1.0, "copy_in": 1.0, "infer": 5.0, "copy_out": 1.0}, ["copy-bound: copies take 2.00 ms"]),
        ({"decode": 9.0, "copy_in": 9.0, "infer": 5.0}, ["decode-bound", "copy-bound"]),
    ],
)
def test_what_binds_it(stages_ms: dict[str, float], words: list[str]) -> None:
    """Where the engine is not what frames a second follow, the report says what is."""
    warnings = about_bounds([_measured(**stages_ms)])
    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings, strict=True))
