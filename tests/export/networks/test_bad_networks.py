"""What cannot be a network: each one clear line, and nothing in a program runs that nobody vouched for."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from sspcab_edge.errors import CheckpointError, EdgeError, HostError, OptionError
from sspcab_export.checkpoints.kinds import program_kind
from sspcab_export.hosts import HostOptions
from sspcab_export.networks.program import load_program
from sspcab_export.reading import read_model

SIDE = 16


class Repaints(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.layer(x))


CODE = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
    def forward(self, x):
        return self.layer(x)
class Volumes(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv3d(3, 3, 3, padding=1)
    def forward(self, x):
        return self.layer(x)
class Fails(Net):
    def forward(self, x):
        raise KeyError("who knows")
def make(): return Net()
def volumes(): return Volumes()
def fails(): return Fails()
def raises(): raise RuntimeError("no such backbone")
def gives_nothing(): return None
number = 7
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "code_of_user.py").write_text(CODE)
    (tmp_path / "breaks_on_import.py").write_text("raise ValueError('not here')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    torch.save(Repaints().state_dict(), tmp_path / "weights.pth")
    return tmp_path


def read(path: Path, **options: Any) -> Any:
    return read_model([path], HostOptions(**{"input_size": (SIDE, SIDE), "score": "error", **options}), None)


@pytest.mark.parametrize(
    ("factory", "error", "said"),
    [
        ("code_of_user", OptionError, r"expected package\.module:function"),
        (":make", OptionError, r"expected package\.module:function"),
        ("nowhere_at_all:make", OptionError, "cannot be imported: ModuleNotFoundError"),
        ("breaks_on_import:make", OptionError, "cannot be imported: ValueError: not here"),
        ("code_of_user:build", OptionError, "has no function build"),
        ("code_of_user:number", OptionError, "has no function number"),
        ("code_of_user:raises", HostError, "raises RuntimeError: no such backbone"),
        ("code_of_user:gives_nothing", HostError, "gives NoneType, expected a torch.nn.Module"),
        ("code_of_user:fails", HostError, "fails on a picture"),
    ],
)
def test_factories(folder: Path, factory: str, error: type[EdgeError], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        read(folder / "weights.pth", factory=factory)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: {k: v for k, v in s.items() if "bias" not in k}, "it lacks layer.bias"),
        (lambda s: {**s, "head.weight": torch.ones(2)}, r"it has head\.weight, which the network does not"),
        (lambda s: {**s, "layer.weight": torch.ones(3, 3, 5, 5)}, r"shape \(3, 3, 5, 5\), .* expects"),
        (lambda s: {**s, "layer.bias": torch.full((3,), torch.nan)}, r"layer\.bias holds values that are no"),
    ],
)
def test_state_dicts(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], said: str
) -> None:
    torch.save(change(dict(Repaints().state_dict())), folder / "weights.pth")
    with pytest.raises(HostError, match=said):
        read(folder / "weights.pth", factory="code_of_user:make")


def test_three_dimensions_are_refused_with_the_reason(folder: Path) -> None:
    torch.save(nn.ModuleDict({"layer": nn.Conv3d(3, 3, 3)}).state_dict(), folder / "weights.pth")
    with pytest.raises(HostError, match="three-dimensional convolutions"):
        read(folder / "weights.pth", factory="code_of_user:volumes")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"score": "map-max"}, "looks like a map. Still needed: --map NAME"),
        ({"score": "output:nothing"}, "has no output 'nothing'"),
        ({"score": "output:output"}, "expected one number a picture"),
        ({"score": "sum"}, "is not understood"),
        ({"score": None}, "which of it is the score is not known"),
        ({"input_size": None}, "Still needed: --input-size"),
        ({"dilation": 2}, "--dilation is of no use"),
        ({"density": "kde"}, "--density is of no use"),
        ({"dialect": "official"}, "the network's own code decides"),
        ({"trust": "sha256:" + "0" * 64}, "--trust is for programs"),
        ({"input_range": (1.0, 1.0)}, "expected LOW:HIGH"),
        ({"mean": (0.5, 0.5)}, "2 numbers for the mean of 3 channels"),
        ({"std": (0.0,)}, "std above 0"),
        ({"normalisation": "imagenet", "mean": (0.5,)}, "give it or --mean and --std"),
    ],
)
def test_options(folder: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(EdgeError, match=said):
        read(folder / "weights.pth", factory="code_of_user:make", **options)


# Programs


class Planted:
    """Writes the process's number when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"echo $PPID > {self.marker}",)


def program(path: Path, marker: Path | None = None) -> Path:
    """A .pt2 with, where wanted, a pickle that does something among its weights."""
    exported = torch.export.export(Repaints().eval(), (torch.zeros(1, 3, SIDE, SIDE),))
    torch.export.save(exported, path)
    if marker is not None:
        import pickle

        source = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
        with zipfile.ZipFile(path, "w") as target:
            for name in source.namelist():
                data = source.read(name)
                if name.endswith("sample_inputs/model.pt"):
                    data = pickle.dumps(Planted(marker))
                target.writestr(name, data)
    return path


