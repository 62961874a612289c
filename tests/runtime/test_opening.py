"""Which artifact is opened: one that proves itself here, and never one that nobody asked for in silence."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sspcab_edge.bundle import Bundle, replace_manifest
from sspcab_edge.errors import EngineError, GateError, MissingPackageError, OptionError
from sspcab_edge.manifest import Decision
from sspcab_runtime import Detector
from sspcab_runtime.engines import onnxruntime_engine

Build = Callable[..., Bundle]
Command = Callable[..., subprocess.CompletedProcess[str]]
RUN = "sspcab_runtime.cli"


def opened(path: Path, **options: object) -> tuple[str, str]:
    """Artifact and backend that are opened."""
    with Detector.open(path, **options) as detector:  # type: ignore[arg-type]
        return detector.artifact.name, detector.engine.backend


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged as a warning so far."""
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_the_next_artifact_is_used_where_one_does_not_pass(
    build: Build, tmp_path: Path, warnings: Callable[[], list[str]]
) -> None:
    build(tmp_path / "bundle", wrong=("onnx-fp32",))
    assert opened(tmp_path / "bundle") == ("openvino-fp32", "openvino")
    (warning,) = warnings()
    assert warning.startswith("onnx-fp32 on onnxruntime ")
    assert "does not give the source's verdicts on this device: scores differ by 0.5" in warning
    assert warning.endswith("; openvino-fp32 on openvino is used instead")


def test_what_passes_is_used_without_a_word(pristine: Path, warnings: Callable[[], list[str]]) -> None:
    assert opened(pristine) == ("onnx-fp32", "onnxruntime")
    assert warnings() == []


def test_without_proof_nothing_is_passed_over(build: Build, tmp_path: Path) -> None:
    build(tmp_path / "bundle", wrong=("onnx-fp32",))
    assert opened(tmp_path / "bundle", prove=False) == ("onnx-fp32", "onnxruntime")


def test_none_passes(command: Command, build: Build, tmp_path: Path, folder: Path) -> None:
    build(tmp_path / "bundle", lie=0.25)
    with pytest.raises(GateError, match="none of 2 ways to run the bundle is left: ") as failure:
        Detector.open(tmp_path / "bundle")
    text = str(failure.value)
    assert text.count("scores differ by 0.25") == 2
    assert "onnx-fp32 on onnxruntime" in text
    assert "openvino-fp32 on openvino" in text
    done = command(RUN, tmp_path / "bundle", folder)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr == f"sspcab-run: {text}\n"


@pytest.mark.parametrize(
    ("wrong", "options", "expected"),
    [
        (("onnx-int8",), {"precision": "int8"}, ("openvino-int8", "openvino")),
        (("onnx-int8", "onnx-fp32"), {"precision": "int8"}, ("openvino-int8", "openvino")),
        (("onnx-int8", "openvino-int8"), {"precision": "int8"}, None),
        (("onnx-fp32",), {"backend": "onnxruntime"}, ("onnx-int8", "onnxruntime")),
        (("onnx-fp32", "onnx-int8"), {"backend": "onnxruntime"}, None),
        (("openvino-fp32",), {"target": "openvino", "precision": "fp32"}, None),
        (("onnx-fp32", "onnx-int8", "openvino-fp32"), {}, ("openvino-int8", "openvino")),
    ],
)
def test_what_was_asked_for_narrows_the_choice(
    build: Build,
    tmp_path: Path,
    wrong: tuple[str, ...],
    options: dict[str, str],
    expected: tuple[str, str] | None,
) -> None:
    build(tmp_path / "bundle", precisions=("fp32", "int8"), wrong=wrong)
    if expected is None:
        with pytest.raises(GateError, match=r"scores differ by 0\.5"):
            Detector.open(tmp_path / "bundle", **options)  # type: ignore[arg-type]
    else:
        assert opened(tmp_path / "bundle", **options) == expected


def test_the_warning_is_a_line_on_stderr(
    command: Command, build: Build, tmp_path: Path, folder: Path
) -> None:
    build(tmp_path / "bundle", wrong=("onnx-fp32",))
    done = command(RUN, tmp_path / "bundle", folder, "--json")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 12
    first, _ = done.stderr.splitlines()
    assert first.startswith("WARNING sspcab_runtime.opening: onnx-fp32 on onnxruntime ")
    assert first.endswith("openvino-fp32 on openvino is used instead")


# Backends that cannot run


def test_a_backend_that_refuses_is_an_error(build: Build, tmp_path: Path) -> None:
    build(tmp_path / "bundle", onnx_file=b"nonsense")
    with pytest.raises(EngineError, match="onnxruntime cannot load") as failure:
        Detector.open(tmp_path / "bundle")
    assert str(failure.value).endswith("; a fallback could use openvino-fp32 on openvino")
    with pytest.raises(EngineError, match="onnxruntime cannot load") as failure:
        Detector.open(tmp_path / "bundle", backend="onnxruntime")
    assert "fallback" not in str(failure.value), "nothing else fits"


@pytest.mark.parametrize("options", [{}, {"backend": "onnxruntime"}, {"target": "onnx"}])
def test_a_fallback_is_taken_where_it_is_allowed(
    build: Build, tmp_path: Path, options: dict[str, str], warnings: Callable[[], list[str]]
) -> None:
    build(tmp_path / "bundle", onnx_file=b"nonsense")
    assert opened(tmp_path / "bundle", fallback=True, **options) == ("openvino-fp32", "openvino")
    (warning,) = warnings()
    assert warning.startswith("onnx-fp32 on onnxruntime cannot run here: onnxruntime cannot load ")
    assert warning.endswith("; openvino-fp32 on openvino is used instead")


