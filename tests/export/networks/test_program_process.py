"""Programs do what they want, but in a process of their own, and only where somebody vouches for them."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sspcab_edge.errors import CheckpointError, HostError
from sspcab_export.checkpoints.kinds import program_kind
from sspcab_export.hosts import HostOptions
from sspcab_export.networks.program import load_program
from sspcab_export.networks.program_worker import _Exported, _Scripted
from sspcab_export.reading import read_model

SIDE = 16
PICTURE = np.zeros((1, 3, SIDE, SIDE), np.float32)
EXAMPLE = torch.zeros(1, 3, SIDE, SIDE)


class Repaints(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.layer(x))


class Writes(nn.Module):
    """TorchScript can write files and print, too."""

    def __init__(self, marker: Path) -> None:
        super().__init__()
        self.marker = str(marker)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, self.marker)
        print("noise")
        return x


class Planted:
    """Runs code when it is unpickled, and becomes the example inputs of a program."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        made = f"((__import__('torch').zeros(1, 3, {SIDE}, {SIDE}),), {{}})"
        return eval, (f"(exec({self.code!r}), {made})[1]",)


def exported(module: nn.Module, *examples: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(module, examples or (EXAMPLE,)), buffer)
    return buffer.getvalue()


def planted(path: Path, code: str) -> Path:
    """A working .pt2 whose example inputs are a pickle that runs ``code``."""
    pickled = io.BytesIO()
    torch.save(Planted(code), pickled)
    source = zipfile.ZipFile(io.BytesIO(exported(Repaints().eval())))
    with zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            inputs = name.endswith("sample_inputs/model.pt")
            target.writestr(name, pickled.getvalue() if inputs else source.read(name))
    return path


def trust(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def children() -> set[int]:
    """Processes of this one that run, or that nobody has waited for."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(number) for task in tasks for number in task.read_text().split()}


def test_planted_code_runs_in_the_child_alone_and_only_with_trust(tmp_path: Path) -> None:
    marker, before = tmp_path / "marker", children()
    code = f"import os; open({str(marker)!r}, 'w').write(str(os.getpid()))"
    path = planted(tmp_path / "planted.pt2", code)
    assert program_kind(path) == "pt2"
    for given in (None, "sha256:" + "0" * 64):
        with pytest.raises(CheckpointError, match=trust(path)):
            load_program(path, "pt2", given)
    assert not marker.exists()
    assert children() == before
    network = load_program(path, "pt2", trust(path))
    assert int(marker.read_text()) == network._child.pid
    assert network.run(PICTURE)["output"].shape == PICTURE.shape
    network.close()
    assert children() == before


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os._exit(7)", r"planted\.pt2 ended its own process \(load\), exit status 7"),
        ("raise ValueError('not today')", r"planted\.pt2: ValueError: not today"),
        (
            "import os, sys; sys.stderr.write('first\\nlast words\\n'); sys.stderr.flush(); os._exit(0)",
            r"ended its own process \(load\): last words",
        ),
        ("raise SystemExit(3)", r"planted\.pt2 ended its own process \(load\)"),
    ],
)
def test_a_program_that_ends_itself_is_one_line_and_leaves_nothing(
    tmp_path: Path, code: str, said: str
) -> None:
    before = children()
    path = planted(tmp_path / "planted.pt2", code)
    with pytest.raises(HostError, match=said) as caught:
        read_model([path], HostOptions(score="error", trust=trust(path)), None)
    assert "\n" not in str(caught.value)
    assert children() == before, "a process is left, alive or a zombie"


def test_what_a_program_prints_is_no_answer_and_not_seen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = planted(tmp_path / "planted.pt2", "import os; print('noise'); os.write(1, b'noise')")
    network = load_program(path, "pt2", trust(path))
    assert network.run(PICTURE)["output"].shape == PICTURE.shape
    network.close()
    assert capfd.readouterr() == ("", "")


def test_torchscript_writes_and_prints_in_the_child_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    marker, path, before = tmp_path / "marker", tmp_path / "writes.ts", children()
    torch.jit.script(Writes(marker)).save(str(path))  # type: ignore[no-untyped-call]
    assert program_kind(path) == "torchscript"
    with pytest.raises(CheckpointError, match=f"TorchScript program.*--trust {trust(path)}"):
        load_program(path, "torchscript", None)
    assert children() == before
    network = load_program(path, "torchscript", trust(path).upper().replace("SHA256", "sha256"))
    assert not marker.exists()
    network.run(PICTURE)
    assert marker.exists()
    network.close()
    assert capfd.readouterr() == ("", "")
    assert children() == before


def test_a_child_that_dies_meanwhile_is_said_once_and_again(tmp_path: Path) -> None:
    before = children()
    (tmp_path / "good.pt2").write_bytes(exported(Repaints().eval()))
    network = load_program(tmp_path / "good.pt2", "pt2", trust(tmp_path / "good.pt2"))
    os.kill(network._child.pid, signal.SIGKILL)
    with pytest.raises(HostError, match=r"ended its own process \(run\), exit status -9"):
        network.run(PICTURE)
    with pytest.raises(HostError, match=r"ended its own process before.*\(run\)"):
        network.run(PICTURE)
    with pytest.raises(HostError, match=r"ended its own process before.*\(graph\)"):
        network.graph((3, SIDE, SIDE), None)
    assert children() == before


def test_modules_beside_the_program_are_not_taken_for_python_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    (tmp_path / "good.pt2").write_bytes(exported(Repaints().eval()))
    monkeypatch.chdir(tmp_path)
    network = load_program(tmp_path / "good.pt2", "pt2", trust(tmp_path / "good.pt2"))
    assert network.run(PICTURE)["output"].shape == PICTURE.shape
    network.close()


# What the child refuses; the classes are called here, the programs are our own.


class Deep(nn.Module):
    """Takes a picture and makes a volume of it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.layer(x[:, :, None]))[:, :, 0]


