"""Code of the user's own: where it is found, what it may do, and what becomes one clear line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sspcab_edge.errors import EdgeError, HostError, OptionError
from sspcab_export.hosts import HostOptions
from sspcab_export.networks.factory import make_network
from sspcab_export.reading import read_model

HELPER = "def channels():\n    return 3\n"
CODE = """
from torch import nn

def make():
    from helper_of_user import channels
    return nn.Conv2d(channels(), 3, 1)

def leaves():
    raise SystemExit(0)

def wants(width):
    return nn.Conv2d(width, 3, 1)

def several():
    raise ValueError("first line\\nsecond line")

def volumes():
    return nn.Sequential(nn.ConvTranspose3d(3, 3, 1))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with modules that no other test has seen."""
    (tmp_path / "code_beside.py").write_text(CODE)
    (tmp_path / "helper_of_user.py").write_text(HELPER)
    (tmp_path / "script_without_guard.py").write_text("raise SystemExit('usage: train.py PICTURES')\n")
    (tmp_path / "broken_syntax.py").write_text("def make(:\n    pass\n")
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_modules_of_the_working_directory_are_found_even_while_the_factory_runs() -> None:
    before = list(sys.path)
    network = make_network("code_beside:make")
    assert isinstance(network, nn.Conv2d)
    assert sys.path == before


@pytest.mark.parametrize(
    ("factory", "error", "said"),
    [
        ("broken_syntax:make", OptionError, r"broken_syntax cannot be imported: SyntaxError: "),
        (
            "script_without_guard:make",
            OptionError,
            r"cannot be imported: SystemExit: usage: train\.py PICTURES",
        ),
        ("code_beside:leaves", HostError, r"raises SystemExit: 0; it is called without arguments"),
        ("code_beside:wants", HostError, r"raises TypeError: .*; it is called without arguments"),
        ("code_beside:several", HostError, r"raises ValueError: first line; it is called"),
        ("code_beside:volumes", HostError, r"code_beside:volumes holds three-dimensional convolutions"),
        (".code_beside:make", OptionError, r"cannot be imported: TypeError"),
        ("code_beside:make:more", OptionError, r"has no function make:more"),
        ("", OptionError, r"expected package\.module:function"),
    ],
)
def test_what_is_no_factory_is_one_line(factory: str, error: type[EdgeError], said: str) -> None:
    before = list(sys.path)
    with pytest.raises(error, match=said) as caught:
        make_network(factory)
    assert "\n" not in str(caught.value)
    assert sys.path == before


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.norm(self.conv(x)))


def read(path: Path, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "two_of_test", type(sys)("two_of_test"))
    monkeypatch.setattr(sys.modules["two_of_test"], "make", Two, raising=False)
    torch.save(state, path)
    options = HostOptions(factory="two_of_test:make", score="error", input_size=(8, 8))
    return read_model([path], options, None)


def test_weights_of_half_precision_and_without_counters_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Two().eval()
    state = {
        key: value.half()
        for key, value in network.state_dict().items()
        if not key.endswith("batches_tracked")
    }
    host, model = read(tmp_path / "weights.pth", state, monkeypatch)
    frames = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype(np.uint8)
    x = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
    network.load_state_dict({key: value.float() for key, value in state.items()}, strict=False)
    with torch.no_grad():
        wanted = float((network(x) - x).square().mean())
    assert host.source.infer({"frames": frames})[0][0] == pytest.approx(wanted, rel=1e-5)
    assert model.overrides["factory"] == "two_of_test:make"


def test_every_prefix_that_was_taken_off_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {f"model.{key}": value for key, value in Two().state_dict().items()}
    _, model = read(tmp_path / "weights.pth", state, monkeypatch)
    assert "weights are named model.* in the checkpoint: the prefix was taken off" in model.assumptions


def test_missing_and_unexpected_weights_are_named_a_few_of_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {f"layer{number}.weight": torch.ones(1) for number in range(6)}
    with pytest.raises(HostError) as caught:
        read(tmp_path / "weights.pth", state, monkeypatch)
    said = str(caught.value)
    assert "it lacks conv.weight, conv.bias, norm.weight, norm.bias and 2 more" in said
    assert "it has layer0.weight, layer1.weight, layer2.weight, layer3.weight and 2 more, which" in said
