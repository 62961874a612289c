"""Whole pickled modules: their weights are what ``state_dict`` gives, and nothing of them runs."""

from __future__ import annotations

import functools
import os
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sspcab_edge.errors import CheckpointError
from sspcab_export.checkpoints import read_checkpoint

FORMS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


class Net(nn.Module):
    """Weights of every kind, and attributes that are no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Linear(4, 2)])
        self.scales = nn.ParameterDict({"a": nn.Parameter(torch.rand(2))})
        self.rows = nn.ParameterList([nn.Parameter(torch.rand(1)), nn.Parameter(torch.rand(3))])
        self.attention = nn.MultiheadAttention(4, 2)
        self.without_bias = nn.Conv2d(3, 4, 1, bias=False)
        self.register_buffer("kept", torch.rand(2))
        self.register_buffer("transient", torch.rand(2), persistent=False)
        self.again = self.stages[1]
        self.activation = functools.partial(nn.functional.leaky_relu, negative_slope=0.1)
        self.number = np.float64(3.5)
        self.options = types.SimpleNamespace(widths=[4, 2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise SystemError("behaviour was run")

    def __setstate__(self, state: Any) -> None:
        raise SystemError("behaviour was run")


def save(path: Path, content: Any, zipped: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def assert_weights(tensors: Any, network: nn.Module, prefix: str = "") -> None:
    state = network.state_dict()
    assert set(tensors) == {f"{prefix}{key}" for key in state}
    for key, value in state.items():
        assert torch.equal(tensors[f"{prefix}{key}"], value)


@FORMS
def test_the_weights_of_a_module_are_those_of_its_state_dict(tmp_path: Path, zipped: bool) -> None:
    network = Net()
    part = read_checkpoint([save(tmp_path / "net.pt", network, zipped)]).parts[0]
    assert_weights(part.held, network)
    assert dict(part.modules) == {"": f"{__name__}.Net"}


@FORMS
def test_modules_in_a_dict_and_wrapped_ones(tmp_path: Path, zipped: bool) -> None:
    network = Net()
    content = {"model": nn.DataParallel(network), "ema": None, "epoch": 3, "train_args": {"lr": 0.1}}
    part = read_checkpoint([save(tmp_path / "net.pt", content, zipped)]).parts[0]
    assert_weights(part.held, network, "model.module.")
    assert_weights(part.tensors, network, "model.")
    assert list(part.modules) == ["model"]


@FORMS
def test_half_precision_modules_keep_their_numbers(tmp_path: Path, zipped: bool) -> None:
    network = nn.Conv2d(3, 4, 3).half()
    part = read_checkpoint([save(tmp_path / "net.pt", {"model": network}, zipped)]).parts[0]
    assert_weights(part.held, network, "model.")


def test_a_traced_graph_module(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    traced = torch.fx.symbolic_trace(network)
    part = read_checkpoint([save(tmp_path / "net.pt", traced, True)]).parts[0]
    assert_weights(part.held, network)


class Bomb:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@FORMS
def test_a_module_that_carries_code_is_refused_and_nothing_runs(tmp_path: Path, zipped: bool) -> None:
    canary = tmp_path / "canary"
    network = nn.Conv2d(1, 1, 1)
    network.extra = Bomb(os.system, f"touch {canary}")  # type: ignore[assignment]
    with pytest.raises(CheckpointError, match=r"net\.pt asks to run \w+\.system: refused"):
        read_checkpoint([save(tmp_path / "net.pt", network, zipped)])
    assert not canary.exists()


def test_a_module_that_holds_itself_is_refused(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1))
    network[0]._modules["up"] = network
    with pytest.raises(CheckpointError, match="holds itself at 0"):
        read_checkpoint([save(tmp_path / "net.pt", network, True)])


def test_modules_that_unfold_without_end_are_refused(tmp_path: Path) -> None:
    """Twenty levels of which each holds the next one four times: a million millions of paths."""
    network: nn.Module = nn.Conv2d(1, 1, 1)
    for _ in range(20):
        network = nn.ModuleList([network] * 4)
    with pytest.raises(CheckpointError, match="more than"):
        read_checkpoint([save(tmp_path / "net.pt", network, True)])


def test_modules_that_nest_too_deep_are_refused(tmp_path: Path) -> None:
    network: nn.Module = nn.Conv2d(1, 1, 1)
    for _ in range(60):
        network = nn.Sequential(network)
    with pytest.raises(CheckpointError, match="nests deeper than"):
        read_checkpoint([save(tmp_path / "net.pt", network, True)])


def test_parameters_that_are_none_and_states_that_are_no_tensors(tmp_path: Path) -> None:
    network = nn.BatchNorm2d(3, track_running_stats=False)
    network._parameters["odd"] = OrderedDict(a=3)  # type: ignore[assignment]
    part = read_checkpoint([save(tmp_path / "net.pt", network, True)]).parts[0]
    assert set(part.held) == {"weight", "bias"}


def test_wrappers_of_wrappers_without_end_are_one_line(tmp_path: Path) -> None:
    """A hundred thousand compiled modules, each around the next: nothing here recurses over them."""
    named = b"ctorch._dynamo.eval_frame\nOptimizedModule\n"
    depth = 100_000
    (tmp_path / "net.pt").write_bytes(b"\x80\x02" + named * depth + b"N" + b"\x85R" * depth + b".")
    with pytest.raises(CheckpointError, match="nests deeper than"):
        read_checkpoint([tmp_path / "net.pt"])