class Sum(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


@pytest.mark.parametrize(
    "layer", [nn.Conv3d(3, 3, (1, 3, 3), padding=(0, 1, 1)), nn.ConvTranspose3d(3, 3, 1)], ids=str
)
def test_three_dimensions_are_refused_in_programs_too(layer: nn.Module) -> None:
    module = Deep(layer).eval()
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(module), script)
    for kind, data in ((_Exported, exported(module)), (_Scripted, script.getvalue())):
        with pytest.raises(
            HostError, match=r"the program holds three-dimensional convolutions.*no time axis"
        ):
            kind(data)


def test_two_inputs_and_clips_are_refused() -> None:
    with pytest.raises(HostError, match="takes 2 inputs, expected one picture"):
        _Exported(exported(Sum(), EXAMPLE, EXAMPLE))
    with pytest.raises(HostError, match=r"takes \('1', '3', '4', '16', '16'\), expected pictures"):
        _Exported(exported(nn.ReLU(), torch.zeros(1, 3, 4, 16, 16))).facts()


@pytest.mark.parametrize(
    ("layer", "training"),
    [
        (nn.BatchNorm2d(3), True),
        (nn.BatchNorm2d(3), False),
        (nn.Dropout(0.5), True),
        (nn.Dropout(0.5), False),
        (nn.InstanceNorm2d(3, track_running_stats=True), True),
        (nn.InstanceNorm2d(3, track_running_stats=True), False),
        (nn.InstanceNorm2d(3), False),
        (nn.BatchNorm2d(3, track_running_stats=False), False),
        (nn.GroupNorm(3, 3), False),
    ],
    ids=str,
)
def test_training_mode_is_told_from_layers_that_always_look_at_the_picture(
    layer: nn.Module, training: bool
) -> None:
    data = exported(nn.Sequential(nn.Conv2d(3, 3, 1), layer).train(training), torch.rand(1, 3, SIDE, SIDE))
    if training:
        with pytest.raises(HostError, match=r"training mode: call model\.eval"):
            _Exported(data)
    else:
        assert _Exported(data).run(EXAMPLE)["output"].shape == EXAMPLE.shape


def test_a_program_for_two_pictures_at_once_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.pt2"
    path.write_bytes(exported(Repaints().eval(), torch.zeros(2, 3, SIDE, SIDE)))
    with pytest.raises(HostError, match=r"two\.pt2 takes 2 pictures at once, expected 1 or a free batch"):
        read_model([path], HostOptions(score="error", trust=trust(path)), None)
