"""From files to host: which reader a file gets, whose options those are, and what the manifest says of it."""

from __future__ import annotations

import hashlib
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from onnx import TensorProto, helper, save_model
from torch import nn

from sspcab_edge.errors import CheckpointError, EdgeError, OptionError
from sspcab_export.checkpoints.kinds import program_kind
from sspcab_export.hosts import HostOptions
from sspcab_export.needs import MissingOptions
from sspcab_export.reading import read_model

SIDE = 8


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One convolution as weights, as TorchScript, as .pt2, and a graph of no weights."""
    folder = tmp_path_factory.mktemp("made")
    network = nn.Conv2d(3, 3, 1).eval()
    made = {
        name: folder / f"model.{ending}"
        for name, ending in (("weights", "pth"), ("script", "ts"), ("program", "pt2"), ("graph", "onnx"))
    }
    torch.save(network.state_dict(), made["weights"])
    torch.jit.save(torch.jit.script(network), made["script"])
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, SIDE, SIDE),)), made["program"])
    shape: list[str | int | None] = ["n", 3, SIDE, SIDE]
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    save_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), made["graph"]
    )
    return made


@pytest.fixture
def files(made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Copies of them, and the code that makes the network."""
    monkeypatch.setitem(sys.modules, "conv_of_test", type(sys)("conv_of_test"))
    monkeypatch.setattr(sys.modules["conv_of_test"], "make", lambda: nn.Conv2d(3, 3, 1), raising=False)
    return {name: Path(shutil.copy(path, tmp_path)) for name, path in made.items()}


def read(*paths: Path, name: str | None = None, **options: Any) -> Any:
    return read_model(list(paths), HostOptions(score="error", **options), name)


def test_what_a_file_is_is_told_by_its_content(files: dict[str, Path], tmp_path: Path) -> None:
    kinds = {name: program_kind(path) for name, path in files.items()}
    assert kinds == {"weights": None, "script": "torchscript", "program": "pt2", "graph": None}
    for name, kind in (("script", "torchscript"), ("program", "pt2")):
        disguised = tmp_path / f"{name}.pth"
        disguised.write_bytes(files[name].read_bytes())
        assert program_kind(disguised) == kind
        with pytest.raises(MissingOptions, match=f"--trust sha256:{sha256(disguised)}"):
            read(disguised, factory=None)


def test_an_onnx_file_is_known_by_its_own_digest(files: dict[str, Path]) -> None:
    host, model = read(files["graph"])
    assert (host.name, model.name, model.digest) == ("onnx", "model", sha256(files["graph"]))
    assert [(entry.path, entry.sha256) for entry in model.source] == [("model.onnx", model.digest)]
    assert read(files["graph"], name="wall")[1].name == "wall"


def test_weights_with_code_tell_what_was_given_and_assumed(files: dict[str, Path]) -> None:
    host, model = read(files["weights"], factory="conv_of_test:make", input_size=(SIDE, SIDE), mean=(0.5,))
    assert (host.name, model.name) == ("network", "model")
    assert model.overrides == {
        "factory": "conv_of_test:make", "input-size": "8x8", "mean": "0.5", "score": "error",
    }  # fmt: skip
    assert model.assumptions == ("frames are resized with opencv-linear: the network does not tell",)
    assert model.digest == hashlib.sha256(sha256(files["weights"]).encode()).hexdigest()


def test_without_code_weights_of_no_known_host_are_refused_with_the_way_out(files: dict[str, Path]) -> None:
    with pytest.raises(
        MissingOptions, match=r"of no known host .* weight, bias, .*--factory PACKAGE\.MODULE"
    ):
        read_model([files["weights"]], HostOptions(), None)


@pytest.mark.parametrize(
    ("names", "options", "error", "said"),
    [
        (("graph", "weights"), {}, OptionError, "2 files given, expected one ONNX file or program alone"),
        (("weights", "script"), {}, OptionError, "2 files given"),
        (("program", "program"), {}, OptionError, "2 files given"),
        (
            ("program",),
            {"factory": "conv_of_test:make"},
            OptionError,
            "--factory and --dialect are of no use",
        ),
        (("script",), {"dialect": "official"}, OptionError, "--factory and --dialect are of no use"),
        (("program",), {}, MissingOptions, "torch.export program, for images of 8x8. Still needed"),
        (("script",), {}, MissingOptions, "TorchScript program. Still needed: .* --input-size"),
        (("graph",), {"factory": "conv_of_test:make"}, OptionError, "--factory cannot be given for"),
        (("graph",), {"trust": "sha256:" + "0" * 64}, OptionError, "--trust cannot be given for"),
        (("graph",), {"dialect": "official"}, OptionError, "--dialect cannot be given for"),
        (("weights",), {"trust": "sha256:" + "0" * 64}, OptionError, "--trust is for programs"),
        (("weights",), {"factory": "conv_of_test:make"}, MissingOptions, "--input-size HEIGHTxWIDTH"),
    ],
)
def test_options_that_are_not_the_files(
    files: dict[str, Path],
    names: tuple[str, ...],
    options: dict[str, Any],
    error: type[EdgeError],
    said: str,
) -> None:
    with pytest.raises(error, match=said) as caught:
        read(*(files[name] for name in names), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "offset"), [("script", 0), ("program", 0), ("script", 46)])
def test_a_damaged_archive_is_one_line_with_and_without_trust(
    files: dict[str, Path], name: str, offset: int
) -> None:
    """Cut in the middle; with another magic number, or a name of no encoding, in its directory."""
    whole = files[name].read_bytes()
    with zipfile.ZipFile(files[name]) as archive:
        entry = archive.start_dir + offset
    files[name].write_bytes(whole[: len(whole) // 2])
    for trust in (None, f"sha256:{sha256(files[name])}"):
        with pytest.raises(EdgeError, match=r"truncated|--trust is for programs"):
            read(files[name], trust=trust)
    broken = bytearray(whole)
    broken[entry : entry + 4] = b"\xff\xff\xff\xff"
    files[name].write_bytes(bytes(broken))
    with pytest.raises(CheckpointError, match=rf"{files[name].name} is damaged: .*; copy it again") as caught:
        read(files[name])
    assert "\n" not in str(caught.value)


def test_an_archive_of_something_else_is_no_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "notes.pt2", "w") as archive:
        archive.writestr("notes.txt", "bricks")
    with pytest.raises(CheckpointError, match="no checkpoint written by"):
        read(tmp_path / "notes.pt2")