def test_a_fallback_keeps_the_precision(build: Build, tmp_path: Path) -> None:
    build(tmp_path / "bundle", precisions=("fp32", "int8"), onnx_file=b"nonsense")
    wish = {"backend": "onnxruntime", "precision": "int8", "fallback": True}
    assert opened(tmp_path / "bundle", **wish) == ("openvino-int8", "openvino")


def test_a_fallback_from_a_backend_that_is_not_installed(
    pristine: Path, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]]
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPackageError, match="openvino is not installed"):
        Detector.open(pristine, backend="openvino")
    assert opened(pristine, backend="openvino", fallback=True) == ("onnx-fp32", "onnxruntime")
    assert warnings()[0].startswith("openvino-fp32 on openvino cannot run here: openvino is not installed")
    assert opened(pristine, fallback=True) == ("onnx-fp32", "onnxruntime")
    assert len(warnings()) == 1, "what nobody asked for is not missed"


def test_a_package_that_breaks_on_import(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> object:
        raise MissingPackageError("onnxruntime", "onnxruntime", "the onnxruntime backend")

    monkeypatch.setattr(onnxruntime_engine, "import_onnxruntime", missing)
    with pytest.raises(MissingPackageError):
        Detector.open(pristine)
    assert opened(pristine, fallback=True) == ("openvino-fp32", "openvino")


def test_nothing_runs_at_all(build: Build, tmp_path: Path) -> None:
    build(tmp_path / "bundle", targets=("onnx",), onnx_file=b"nonsense")
    with pytest.raises(EngineError, match=r"onnx-fp32 on onnxruntime cannot run here: .*choose another"):
        Detector.open(tmp_path / "bundle", fallback=True)
    build(tmp_path / "mixed", onnx_file=b"nonsense", wrong=("openvino-fp32",))
    with pytest.raises(GateError, match=r"none of 2 ways .* cannot run here: .*scores differ"):
        Detector.open(tmp_path / "mixed", fallback=True)


def test_the_command_falls_back_when_told(
    command: Command, build: Build, tmp_path: Path, folder: Path
) -> None:
    build(tmp_path / "bundle", onnx_file=b"nonsense")
    assert command(RUN, tmp_path / "bundle", folder).returncode == 1
    done = command(RUN, tmp_path / "bundle", folder, "--json", "--fallback")
    assert done.returncode == 0
    assert "openvino-fp32 on openvino is used instead" in done.stderr.splitlines()[0]


# Hints


def test_a_hint_is_proved_by_itself(build: Build, tmp_path: Path) -> None:
    """An attestation of the default says nothing of a hint, unless the hint names the default."""
    build(tmp_path / "bundle")
    replayed: list[int] = []

    def note(done: int, of: int) -> None:
        replayed.append(done)

    Detector.open(tmp_path / "bundle", backend="openvino", progress=note).close()
    assert len(replayed) == 12
    Detector.open(tmp_path / "bundle", hint="f32", progress=note).close()
    assert len(replayed) == 12
    with pytest.raises((GateError, EngineError)):  # bf16 misses the gate; a CPU without it refuses
        Detector.open(tmp_path / "bundle", hint="bf16", progress=note)


def test_a_hint_that_no_backend_has(pristine: Path) -> None:
    with pytest.raises(OptionError, match="no artifact for hint fp4: it has"):
        Detector.open(pristine, hint="fp4")


# Attestations that are stale


def replays(path: Path) -> bool:
    """Whether opening the bundle replays its pack."""
    calls: list[int] = []
    Detector.open(path, progress=lambda done, of: calls.append(done)).close()
    assert len(calls) in (0, 12)
    return bool(calls)


@pytest.mark.parametrize("what", ["version", "device", "bundle", "settings", "cut", "nonsense"])
def test_a_stale_attestation_is_not_trusted(bundle_path: Path, cache: Path, what: str) -> None:
    assert replays(bundle_path)
    assert not replays(bundle_path)
    (file,) = (cache / "attestations").iterdir()
    data = file.read_bytes()
    if what == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif what == "nonsense":
        file.write_bytes(b"\xff\x00")
    else:
        plain = json.loads(data)
        plain["key"][what] = "another"
        file.write_bytes(json.dumps(plain).encode())
    assert replays(bundle_path)
    assert not replays(bundle_path), "and is replaced"


def test_an_attestation_of_another_release_is_not_trusted(bundle_path: Path) -> None:
    assert replays(bundle_path)
    bundle = Bundle.open(bundle_path)
    decision = Decision(threshold=0.55, policy="given")
    replace_manifest(bundle, msgspec.structs.replace(bundle.manifest, release=2, decision=decision))
    assert replays(bundle_path)


@pytest.mark.parametrize("what", ["cpu", "version"])
def test_an_attestation_of_another_machine_is_not_trusted(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    assert replays(bundle_path)
    if what == "cpu":
        monkeypatch.setattr("sspcab_runtime.engines.base.cpu_device", lambda proc: "another CPU")
    else:
        monkeypatch.setattr(onnxruntime_engine.import_onnxruntime(), "__version__", "9.9")
    assert replays(bundle_path)
