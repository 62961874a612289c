"""What reports say of the machine around a measurement: others' load for real, a Jetson from its tree."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from definitions.jetson_trees import AGX_ORIN, ORIN_NANO, make_tree
from sspcab_bench.giving import STRICT
from sspcab_bench.report import head_json
from sspcab_bench.surroundings import Surroundings
from sspcab_bench.text_report import machine_lines

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def eater() -> Iterator[None]:
    """A process of somebody else's that keeps one core busy."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield
        process.kill()


@pytest.mark.usefixtures("eater")
def test_a_core_is_eaten(bench: Command, bundle_path: Path) -> None:
    """The report says that its figures are too slow; with --strict so does the exit code."""
    arguments = (bundle_path, "--backend", "onnxruntime", "--seconds", "0.5", "--json")
    plain = bench(*arguments)
    assert plain.returncode == 0, plain.stderr
    report = json.loads(plain.stdout)
    assert report["machine"]["load"]["other_cores"] > 0.5
    assert any("other processes kept" in warning for warning in report["warnings"])
    strict = bench(*arguments, "--strict")
    assert strict.returncode == STRICT
    assert json.loads(strict.stdout)["results"], "the report is given all the same"


def test_a_jetson(tmp_path: Path) -> None:
    """Every report begins with what its figures depend on."""
    root = make_tree(tmp_path, ORIN_NANO)
    with Surroundings(root / "proc", root / "sys", root) as around:
        (root / "sys/class/hwmon/hwmon0/oc3_event_cnt").write_text("5\n")
    head = json.loads(json.dumps(head_json(around)))
    assert head["machine"]["jetson"]["power_mode"] == "25W"
    assert head["machine"]["sensors"]["hottest_c"] == pytest.approx(53.906)
    assert head["machine"]["sensors"]["mean_power_mw"] == pytest.approx(4960 * 1512 / 1e3)
    assert any("throttled: 3 over-current events" in warning for warning in around.warnings())
    text = "\n".join(machine_lines(around.machine))
    assert "Jetson Linux 36.4.3, JetPack 6.2+b77, power mode 25W, clocks not pinned" in text


def test_another_jetson(tmp_path: Path) -> None:
    """An alert that is active while something is measured is a warning; what is not told is unknown."""
    root = make_tree(tmp_path, AGX_ORIN)
    with Surroundings(root / "proc", root / "sys", root) as around:
        pass
    assert any("gpu-throttle-alert" in warning for warning in around.warnings())
    assert "JetPack unknown, power mode MAXN, clocks pinned" in "\n".join(machine_lines(around.machine))


def test_no_jetson() -> None:
    with Surroundings() as around:
        pass
    assert head_json(around)["machine"]["jetson"] is None
    assert not any("Jetson" in line for line in machine_lines(around.machine))
