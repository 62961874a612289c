"""Whole pickled modules of no known host: what is said of them, their code from a factory, or vouched for."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sspcab_edge.errors import CheckpointError, HostError, OptionError
from sspcab_export.hosts import HostOptions
from sspcab_export.reading import read_model

SIDE = 16
CODE = """
import os
import torch
from torch import nn

class Repaints(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.layer(x)

    def __setstate__(self, state):
        with open("unpickled", "w") as file:
            file.write(str(os.getpid()))
        super().__setstate__(state)

def make():
    return Repaints()
"""
SAVES = """
import torch
from code_of_trainer import Repaints
from torch import nn
torch.manual_seed(0)
network = Repaints().half().train()
torch.save(network, "whole.pt")
torch.save(torch.compile(network), "compiled.pt")
torch.save(network, "old.pt", _use_new_zipfile_serialization=False)
torch.save({"model": nn.DataParallel(network), "ema": None, "optimizer": {}}, "dict.pt")
torch.save({"model": network, "ema": Repaints()}, "two.pt")
torch.save(network.float().state_dict(), "weights.pt")
class Own(nn.Linear): pass
torch.save(Own(3, 3), "script.pt")
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with code and files that another process saved: this one has never seen their classes."""
    folder = tmp_path_factory.mktemp("trainer")
    (folder / "code_of_trainer.py").write_text(CODE)
    subprocess.run([sys.executable, "-W", "ignore", "-c", SAVES], cwd=folder, check=True)
    return folder


@pytest.fixture(autouse=True)
def folder(saved: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(saved)
    (saved / "unpickled").unlink(missing_ok=True)
    return saved


def read(name: str, **options: Any) -> Any:
    return read_model([Path(name)], HostOptions(score="error", input_size=(SIDE, SIDE), **options), None)


def trust(name: str) -> str:
    return f"sha256:{hashlib.sha256(Path(name).read_bytes()).hexdigest()}"


def scores(host: Any) -> Any:
    frames = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3)).astype(np.uint8)
    return host.source.infer({"frames": frames})[0]


@pytest.mark.parametrize("name", ["whole.pt", "old.pt", "dict.pt"])
def test_one_message_says_what_it_is_and_both_ways_on(name: str) -> None:
    with pytest.raises(
        OptionError, match=r"a whole pickled module, code_of_trainer\.Repaints, of 2"
    ) as caught:
        read(name)
    said = str(caught.value)
    assert "--factory PACKAGE.MODULE:FUNCTION" in said
    assert f"--trust {trust(name)}" in said
    assert "\n" not in said
    assert "code_of_trainer" not in sys.modules
    assert not Path("unpickled").exists()


def test_a_class_of_the_script_that_saved_it_cannot_be_vouched_for() -> None:
    with pytest.raises(OptionError, match=r"__main__\.Own.*--factory") as caught:
        read("script.pt")
    assert "--trust" not in str(caught.value)
    with pytest.raises(HostError, match=r"its code cannot be imported.*give --factory"):
        read("script.pt", trust=trust("script.pt"))


@pytest.mark.parametrize("name", ["whole.pt", "old.pt", "dict.pt", "compiled.pt"])
def test_its_code_from_a_factory(name: str) -> None:
    expected = scores(read("weights.pt", factory="code_of_trainer:make")[0])
    by_factory, model = read(name, factory="code_of_trainer:make")
    assert scores(by_factory) == pytest.approx(expected)
    assert not Path("unpickled").exists()
    assert any("stored as float16" in said for said in model.assumptions)


def test_a_module_that_was_vouched_for_runs_in_a_process_of_its_own() -> None:
    host, model = read("dict.pt", trust=trust("dict.pt"))
    assert int(Path("unpickled").read_text()) == host.source.network._child.pid
    assert scores(host) == pytest.approx(scores(read("weights.pt", factory="code_of_trainer:make")[0]))
    assert model.overrides["trust"] == trust("dict.pt")
    assert [output.name for output in host.source.graph().graph.outputs] == ["score", "map"]
    host.source.network.close()


def test_trust_is_for_the_very_bytes() -> None:
    with pytest.raises(CheckpointError, match="not the file you vouched for"):
        read("whole.pt", trust=trust("dict.pt"))
    assert not Path("unpickled").exists()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("weights.pt", {}, "--trust is for programs and whole modules"),
        ("whole.pt", {"factory": "code_of_trainer:make"}, "--trust is for programs and whole modules"),
        ("whole.pt", {"dialect": "official"}, "--dialect is of no use"),
        ("whole.pt", {"weights_key": ("ema",)}, r"--weights-key is ema, but .* lie at \."),
    ],
)  # fmt: skip
def test_what_trust_cannot_do(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        read(name, trust=trust(name), **options)


def test_of_two_modules_one_is_asked_for() -> None:
    with pytest.raises(HostError, match=r"2 whole modules, at model, ema: .*--weights-key model"):
        read("two.pt", trust=trust("two.pt"))
    host, _ = read("two.pt", trust=trust("two.pt"), weights_key=("model",))
    assert scores(host) == pytest.approx(scores(read("weights.pt", factory="code_of_trainer:make")[0]))
    host.source.network.close()
