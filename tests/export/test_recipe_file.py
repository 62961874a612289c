"""Recipes: a bundle is made again from its own; whatever else is in one is refused with its line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EdgeError, OptionError
from sspcab_edge.manifest import FileEntry
from sspcab_export import ExportOptions, FrontEndOptions, HostOptions, export, read_recipe
from sspcab_export.cli import command
from sspcab_export.needs import MissingOptions
from sspcab_export.recipe_file import recipe_text

CODE = """
from torch import nn


def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a model, its code, images, and a bundle made of them with options of many kinds."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "models").mkdir()
    (folder / "good").mkdir()
    (folder / "out").mkdir()
    (folder / "made_of_recipe.py").write_text(CODE)
    random = np.random.default_rng(0)
    for number in range(12):
        pixels = random.integers(0, 256, (40, 48, 3)).astype(np.uint8)
        assert cv2.imwrite(str(folder / "good" / f"{number}.png"), pixels)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        torch.manual_seed(1)
        torch.save(__import__("made_of_recipe").make().state_dict(), "models/m.pth")
        export(
            "models/m.pth",
            targets=["onnx", "openvino"],
            calibration="good",
            gates=["fp32:score=1e-3"],
            false_alarm_rate=0.25,
            output="out/bundle",
            host=HostOptions(
                factory="made_of_recipe:make", input_size=(32, 40), score="map-max", mean=(0.5,),
                allow_no_block=True,
            ),
            front_end=FrontEndOptions(zones=(((0, 0), (40, 0), (40, 30)),), frame_size=(40, 48)),
        )  # fmt: skip
    return folder


@pytest.fixture(autouse=True)
def at_work(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(str(work))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments), prog_name="sspcab-export")


def artifacts(path: str) -> dict[str, bytes]:
    """Bytes by file; without the numbers that OpenVINO counts up in one process behind names it makes."""
    bundle = Bundle.open(path)
    listed = {name for artifact in bundle.manifest.artifacts for name in artifact.files}
    contents = {name: bundle.file(name).read_bytes() for name in listed}
    return {
        name: re.sub(rb'_[0-9]+"', b'"', data) if name.endswith("xml") else data
        for name, data in contents.items()
    }


def test_a_bundle_is_made_again_from_its_recipe(work: Path) -> None:
    listed = [entry.path for entry in Bundle.open("out/bundle").manifest.files]
    assert "recipe.toml" in listed
    done = run("--recipe", "out/bundle/recipe.toml", "-o", "again")
    assert done.exit_code == 0, done.exception
    assert artifacts("again") == artifacts("out/bundle")
    one, two = (Bundle.open(path).manifest for path in ("out/bundle", "again"))
    assert (one.decision, one.front_end, one.model) == (two.decision, two.front_end, two.model)
    text = (work / "out/bundle/recipe.toml").read_text()
    assert str(work) not in text
    assert 'checkpoint = ["../models/m.pth"]' in text
    relative = text.replace("../", "")
    assert (work / "again" / "recipe.toml").read_text() == relative


def test_what_is_given_wins_and_is_said() -> None:
    done = run("--recipe", "out/bundle/recipe.toml", "--target", "onnx", "-o", "fewer")
    assert done.exit_code == 0, done.exception
    assert [a.target for a in Bundle.open("fewer").manifest.artifacts] == ["onnx"]
    assert "out/bundle/recipe.toml:4: another value was given, which wins" in done.output


