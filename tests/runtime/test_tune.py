"""Tuning: the right choice among settings of known speed, under the gate, remembered as long as it holds."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EngineError, GateError, MissingPackageError, OptionError
from sspcab_edge.ports import Array
from sspcab_runtime import Detector
from sspcab_runtime.engines.base import GraphEngine, GraphPort
from sspcab_runtime.engines.table import ENGINES
from sspcab_runtime.machine import Cpu, cpu_device
from sspcab_runtime.setting import Setting
from sspcab_runtime.tune import Tuned, fastest, settings_of, tune
from sspcab_runtime.tuning import backend_versions, read_tuning, record_tuning

Pixels = npt.NDArray[np.uint8]
Network = Callable[[Pixels], tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]
Build = Callable[..., Bundle]
Command = Callable[..., subprocess.CompletedProcess[str]]
Key = tuple[str | None, int | None]

SLOW_MS = 8.0
LOOK_S = 0.03


class SleepyEngine(GraphEngine):
    """The tiny network, taking as long as a test says: ``delays_ms`` by (hint, threads), else ``SLOW_MS``."""

    backend = "sleepy"
    targets = ("onnx",)
    package = "click"
    extra = "onnxruntime"
    hints: tuple[str, ...] = ("plain", "fast", "wrong", "absent")

    network: Network
    delays_ms: Mapping[Key, float] = {}
    settings_are: Mapping[str | None, str] = {None: "plain"}
    on: str | None = None
    calls: dict[Key, int]

    def _load(self, precision: str, threads: int | None, hint: str | None) -> None:
        self.version = "1"
        if hint == "absent":
            raise EngineError(f"sleepy cannot load {self.path}: no such unit")
        self.settings = self.settings_are.get(hint, hint or "")
        self._key = (hint, threads)
        if self.on is not None:
            self.device = self.on

    def _graph_inputs(self) -> Sequence[GraphPort]:
        return [GraphPort(frozenset({"frames"}), "uint8", (None, 24, 32, 3))]

    def _graph_outputs(self) -> Sequence[GraphPort]:
        return [
            GraphPort(frozenset({"score"}), "float32", (None,)),
            GraphPort(frozenset({"map"}), "float32", (None, 24, 32)),
        ]

    def _copy_in(self, inputs: Mapping[str, Array]) -> None:
        self._frames = np.asarray(inputs["frames"], dtype=np.uint8)

    def _run(self) -> None:
        type(self).calls[self._key] = type(self).calls.get(self._key, 0) + 1
        time.sleep(self.delays_ms.get(self._key, SLOW_MS) / 1e3)

    def _copy_out(self) -> Mapping[str, Array]:
        scores, maps = type(self).network(self._frames)
        return {"score": scores + np.float32(0.1 if self._key[0] == "wrong" else 0), "map": maps}

    def _release(self) -> None:
        pass


@pytest.fixture
def sleepy(monkeypatch: pytest.MonkeyPatch, network: Network) -> Iterator[type[SleepyEngine]]:
    """The only backend there is, on a machine of four cores."""

    class Sleepy(SleepyEngine):
        calls: dict[Key, int] = {}  # noqa: RUF012

    Sleepy.network = staticmethod(network)
    module = types.ModuleType("sleepy_engine")
    module.Sleepy = Sleepy  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sleepy_engine", module)
    others = dict(ENGINES)
    ENGINES.clear()
    ENGINES["sleepy"] = "sleepy_engine:Sleepy"
    for place in ("tune", "setting", "tuning"):
        monkeypatch.setattr(f"sspcab_runtime.{place}.read_cpu", lambda: Cpu("four", (), 4))
    yield Sleepy
    ENGINES.clear()
    ENGINES.update(others)  # the order is that of preference


@pytest.fixture
def bundle(build: Build, tmp_path: Path) -> Bundle:
    """One artifact, fp32."""
    return build(tmp_path / "bundle", targets=("onnx",))


def states(tuned: Tuned) -> dict[tuple[str | None, int | None, int], str]:
    return {(r.setting.hint, r.setting.threads, r.setting.streams): r.state for r in tuned.rows}


def key(setting: Setting) -> tuple[str | None, int | None, int]:
    return setting.hint, setting.threads, setting.streams


# The choice


def test_the_fastest_setting_that_passes_is_chosen(sleepy: type[SleepyEngine], bundle: Bundle) -> None:
    sleepy.delays_ms = {(None, 2): 5.0, ("fast", None): 4.0, ("fast", 4): 2.0, ("wrong", None): 0.1}
    tuned = tune(bundle, seconds=LOOK_S)
    assert key(tuned.default) == (None, None, 1)
    assert key(tuned.chosen) == ("fast", 4, 1)
    assert 2 < tuned.speed_up < 5
    found = states(tuned)
    assert [state for state in found.values() if state == "chosen"] == ["chosen"]
    assert found["wrong", None, 1] == "refused"
    assert found["absent", None, 1] == "not available"
    assert not [setting for setting in found if setting[0] == "plain"], "the default once more"
    assert [key(row.setting) for row in tuned.rows][:4] == [(None, t, 1) for t in (None, 1, 2, 4)]
    for row in tuned.rows:
        timed = row.state in ("chosen", "slower")
        assert (row.ms is not None, row.fps is not None, row.reason is None) == (timed,) * 3
    (chosen,) = (row for row in tuned.rows if row.state == "chosen")
    assert chosen.ms == pytest.approx(2, abs=1.9)


def test_what_is_refused_is_not_timed(sleepy: type[SleepyEngine], bundle: Bundle) -> None:
    tuned = tune(bundle, seconds=LOOK_S)
    inputs = bundle.manifest.parity_pack.inputs
    assert sleepy.calls["wrong", None] == 1 + inputs, "its warm-up and the parity pack"
    assert ("wrong", 1) not in sleepy.calls
    (refused,) = (row for row in tuned.rows if row.state == "refused")
    assert refused.reason is not None
    assert "scores differ by 0.1" in refused.reason
    (absent,) = (row for row in tuned.rows if row.state == "not available")
    assert absent.reason is not None
    assert "no such unit" in absent.reason


def test_a_tie_goes_to_the_default(bundle: Bundle) -> None:
    default, other, third = (Setting(bundle.manifest.artifacts[0], "sleepy", None, n) for n in (None, 1, 2))
    close = {default: [10.0, 12.0, 11.0], other: [9.9, 11.9, 10.9], third: [12.0, 12.0, 12.0]}
    assert fastest(default, close) == (default, 1.0)
    faster, ratio = fastest(default, {**close, third: [5.0, 6.0, 11.0]})
    assert faster == third
    assert ratio == pytest.approx(2), "the median of ratios taken in turns: one disturbed round is no matter"


def test_frames_a_second_come_from_streams(sleepy: type[SleepyEngine], bundle: Bundle) -> None:
    """Every stream takes as long as one alone, so that four give four times as many frames."""
    sleepy.hints = ()
    sleepy.delays_ms = {(None, 1): 9.0, (None, 2): 9.0}
    tuned = tune(bundle, objective="fps", seconds=LOOK_S)
    assert key(tuned.chosen) == (None, None, 4)
    assert 2.5 < tuned.speed_up < 4.5
    assert {setting[2] for setting in states(tuned)} == {1, 2, 4}
    assert tune(bundle, objective="latency", seconds=LOOK_S).chosen.streams == 1


def test_without_the_default_the_next_takes_its_place(
    sleepy: type[SleepyEngine], build: Build, tmp_path: Path
) -> None:
    bundle = build(tmp_path / "bundle", targets=("onnx",), precisions=("fp32", "int8"), wrong=("onnx-fp32",))
    sleepy.hints = ()
    tuned = tune(bundle, seconds=LOOK_S)
    assert tuned.default.artifact.name == "onnx-int8"
    assert [row.state for row in tuned.rows if row.setting.artifact.name == "onnx-fp32"] == ["refused"]


def test_a_gpu_has_no_threads_to_try(sleepy: type[SleepyEngine], bundle: Bundle) -> None:
    sleepy.hints = ()
    sleepy.on = "a GPU"
    assert list(states(tune(bundle, objective="fps", seconds=LOOK_S))) == [(None, None, s) for s in (1, 2, 4)]


def test_nothing_passes(sleepy: type[SleepyEngine], build: Build, tmp_path: Path) -> None:
    lies = build(tmp_path / "lies", targets=("onnx",), lie=0.5)
    with pytest.raises(GateError, match="no setting of the bundle can be used here: onnx-fp32 on sleepy"):
        tune(lies, seconds=LOOK_S)


def test_a_setting_that_stops_is_not_available(
    sleepy: type[SleepyEngine], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleepy.hints = ()
    load = sleepy._load

    def breaks(self: SleepyEngine, precision: str, threads: int | None, hint: str | None) -> None:
        if threads == 2:
            raise EngineError("two is one too many")
        load(self, precision, threads, hint)

    monkeypatch.setattr(sleepy, "_load", breaks)
    tuned = tune(bundle, seconds=LOOK_S)
    assert states(tuned)[None, 2, 1] == "not available"


def test_streams_that_do_not_fit_into_memory_are_not_opened(
    sleepy: type[SleepyEngine], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleepy.hints = ()
    monkeypatch.setattr("sspcab_runtime.tune.memory_mb", lambda: (10, 0))
    tuned = tune(bundle, objective="fps", seconds=LOOK_S)
    rows = {row.setting.streams: row for row in tuned.rows}
    assert rows[4].state == "not available"
    assert rows[4].reason is not None
    assert "MB are free" in rows[4].reason
    assert tuned.chosen.streams == 1


@pytest.mark.parametrize(
    ("cores", "threads", "streams"),
    [
        (1, [None, 1], []),
        (2, [None, 1, 2], [2]),
        (6, [None, 1, 2, 4, 6], [2, 4, 6]),
        (64, [None, 1, 2, 4, 8, 16, 32, 64], [2, 4, 8]),
    ],
)
def test_what_is_worth_a_look(
    pristine: Path, cores: int, threads: list[int | None], streams: list[int]
) -> None:
    artifact = Bundle.open(pristine).manifest.artifacts[0]
    alone = [key(s) for s in settings_of(artifact, "onnxruntime", "latency", cores)]
    assert alone == [(None, t, 1) for t in threads]
    both = [key(s) for s in settings_of(artifact, "onnxruntime", "fps", cores)]
    assert both == alone + [(None, None, s) for s in streams]


def test_only_what_was_asked_for(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open(pristine)
    tuned = tune(bundle, seconds=0.005, backends=["openvino"])
    assert {row.setting.backend for row in tuned.rows} == {"openvino"}
    with pytest.raises(OptionError, match="no artifact for backend openvino, precision int8"):
        tune(bundle, backends=["openvino"], precision="int8")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPackageError, match="openvino is not installed"):
        tune(bundle, backends=["openvino"])


# What is remembered


@pytest.fixture
def two_threads(pristine: Path) -> Setting:
    """A setting that is not the default."""
    return Setting(Bundle.open(pristine).manifest.artifacts[1], "openvino", None, 2, 1)


def test_is_read_back(pristine: Path, two_threads: Setting, cache: Path) -> None:
    bundle = Bundle.open(pristine)
    assert read_tuning(bundle) is None
    path = record_tuning(bundle, two_threads, "fps")
    assert path is not None
    assert path.parent == cache / "tuning"
    found = read_tuning(bundle)
    assert found is not None
    assert (found.setting, found.objective) == (two_threads, "fps")
    one = Setting(bundle.manifest.artifacts[0], "onnxruntime", None, 1, 3)
    assert record_tuning(bundle, one, "latency") == path, "tuning again replaces it"
    again = read_tuning(bundle)
    assert again is not None
    assert again.setting == one


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"versions": {"onnxruntime": "0.1"}}, "out of date: made with onnxruntime 0.1, now there is "),
        ({"device": "another"}, "of another bundle or device"),
        ({"bundle": "0" * 64}, "of another bundle or device"),
        ({"artifact": "onnx-int4"}, "damaged: the bundle has no artifact 'onnx-int4'"),
        ({"backend": "tpu"}, "damaged: unknown backend 'tpu'"),
        ({"backend": "onnxruntime"}, "damaged: the bundle has no artifact for backend onnxruntime"),
        ({"hint": "f8"}, "damaged: the bundle has no artifact for backend openvino, hint f8"),
        ({"threads": 0}, "damaged: "),
        ({"streams": 0}, "damaged: "),
        ({"streams": "many"}, "damaged: "),
        ({"objective": "beauty"}, "damaged: "),
        ({"schema": 2}, "damaged: "),
        ({"more": 1}, "damaged: "),
    ],
)
def test_what_does_not_hold_any_more_is_ignored(
    pristine: Path,
    two_threads: Setting,
    change: dict[str, object],
    warning: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bundle = Bundle.open(pristine)
    path = record_tuning(bundle, two_threads, "latency")
    assert path is not None
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    assert read_tuning(bundle) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"is ignored, it is {warning}" in record.getMessage()
    assert record.getMessage().endswith("run sspcab-edge tune again")
    with Detector.open(pristine) as detector:
        assert detector.engine.backend == "onnxruntime", "the default"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 5000, b"null"])
def test_a_damaged_file_is_ignored(
    pristine: Path, two_threads: Setting, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = Bundle.open(pristine)
    path = record_tuning(bundle, two_threads, "latency")
    assert path is not None
    path.write_bytes(data)
    assert read_tuning(bundle) is None
    assert "damaged" in caplog.text


def test_a_cache_that_cannot_be_written(
    pristine: Path,
    two_threads: Setting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert record_tuning(Bundle.open(pristine), two_threads, "latency") is None
    assert "cannot be remembered" in caplog.text


def test_versions_are_told_without_importing(pristine: Path) -> None:
    code = (
        "import sys\nfrom sspcab_runtime.tuning import backend_versions\n"
        "assert backend_versions(), 'no backend'\n"
        "print(sorted({'onnxruntime', 'openvino', 'tensorrt'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
    assert all(version[:1].isdigit() for version in backend_versions().values())


# What is remembered is used


def used(path: Path, **options: object) -> tuple[str, int]:
    """Backend and number of engines of a detector."""
    with Detector.open(path, **options) as detector:  # type: ignore[arg-type]
        return detector.engine.backend, len(detector.engines)


def test_the_detector_uses_it_where_nothing_is_pinned(
    pristine: Path, two_threads: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    record_tuning(Bundle.open(pristine), Setting(two_threads.artifact, "openvino", None, 1, 2), "fps")
    assert used(pristine) == ("openvino", 2)
    expected = "tuned for fps on this device: openvino-fp32 on openvino, threads 1, streams 2"
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.INFO] == [expected]
    assert used(pristine, tuned=False) == ("onnxruntime", 1)
    for pinned in (
        {"backend": "onnxruntime"}, {"precision": "fp32"}, {"target": "onnx"}, {"threads": 1}, {"streams": 1},
    ):  # fmt: skip
        assert used(pristine, **pinned) == ("onnxruntime", 1), pinned


def test_it_has_to_pass_the_gate_like_any_other(
    build: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = build(tmp_path / "bundle", wrong=("openvino-fp32",))
    record_tuning(bundle, Setting(bundle.manifest.artifacts[1], "openvino"), "latency")
    assert used(tmp_path / "bundle") == ("onnxruntime", 1)
    assert "openvino-fp32 on openvino " in caplog.text
    assert "onnx-fp32 on onnxruntime is used instead" in caplog.text


def test_what_was_proved_while_tuning_is_not_replayed(pristine: Path) -> None:
    bundle = Bundle.open(pristine)
    tuned = tune(bundle, seconds=0.005)
    record_tuning(bundle, tuned.chosen, "latency")
    replayed: list[int] = []
    Detector.open(pristine, progress=lambda done, of: replayed.append(done)).close()
    assert replayed == []


# The command


def test_the_command_speaks_json(command: Command, pristine: Path, cache: Path, folder: Path) -> None:
    done = command("sspcab_edge.cli", "tune", pristine, "--json", "--seconds", 0.01)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert list(result) == [
        "schema", "bundle", "digest", "device", "versions", "objective", "default", "chosen", "speed_up",
        "saved", "settings",
    ]  # fmt: skip
    assert result["schema"] == 1
    assert result["objective"] == "latency"
    assert cpu_device() in result["device"]
    (file,) = (cache / "tuning").iterdir()
    assert result["saved"] == str(file)
    names = ["artifact", "target", "precision", "backend", "hint", "threads", "streams"]
    assert list(result["default"]) == list(result["chosen"]) == names
    assert result["default"] == {
        "artifact": "onnx-fp32", "target": "onnx", "precision": "fp32", "backend": "onnxruntime",
        "hint": None, "threads": None, "streams": 1,
    }  # fmt: skip
    assert {tuple(row) for row in result["settings"]} == {(*names, "latency_ms", "fps", "state", "reason")}
    (chosen,) = (row for row in result["settings"] if row["state"] == "chosen")
    assert {name: chosen[name] for name in names} == result["chosen"]
    assert chosen["latency_ms"] > 0
    told = command("sspcab_runtime.cli", pristine, folder, "--limit", 1, "-v").stderr
    assert "tuned for latency on this device" in told
    told = command("sspcab_runtime.cli", pristine, folder, "--limit", 1, "-v", "--no-tuned").stderr
    assert "tuned for" not in told


def test_the_command_prints_a_table(command: Command, pristine: Path) -> None:
    done = command(
        "sspcab_edge.cli",
        "tune",
        pristine,
        "--objective",
        "fps",
        "--seconds",
        0.01,
        "--backend",
        "onnxruntime",
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("artifact"))
    columns = ["artifact", "backend", "hint", "threads", "streams", "ms", "frames/s", "state"]
    assert lines[header].split() == columns
    rows = [line.split() for line in lines[header + 1 : -1]]
    assert rows[0][:5] == ["onnx-fp32", "onnxruntime", "default", "default", "1"]
    assert {row[-1] for row in rows} <= {"chosen", "slower"}
    assert lines[-1].startswith("best for fps: onnx-fp32 on onnxruntime")


def test_a_gate_not_passed_is_exit_3(command: Command, build: Build, tmp_path: Path, cache: Path) -> None:
    build(tmp_path / "bundle", lie=0.5)
    done = command("sspcab_edge.cli", "tune", tmp_path / "bundle", "--seconds", 0.01)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith(
        "sspcab-edge: no setting of the bundle can be used here: onnx-fp32 on onnxrun"
    )
    assert not (cache / "tuning").exists()


def test_progress_is_told(sleepy: type[SleepyEngine], bundle: Bundle) -> None:
    sleepy.hints = ()
    told: list[str] = []
    tune(bundle, seconds=LOOK_S, progress=lambda done, total, what: told.append(what))
    assert told[0] == "parity inputs: onnx-fp32 on sleepy"
    assert "measuring onnx-fp32 on sleepy, threads 4" in told
    assert told[-1] == "rounds of the last few"


def test_a_setting_in_words(bundle: Bundle) -> None:
    setting = Setting(bundle.manifest.artifacts[0], "onnxruntime")
    assert str(Setting(setting.artifact, "openvino", "bf16", 2, 3)) == (
        "onnx-fp32 on openvino, hint bf16, threads 2, streams 3"
    )
