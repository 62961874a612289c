"""One message names all that a command lacks, and the command line completed with it works."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from sspcab_export.checkpoints.kinds import container, fixed_size
from sspcab_export.cli import command
from sspcab_export.needs import MissingOptions

CODE = """
from torch import nn


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        made = self.layer(x)
        return {"repainted": made[:, :3], "heat": made[:, 3:].abs()}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of a network with a map and a reconstruction, its code beside them, and programs."""
    (tmp_path / "two_outputs_of_test.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = __import__("two_outputs_of_test").Two().eval()
    torch.save(module.state_dict(), "weights.pth")
    plain = nn.Conv2d(3, 1, 1).eval()
    torch.jit.save(torch.jit.script(plain), "script.pt")
    torch.export.save(torch.export.export(plain, (torch.zeros(1, 3, 24, 32),)), "program.pt2")
    return tmp_path


def missing(*arguments: str) -> MissingOptions:
    found = CliRunner().invoke(command, list(arguments), prog_name="sspcab-export")
    assert isinstance(found.exception, MissingOptions), found.output
    return found.exception


def flags(error: MissingOptions) -> list[str]:
    return [need.flag for need in error.needs]


def test_weights_of_nobody_need_code_size_and_score(folder: Path) -> None:
    del folder
    error = missing("weights.pth", "--target", "tensorrt", "--score", "map-max")
    assert flags(error) == ["--factory", "--input-size"]
    assert error.advice == (
        "sspcab-export weights.pth --target tensorrt --score map-max "
        "--factory PACKAGE.MODULE:FUNCTION --input-size HEIGHTxWIDTH"
    )
    assert flags(missing("weights.pth")) == ["--factory", "--input-size", "--score"]


def test_code_alone_is_run_to_say_what_it_gives_and_which_scores_fit(folder: Path) -> None:
    error = missing("weights.pth", "--factory", "two_outputs_of_test:Two")
    assert flags(error) == ["--input-size", "--score"]
    assert "--score map-max, or another that fits: --score error" in str(error)
    assert error.advice is not None
    words = shlex.split(error.advice.replace("HEIGHTxWIDTH", "32"))[1:]
    done = CliRunner().invoke(command, [*words, "--allow-no-block"], prog_name="sspcab-export")
    assert done.exit_code == 0, done.exception
    assert (folder / "weights-bundle" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("script.pt", ["--trust", "--input-size", "--score"]), ("program.pt2", ["--trust", "--score"])],
)
def test_programs_say_all_of_it_at_once_without_torch(folder: Path, name: str, expected: list[str]) -> None:
    error = missing(name)
    assert flags(error) == expected
    assert error.needs[0].value == f"sha256:{hashlib.sha256((folder / name).read_bytes()).hexdigest()}"
    code = (
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None\n"
        f"sys.argv = ['sspcab-export', {name!r}]\nfrom sspcab_export.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith(f"sspcab-export: {name} is a ")
    assert second == f"  {error.advice}"


def test_the_size_of_a_program_is_read_without_running_it(folder: Path) -> None:
    assert fixed_size(folder / "program.pt2") == (24, 32)
    assert fixed_size(folder / "script.pt") is None
    assert fixed_size(folder / "weights.pth") is None
    assert container(folder / "weights.pth") == "torch.save archive"


def dry_run(*arguments: str) -> tuple[int, dict[str, Any]]:
    found = CliRunner().invoke(command, [*arguments, "--dry-run", "--json"], prog_name="sspcab-export")
    return found.exit_code, json.loads(found.stdout)


def test_a_dry_run_says_what_is_known_and_missing_and_makes_nothing(folder: Path) -> None:
    before = sorted(folder.iterdir())
    code, report = dry_run("weights.pth")
    assert code == 2
    assert (report["schema"], report["host"], report["bundle"]) == (1, None, "weights-bundle")
    assert report["checkpoint"][0]["container"] == "torch.save archive"
    assert [need["option"] for need in report["needs"]] == ["--factory", "--input-size", "--score"]
    arguments = ["weights.pth", "--factory", "two_outputs_of_test:Two", "--input-size", "32"]
    code, report = dry_run(*arguments, "--score", "map-max")
    assert (code, report["host"], report["blocks"]) == (2, "network", [])
    assert [need["option"] for need in report["needs"]] == ["--allow-no-block"]
    code, report = dry_run(*arguments, "--score", "map-max", "--allow-no-block", "--mean", "0.5")
    assert (code, report["needs"]) == (0, [])
    assert report["input"] == {"width": 32, "height": 32, "resize": "opencv-linear"}
    assert report["overrides"]["mean"] == "0.5"
    assert any("frames are resized" in text for text in report["assumptions"])
    shown = CliRunner().invoke(command, [*arguments, "--score", "map-max", "--dry-run"]).stdout
    assert "host        network" in shown
    assert "needs       --allow-no-block, there is no SSPCAB block in it" in shown
    assert "bundle      weights-bundle: onnx-fp32" in shown
    left = {path for path in folder.iterdir() if path.name != "__pycache__"}
    assert left <= set(before)
