"""``sspcab-edge doctor --device-report``: skipped without a GPU, told when it fails or dies; its graphs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EngineError
from sspcab_runtime.engines.probe import probe
from sspcab_runtime.engines.tensorrt import check_with, device_report, import_checker, report_steps
from sspcab_runtime.engines.tensorrt.cudart import open_cuda
from sspcab_runtime.engines.tensorrt.device_report import _steps, format_device_report, read_facts
from sspcab_runtime.engines.tensorrt.report_graphs import FRAMES, GRAPHS, INPUTS, OUTPUTS, SCORES
from sspcab_runtime.engines.tensorrt.report_steps import STEPS, Step, run_steps

Command = Callable[..., subprocess.CompletedProcess[str]]
FAKE = Path(__file__).parent / "fake"


@pytest.fixture
def no_gpu() -> None:
    """Skip where there is one."""
    try:
        open_cuda()
    except EngineError:
        return
    pytest.skip("this machine has a GPU: what is said without one cannot be seen")


@pytest.fixture
def pretend_results(trt: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pretend module gives the report's graphs their right scores."""
    kinds = trt.DataType
    for precision in GRAPHS:
        name = f"report_{precision}"
        trt.TENSORS[name] = (
            [trt.Tensor("frames", kinds.UINT8, (-1, 8, 8, 3))],
            [trt.Tensor("score", kinds.FLOAT, (-1,))],
        )
        scores = np.array(SCORES[precision][0])
        trt.NETWORKS[name] = lambda frames, scores=scores: {"score": scores[: len(frames)]}
        trt.KINDS[name.encode()] = name
    return trt


def ended(steps: list[Step]) -> dict[str, Step]:
    return {step.step: step for step in steps if step.status != "started"}


@pytest.mark.usefixtures("no_gpu")
def test_the_command_skips_everything_without_a_gpu(command: Command) -> None:
    done = command("sspcab_edge.cli", "doctor", "--device-report")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["schema"] == 1
    assert [step["step"] for step in report["steps"]] == list(STEPS)
    assert {step["status"] for step in report["steps"]} == {"skipped"}
    assert all(step["reason"] for step in report["steps"])
    assert report["steps"][0]["reason"].startswith("no CUDA device: ")
    assert "skipped" in done.stderr, "and in words on stderr"
    quiet = command("sspcab_edge.cli", "doctor", "--device-report", "--json")
    assert json.loads(quiet.stdout)["facts"]["python"]
    assert quiet.stderr == ""


def test_a_bundle_alone_is_refused(command: Command, pristine: Path) -> None:
    done = command("sspcab_edge.cli", "doctor", pristine)
    assert done.returncode == 1
    assert "with --device-report alone" in done.stderr


def test_everything_passes_on_a_pretend_gpu(pretend_results: Any, cuda: Any, tensorrt_bundle: Bundle) -> None:
    steps = list(run_steps(tensorrt_bundle.path, device=(pretend_results, cuda)))
    assert [step.step for step in steps[::2]] == list(STEPS)
    found = ended(steps)
    assert {name: step.reason for name, step in found.items() if step.status != "passed"} == {}
    assert found["cuda"].facts["compute_capability"] == "8.7"
    assert found["plan-int8"].facts["built"] is True
    assert found["cuda-graph"].facts["captured"] is True
    assert found["cuda-graph"].facts["median_ms"] > 0
    assert found["bundle"].facts["tensorrt-fp32"]["parity"]["passed"] is True
    assert cuda.holds_nothing()


def test_wrong_scores_and_faults_are_told(pretend_results: Any, cuda: Any) -> None:
    pretend_results.NETWORKS["report_int8"] = lambda frames: {"score": np.full(len(frames), 1873.0)}
    cuda.faults["begin_capture"] = (900, "cudaErrorStreamCaptureUnsupported")
    found = ended(list(run_steps(device=(pretend_results, cuda))))
    assert found["plan-fp32"].status == "passed"
    assert found["plan-int8"].status == "failed"
    assert "scores differ by" in str(found["plan-int8"].reason)
    assert found["cuda-graph"].status == "failed"
    assert "enqueued one by one" in str(found["cuda-graph"].reason)
    assert found["bundle"].reason == "no bundle was given"
    assert cuda.holds_nothing()


