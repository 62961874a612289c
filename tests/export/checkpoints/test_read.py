"""Reading checkpoints: every layout, and every hostile or damaged file."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import types
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sspcab_edge.errors import CheckpointError
from sspcab_export.checkpoints import checkpoint_files, read_checkpoint
from sspcab_export.checkpoints.inert import Stub


def weights() -> dict[str, torch.Tensor]:
    return {"encoder.block1.0.weight": torch.randn(4, 3, 3, 3), "encoder.block1.0.bias": torch.zeros(4)}


def test_a_bare_state_dict_is_read_in_both_formats_of_torch(tmp_path: Path) -> None:
    state = weights()
    for name, zipped in (("new.pckl", True), ("old.pckl", False)):
        path = tmp_path / name
        torch.save(state, path, _use_new_zipfile_serialization=zipped)
        tensors = read_checkpoint([path]).tensors
        assert set(tensors) == set(state)
        assert torch.equal(tensors["encoder.block1.0.weight"], state["encoder.block1.0.weight"])


@pytest.mark.parametrize("name", ["w.safetensors", "W.SAFETENSORS"])
def test_safetensors_are_read(tmp_path: Path, name: str) -> None:
    state = weights()
    save_file(state, tmp_path / name)
    assert set(read_checkpoint([tmp_path / name]).tensors) == set(state)


def test_nested_dicts_become_dotted_keys_and_plain_values_facts(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(
        {"rec": weights(), "seg": {"x": torch.ones(1)}, "epoch": 3, "optimizer": {"s": torch.ones(9)}}, path
    )
    checkpoint = read_checkpoint([path])
    assert set(checkpoint.tensors) == {"rec.encoder.block1.0.weight", "rec.encoder.block1.0.bias", "seg.x"}
    assert checkpoint.facts["epoch"] == 3


def pair(folder: Path, stem: str = "run_") -> tuple[Path, Path]:
    paths = folder / f"{stem}.pckl", folder / f"{stem}_seg.pckl"
    for path in paths:
        torch.save({path.stem: torch.ones(1)}, path)
    return paths


def test_either_file_of_a_pair_both_or_their_folder_name_the_pair(tmp_path: Path) -> None:
    both = pair(tmp_path)
    for given in ([both[0]], [both[1]], list(both), [both[1], both[0]], [tmp_path]):
        assert set(checkpoint_files(given)) == set(both)


def test_a_pair_from_tools_that_write_capitals(tmp_path: Path) -> None:
    for name in ("RUN.PCKL", "RUN_SEG.PCKL"):
        torch.save({name: torch.ones(1)}, tmp_path / name)
    for given in ("RUN.PCKL", "RUN_SEG.PCKL", "."):
        found = checkpoint_files([tmp_path / given])
        assert [path.name for path in found] == ["RUN.PCKL", "RUN_SEG.PCKL"]


def test_a_folder_with_two_runs_is_ambiguous(tmp_path: Path) -> None:
    pair(tmp_path, "a_")
    pair(tmp_path, "b_")
    with pytest.raises(CheckpointError, match=r"2 checkpoints .a_\.pckl, b_\.pckl"):
        checkpoint_files([tmp_path])


@pytest.mark.parametrize("what", ["absent.pckl", "empty-folder"])
def test_what_is_not_there_is_said(tmp_path: Path, what: str) -> None:
    (tmp_path / "empty-folder").mkdir()
    with pytest.raises(CheckpointError, match=what):
        checkpoint_files([tmp_path / what])


def test_two_files_with_the_same_key_are_refused(tmp_path: Path) -> None:
    for name in ("a.pt", "b.pt"):
        torch.save(weights(), tmp_path / name)
    with pytest.raises(CheckpointError, match="both hold"):
        _ = read_checkpoint([tmp_path / "a.pt", tmp_path / "b.pt"]).tensors


class Payload:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("form", ["zip", "legacy", "plain-pickle"])
@pytest.mark.parametrize(
    ("function", "named"),
    [(os.system, "system"), (exec, "exec"), (subprocess.getoutput, "getoutput"), (open, "open")],
    ids=["system", "exec", "subprocess", "open"],
)
def test_a_file_that_would_run_code_is_refused_and_nothing_runs(
    tmp_path: Path, form: str, function: Any, named: str
) -> None:
    canary = tmp_path / "canary"
    argument = f"open({str(canary)!r}, 'w')" if function is exec else f"touch {canary}"
    payload = Payload(open, str(canary), "w") if function is open else Payload(function, argument)
    path = tmp_path / "evil.pckl"
    content = {**weights(), "payload": payload}
    if form == "plain-pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(CheckpointError, match=r"evil\.pckl") as caught:
        read_checkpoint([path])
    assert not canary.exists()
    assert "\n" not in str(caught.value)
    if form != "plain-pickle":
        assert named in str(caught.value)
        assert "refused" in str(caught.value)


def test_the_canary_would_have_been_created(tmp_path: Path) -> None:
    """The payload is real: an unrestricted load runs it."""
    canary = tmp_path / "canary"
    torch.save({"p": Payload(os.system, f"touch {canary}")}, tmp_path / "evil.pckl")
    torch.load(tmp_path / "evil.pckl", weights_only=False)
    assert canary.exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_truncated_files_are_one_clear_line(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "run.pckl"
    torch.save({"w": torch.randn(64, 64)}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(CheckpointError, match=r"run\.pckl") as caught:
        read_checkpoint([path])
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_are_one_clear_line(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "run.pckl"
    path.write_bytes(
        torch.randint(0, 256, (5000,), generator=torch.Generator().manual_seed(seed)).byte().numpy().tobytes()
    )
    with pytest.raises(CheckpointError, match=r"run\.pckl"):
        read_checkpoint([path])


def test_a_broken_safetensors_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError, match=r"w\.safetensors"):
        read_checkpoint([tmp_path / "w.safetensors"])


def test_an_archive_that_unpacks_to_more_than_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.pckl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\0" * 200_000)
    monkeypatch.setattr("sspcab_export.checkpoints.torch_files.MAX_BYTES", 100_000)
    with pytest.raises(CheckpointError, match="unpacks to 200000 bytes"):
        read_checkpoint([path])


def test_torchscript_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates TorchScript, which people have all the same
        torch.jit.save(torch.jit.script(torch.nn.Conv2d(1, 1, 1)), tmp_path / "script.pt")
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_checkpoint([tmp_path / "script.pt"])


def test_classes_that_are_absent_become_inert_stubs(tmp_path: Path) -> None:
    """As Lightning checkpoints hold them: the class existed when it was saved and does not any more."""
    module = types.ModuleType("absent_package")
    source = "class Transform:\n    def __init__(self): self.size = [256, 256]\n"
    source += "    def __setstate__(self, state): raise SystemError('behaviour was run')\n"
    exec(source, module.__dict__)  # noqa: S102
    module.Transform.__module__ = "absent_package"
    sys.modules["absent_package"] = module
    try:
        torch.save({"state_dict": weights(), "transform": module.Transform()}, tmp_path / "m.ckpt")
    finally:
        del sys.modules["absent_package"]
    stub = read_checkpoint([tmp_path / "m.ckpt"]).facts["transform"]
    assert isinstance(stub, Stub)
    assert stub.name == "Transform"
    assert stub.state == {"size": [256, 256]}


def test_no_weights_at_all_is_said(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="holds no weights"):
        read_checkpoint([tmp_path / "m.pt"])


def test_the_digest_covers_all_files(tmp_path: Path) -> None:
    first, second = pair(tmp_path)
    before = read_checkpoint([first, second]).digest
    torch.save({"run__seg": torch.zeros(1)}, second)
    assert read_checkpoint([first, second]).digest != before