def test_another_checkpoint_is_said(work: Path) -> None:
    other = work / "other"
    other.mkdir()
    digest = "0" * 64
    (work / "models" / "r.toml").write_text(f'checkpoint = "m.pth"\ncheckpoint-sha256 = ["{digest}"]\n')
    recipe = read_recipe("models/r.toml")
    assert recipe.checkpoint == (Path("models/m.pth"),)
    assert "its SHA-256 differs" in recipe.notes[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("target = ['onnx']\ncalibratoin = 'good'", r":2: calibratoin: .*did you mean calibration\?"),
        ("[host]\nscore = 'error'", r":1: host: there is no such option"),
        ("dilation = '2'", r":1: dilation: '2', expected a whole number"),
        ("dilation = true", r":1: dilation: True, expected a whole number"),
        ("\n\ntiles = 1", r":3: tiles: 1, expected true or false"),
        ("target = 'onnx'", r":1: target: 'onnx', expected an array"),
        ("target = ['coreml']", r":1: target: .*coreml"),
        ("input-size = '0x3'", r":1: input-size: .*HEIGHTxWIDTH"),
        ("zone = ['1,2 3,4']", r":1: zone: .*corners"),
        ("bit-depth = 11", r":1: bit-depth: 11 is none of 8, 10, 12, 14, 16"),
        ("bit-depth = '12'", r":1: bit-depth: '12', expected a whole number"),
        ("float-budget = -1", r":1: float-budget: "),
        ("score = \n", ":1: "),
        ("score = 'error'\nscore = 'error'", ": "),
        ("checkpoint = [3]", r":1: checkpoint: \[3\], expected texts"),
        ("checkpoint = ['a']\ncheckpoint-sha256 = []", None),
        (
            "checkpoint = ['a']\ncheckpoint-sha256 = ['1', '2']",
            r":2: checkpoint-sha256: 2 digests for 1 files",
        ),
        ("mask = ''", r":1: mask: '' is no path"),
        ("trust = 'sha256:00'", r":1: trust: is agreed to on the command line, with --trust"),
        ("force = true", r":1: force: is agreed to on the command line, with --force"),
    ],
)
def test_what_is_not_understood_is_refused_with_file_and_line(
    tmp_path: Path, text: str, said: str | None
) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    if said is None:
        read_recipe(path)
        return
    with pytest.raises(OptionError, match=rf"r\.toml{said}") as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a" * 2**21, b"a=" + b"[" * 100_000])
def test_no_recipe_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(content)
    with pytest.raises(EdgeError):
        read_recipe(path)
    with pytest.raises(OptionError, match="cannot be read"):
        read_recipe(tmp_path)


@pytest.mark.parametrize("leads", ["../outside", "/etc", "~", "inside/../../outside", "link"])
def test_a_path_outside_has_to_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leads: str) -> None:
    folder = tmp_path / "project"
    (folder / "inside").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (folder / "link").symlink_to(tmp_path / "outside")
    monkeypatch.chdir(tmp_path)
    path = folder / "r.toml"
    path.write_text(f"checkpoint = 'm.pt'\n\ncalibration = {leads!r}\nmask = 'inside/m.png'\n")
    with pytest.raises(
        MissingOptions, match=r"r\.toml:3: calibration: a recipe may not lead out of"
    ) as caught:
        read_recipe(path)
    assert [need.flag for need in caught.value.needs] == ["--calibration"]
    found = run("--recipe", "project/r.toml", "--target", "onnx").exception
    assert isinstance(found, MissingOptions)
    assert found.advice is not None
    assert found.advice.startswith("sspcab-export --recipe project/r.toml --target onnx --calibration ")
    recipe = read_recipe(path, {"calibration"})
    assert recipe.values == {"mask": Path("project/inside/m.png")}
    assert recipe.checkpoint == (Path("project/m.pt"),)


def test_a_bundles_recipe_may_name_a_checkpoint_anywhere_that_it_has_the_digest_of(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = read_recipe(work / "out/bundle/recipe.toml", {"calibration"})
    assert recipe.checkpoint[0].resolve() == work / "models/m.pth"
    with pytest.raises(MissingOptions, match=r"recipe\.toml:\d+: calibration: "):
        read_recipe(work / "out/bundle/recipe.toml")


def test_every_kind_of_option_comes_back_as_it_was(tmp_path: Path) -> None:
    told = ExportOptions(
        targets=["onnx", "tensorrt"],
        precisions=("fp16",),
        threshold=0.0,
        quantile=None,
        float_budget=0,
        bit_depth=12,
        sensitivity=True,
        gates=("fp16:rate=0.5",),
        name='quote " and \\ and \x7f and ünïcode',
        host=HostOptions(
            weights=(1.0, 1e-05), statistics=(9.0, 3.0, 40.5, 11.0), colour="BGR", input_size=(8, 16)
        ),
        front_end=FrontEndOptions(
            region=(1, 2, 3, 4), flow_range=(-1.0, 1.0), classes=(0, 3), mask=tmp_path / "m.png",
            tiles=True, overlap=0,
        ),
    )  # fmt: skip
    entry = FileEntry(path="m.pt", size=1, sha256="0" * 64)
    (tmp_path / "r.toml").write_text(recipe_text([tmp_path / "m.pt"], [entry], told, tmp_path))
    got = read_recipe(tmp_path / "r.toml").options()
    mask = got.front_end.mask
    assert mask is not None
    assert mask.resolve() == tmp_path / "m.png"
    expected = json.dumps(plain(told), default=str).replace(str(tmp_path / "m.png"), str(mask))
    assert json.dumps(plain(got), default=str) == expected


def plain(options: Any) -> Any:
    fields = options.__dataclass_fields__
    return {
        name: plain(value) if hasattr(value := getattr(options, name), "__dataclass_fields__") else value
        for name in fields
    }