def test_a_crash_is_told_with_its_step() -> None:
    lines = (
        b'{"step":"cuda","status":"started"}\n{"step":"cuda","status":"passed"}\n'
        b'a library that prints\n{"step":"tensorrt","status":"started"}\n'
    )
    steps = {step.step: step for step in _steps(lines, "it died of SIGSEGV")}
    assert steps["cuda"].status == "passed"
    assert (steps["tensorrt"].status, steps["tensorrt"].reason) == ("failed", "it died of SIGSEGV")
    assert (steps["plan-fp32"].status, steps["plan-fp32"].reason) == (
        "skipped",
        "not tried: it died of SIGSEGV",
    )
    assert list(steps) == list(STEPS)
    early = _steps(b"", "it died of SIGILL")
    assert (early[0].step, early[0].status, early[0].reason) == ("process", "failed", "it died of SIGILL")


def test_a_library_that_kills_the_process_does_not_kill_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    report = device_report.device_report(root=tmp_path, proc=tmp_path, dev=tmp_path)
    (failed,) = report.failed
    assert (failed.step, failed.reason) == ("tensorrt", "it died of SIGSEGV")
    assert "it died of SIGSEGV" in format_device_report(report)


def test_a_step_that_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    report = device_report.device_report(timeout_s=3)
    assert [(step.step, step.reason) for step in report.failed] == [("tensorrt", "it hung for 3 s")]


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_whose_driver_does_not_work_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setattr(report_steps, "gpus", lambda: ("NVIDIA GPU",))
    found = ended(list(run_steps()))
    assert found["cuda"].status == "failed"
    assert str(found["cuda"].reason).startswith("no CUDA device")


def test_the_facts_of_a_jetson(tmp_path: Path) -> None:
    for name, text in {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081\n# KERNEL_VARIANT: oot\n",
        "var/lib/dpkg/status": (
            "Package: nvidia-jetpack\nStatus: install ok installed\nVersion: 6.2+b77\n\n"
            "Package: libnvinfer10\nVersion: 10.3.0.30-1+cuda12.5\n\nPackage: bash\nVersion: 5.1\n"
        ),
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module  540.4.0\nGCC version:\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    facts = read_facts(tmp_path, tmp_path / "proc", tmp_path / "dev")
    assert facts.jetson == "NVIDIA Jetson Orin Nano Developer Kit"
    assert facts.tegra_release == "# R36 (release), REVISION: 4.3, GCID: 38968081"
    assert facts.packages == {"nvidia-jetpack": "6.2+b77", "libnvinfer10": "10.3.0.30-1+cuda12.5"}
    assert facts.driver == "NVRM version: NVIDIA UNIX Open Kernel Module  540.4.0"
    nothing = read_facts(tmp_path / "none", tmp_path / "none", tmp_path / "none")
    assert (nothing.jetson, nothing.packages, nothing.tegra_release) == (None, {}, None)


@pytest.mark.usefixtures("no_gpu")
def test_the_probe_says_that_there_is_no_cuda_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FAKE), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_TENSORRT_ABORTS", "1")
    found = probe("tensorrt")
    assert found.version is None
    assert str(found.error).startswith("no CUDA device: ")


@pytest.mark.parametrize("precision", list(GRAPHS))
def test_the_graphs_are_typed_and_give_their_scores_on_the_cpu(precision: str) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = onnx.load_from_string(GRAPHS[precision])
    onnx.checker.check_model(model)
    kinds = {node.op_type for node in model.graph.node}
    assert ("QuantizeLinear" in kinds) == (precision == "int8")
    halves = [w for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT16]
    assert bool(halves) == (precision == "fp16")
    session = onnxruntime.InferenceSession(GRAPHS[precision], providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"frames": FRAMES})
    expected, tolerance = SCORES[precision]
    assert np.allclose(scores, expected, rtol=tolerance / 10, atol=0)
    assert scores.dtype == np.float32


@pytest.mark.parametrize("precision", list(GRAPHS))
def test_the_graphs_build_in_the_real_builder(precision: str) -> None:
    rtx = import_checker()
    if rtx is None:
        pytest.skip("tensorrt_rtx is not installed: no real parser and builder to check with")
    assert check_with(rtx, GRAPHS[precision], INPUTS, outputs=OUTPUTS).warnings == ()
