"""``sspcab-export`` as a user runs it: exit codes, one clear line, and nothing left after a failure."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from definitions.draem_plain import Discriminative, OfficialBlock, Reconstructive, randomise
from sspcab_edge.bundle import Bundle

COMMAND = [sys.executable, "-m", "sspcab_export.cli"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random DRAEM with a block."""
    folder = tmp_path_factory.mktemp("model")
    reconstructive = Reconstructive(8)
    reconstructive.encoder["block5"] = OfficialBlock(64)
    torch.save(randomise(reconstructive, 1).state_dict(), folder / "run.pckl")
    torch.save(randomise(Discriminative(4), 2).state_dict(), folder / "run_seg.pckl")
    return folder / "run.pckl"


@pytest.fixture(scope="module")
def graph(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a graph: what fails behind torch's exporter need not wait for it."""
    bundle = tmp_path_factory.mktemp("graph") / "bundle"
    done = run(checkpoint, "-o", bundle)
    assert done.returncode == 0, done.stderr
    return bundle / "model.fp32.onnx"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Normal pictures of kinds that have to be converted: grey, 16-bit, with alpha."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    shapes: list[tuple[tuple[int, ...], Any]] = [
        ((70, 80), np.uint8),
        ((70, 80, 3), np.uint16),
        ((70, 80, 4), np.uint8),
        ((70, 80, 3), np.uint8),
    ]
    for number in range(8):
        shape, dtype = shapes[number % 4]
        pixels = random.integers(0, np.iinfo(dtype).max, shape).astype(dtype)
        assert cv2.imwrite(str(folder / f"{number}.png"), pixels)
    return folder


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments), "--input-size", "64"],
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def assert_one_clear_line(done: subprocess.CompletedProcess[str], code: int, said: str) -> None:
    """The error is the last line of stderr, alone, and no traceback is shown."""
    assert done.returncode == code, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("sspcab-export: ")
    assert said in last
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_json_is_the_stable_object_and_conversions_are_said(
    checkpoint: Path, pictures: Path, tmp_path: Path
) -> None:
    done = run(checkpoint, "--calibration", pictures, "-o", tmp_path / "bundle", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["schema"] == 1
    assert report["artifacts"][0]["parity"]["passed"] is True
    assert report["bundle"] == str(tmp_path / "bundle")
    for said in ("2 pictures converted: grey to RGB", "16-bit to 8-bit", "alpha dropped", "encoder.block5"):
        assert said in done.stderr
    assert Bundle.open(tmp_path / "bundle").manifest.decision.policy == "false-alarm-rate"


def test_a_failed_gate_prints_its_report_and_names_the_option_that_would_change_it(
    graph: Path, pictures: Path, tmp_path: Path
) -> None:
    """Given back as it is named, the option is enough."""
    command: list[str | Path] = [graph, "-o", tmp_path / "bundle", "--calibration", pictures]
    command += ["--target", "openvino", "--allow-no-block"]
    strict = ["--gate", "fp32:map=1e-12"]
    done = run(*command, *strict, "--json")
    assert done.returncode == 3
    assert list(tmp_path.iterdir()) == []
    report = json.loads(done.stdout)
    (artifact,) = report["artifacts"]
    assert report["bundle"] is None
    assert not artifact["parity"]["passed"]
    assert artifact["parity"]["max_abs_map_diff"] > artifact["parity"]["gate"]["map_tolerance"] == 1e-12
    assert report["rounding"]["method"] == "other-order"
    named = re.search(r"would pass with (--gate \S+)", done.stderr)
    assert named is not None
    again = run(*command, *named[1].split(), "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["artifacts"][0]["parity"]["passed"]


def test_people_get_a_table_and_the_next_command(checkpoint: Path, tmp_path: Path) -> None:
    done = run(checkpoint, "--target", "openvino", "-o", tmp_path / "bundle")
    assert done.returncode == 0, done.stderr
    assert "openvino-fp32" in done.stdout
    assert f"next       sspcab-run {tmp_path / 'bundle'} IMAGES" in done.stdout
    assert f"sspcab-edge fit {tmp_path / 'bundle'} DIR" in done.stdout
    assert "verdicts were compared on built-in images; give --calibration DIR" in done.stdout
    assert "not your scene" in done.stderr


def test_the_shortest_command_names_its_bundle_after_the_checkpoint(
    graph: Path, pictures: Path, tmp_path: Path
) -> None:
    source = tmp_path / "leather.onnx"
    source.write_bytes(graph.read_bytes())
    arguments = [source.name, "--target", "tensorrt", "--allow-no-block"]
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    bundle = Bundle.open(tmp_path / "leather-bundle")
    assert [artifact.name for artifact in bundle.manifest.artifacts] == ["tensorrt-fp32"]
    assert bundle.manifest.decision.threshold is None
    again = run(*arguments, cwd=tmp_path)
    assert_one_clear_line(again, 1, "leather-bundle exists already: choose another output with -o")
    assert "--force" in again.stderr
    assert "reading the checkpoint" not in again.stderr
    done = run(*arguments, "--calibration", pictures, "--force", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "missing" not in done.stdout
    assert Bundle.open(tmp_path / "leather-bundle").manifest.decision.policy == "false-alarm-rate"


@pytest.mark.parametrize("arguments", [[], ["x.pckl", "-o", "b", "--target", "coreml"]])
def test_wrong_usage_exits_with_2(tmp_path: Path, arguments: list[str]) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Usage:" in done.stderr or "Usage:" in done.stdout


def evil(path: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {path.parent / 'canary'}",)

    torch.save({"encoder.block1.0.weight": torch.ones(1), "p": Payload()}, path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:1000]), "truncated"),
        (lambda p: p.write_bytes(os.urandom(4000)), "damaged"),
        (lambda p: p.write_bytes(b""), "is empty"),
        (evil, "asks to run"),
        (lambda p: p.unlink(), "does not exist"),
    ],
    ids=["truncated", "random", "empty", "code", "absent"],
)
def test_bad_checkpoints(checkpoint: Path, tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    path = tmp_path / "run.pckl"
    path.write_bytes(checkpoint.read_bytes())
    spoil(path)
    out = tmp_path / "out"
    out.mkdir()
    assert_one_clear_line(run(path, "-o", out / "bundle"), 1, said)
    assert list(out.iterdir()) == []
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--dialect", "oficial"], "unknown dialect 'oficial'"),
        (["--dilation", "99"], "dilation 99"),
        (["--calibration", "."], "holds no images"),
        (["--quantile", "0.9"], "--calibration"),
    ],
)
def test_bad_options(checkpoint: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert_one_clear_line(run(checkpoint, "-o", out / "bundle", *arguments, cwd=tmp_path), 1, said)
    assert list(out.iterdir()) == []


def test_verbose_shows_the_traceback_too(tmp_path: Path) -> None:
    done = run(tmp_path / "absent.pckl", "-o", tmp_path / "bundle", "-v")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("reading the checkpoint", signal.SIGINT),
        ("fit pictures through the source", signal.SIGTERM),
        ("making the graph", signal.SIGINT),
        ("converting for openvino", signal.SIGINT),
        ("judging onnx-fp32", signal.SIGTERM),
    ],
)
def test_an_interrupt_at_any_stage_leaves_nothing(
    checkpoint: Path,
    graph: Path,
    pictures: Path,
    tmp_path: Path,
    stage: str,
    number: signal.Signals,
) -> None:
    output = tmp_path / "bundle"
    source = graph if stage.startswith(("converting", "judging")) else checkpoint
    arguments = [source, "--allow-no-block", "-o", output, "--target", "onnx", "--target", "openvino"]
    arguments += ["--calibration", pictures, "--input-size", "64"]
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    seen = any(stage in line for line in iter(process.stderr.readline, ""))
    process.send_signal(number)
    _, rest = process.communicate(timeout=120)
    assert seen
    assert process.returncode == 130, rest
    assert rest.strip().splitlines()[-1] == "sspcab-export: interrupted"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 800 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=800k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_a_full_disk_is_one_clear_line_and_nothing_is_left(
    graph: Path, pictures: Path, small_disk: Path, target: str
) -> None:
    done = run(
        graph, "--allow-no-block", "--calibration", pictures, "--target", target, "-o", small_disk / "bundle"
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot write" in done.stderr.strip().splitlines()[-1]
    assert list(small_disk.iterdir()) == []


def test_a_full_disk_leaves_the_older_bundle_as_it_was(graph: Path, pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    assert run(graph, "--allow-no-block", "-o", output).returncode == 0
    before = Bundle.open(output).digest

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = run(
        graph, "--allow-no-block", "--calibration", pictures, "-o", output, "--force", preexec_fn=limit
    )
    assert_one_clear_line(done, 1, "cannot write")
    assert Bundle.open(output).digest == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