def trust(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_a_program_is_not_run_unless_somebody_vouches_for_it(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = program(tmp_path / "planted.pt2", marker)
    assert program_kind(path) == "pt2"
    options = {"input_size": None}
    with pytest.raises(OptionError, match=f"--trust {trust(path)}"):
        read(path, **options)
    for wrong, error, said in (
        ("sha256:" + "0" * 64, CheckpointError, "not the file you vouched for"),
        ("md5:" + "0" * 32, OptionError, "64 hexadecimal digits"),
        (trust(path)[:-1], OptionError, "64 hexadecimal digits"),
    ):
        with pytest.raises(error, match=said):
            read(path, trust=wrong, **options)
    assert not marker.exists()
    with contextlib.suppress(EdgeError):
        read(path, trust=trust(path), **options)
    if marker.exists():
        assert int(marker.read_text()) != os.getpid(), "what runs runs in a process of its own"


def test_a_trusted_program_works_and_its_process_ends(tmp_path: Path) -> None:
    path = program(tmp_path / "good.pt2")
    network = load_program(path, "pt2", trust(path))
    assert (network.expected.batch, network.expected.height) == (1, SIDE)
    child = network._child
    assert child.poll() is None
    got = network.run(np.zeros((1, 3, SIDE, SIDE), np.float32))
    assert got["output"].shape == (1, 3, SIDE, SIDE)
    with pytest.raises(HostError, match=r"good\.pt2"):
        network.run(np.zeros((1, 5, SIDE, SIDE), np.float32))
    network.close()
    assert child.poll() is not None


def test_programs_that_are_none(tmp_path: Path) -> None:
    path = program(tmp_path / "cut.pt2")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError):
        read(path, input_size=None)
    with zipfile.ZipFile(tmp_path / "empty.pt2", "w") as archive:
        archive.writestr("archive/archive_format", "pt2")
    with pytest.raises(HostError, match=r"empty\.pt2"):
        read(tmp_path / "empty.pt2", input_size=None, trust=trust(tmp_path / "empty.pt2"))


def test_a_program_exported_in_training_mode(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(
            torch.export.export(module, (torch.zeros(2, 3, SIDE, SIDE),)), tmp_path / "training.pt2"
        )
    with pytest.raises(HostError, match=r"training mode: call model\.eval"):
        read(tmp_path / "training.pt2", input_size=None, trust=trust(tmp_path / "training.pt2"))


# ONNX


def onnx_file(path: Path, nodes: list[Any], inputs: list[Any], output: Any, domain: str = "") -> Path:
    graph = helper.make_graph(nodes, "g", inputs, [output])
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def value(name: str, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


@pytest.mark.parametrize(
    ("nodes", "inputs", "domain", "options", "said"),
    [
        (
            [helper.make_node("Add", ["a", "b"], ["made"])],
            [value("a", [1, 3, SIDE, SIDE]), value("b", [1, 3, SIDE, SIDE])],
            "", {"input_size": None}, r"has 2 inputs \(a, b\), expected one picture",
        ),
        (
            [helper.make_node("Swish", ["a"], ["made"], domain="vendor.ops")],
            [value("a", [1, 3, SIDE, SIDE])], "vendor.ops", {"input_size": None}, "vendor.ops::Swish",
        ),
        (
            [helper.make_node("Gelu", ["a"], ["made"], domain="com.microsoft")],
            [value("a", [1, 3, SIDE, SIDE])], "com.microsoft", {"input_size": None}, "com.microsoft::Gelu",
        ),
        (
            [helper.make_node("Relu", ["a"], ["made"])],
            [value("a", ["n", 3, "h", "w"])], "", {"input_size": None}, "Still needed: --input-size",
        ),
        (
            [helper.make_node("Relu", ["a"], ["made"])],
            [value("a", ["n", 4, SIDE, SIDE])], "", {"input_size": None}, "takes 4 channels, expected 3",
        ),
    ],
)  # fmt: skip
def test_onnx_files(
    tmp_path: Path, nodes: list[Any], inputs: list[Any], domain: str, options: dict[str, Any], said: str
) -> None:
    path = onnx_file(tmp_path / "x.onnx", nodes, inputs, value("made", [None] * 4), domain)
    with pytest.raises(EdgeError, match=said):
        read(path, **options)


def test_a_grey_network_gets_grey(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["a"], ["made"])]
    path = onnx_file(
        tmp_path / "grey.onnx", nodes, [value("a", ["n", 1, SIDE, SIDE])], value("made", ["n", 1, SIDE, SIDE])
    )
    host, _ = read(path, input_size=None, allow_no_block=True)
    frame = np.full((1, SIDE, SIDE, 3), (255, 0, 0), np.uint8)
    scores, _ = host.source.infer({"frames": frame})
    assert scores[0] == pytest.approx((2 * 0.299) ** 2, rel=1e-5)
