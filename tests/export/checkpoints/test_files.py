"""Which files make one checkpoint, and what its bundle is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from sspcab_export.checkpoints import bundle_beside, checkpoint_files


@pytest.mark.parametrize(
    ("present", "given", "name"),
    [
        (["model.pt"], ["model.pt"], "model-bundle"),
        (["run.pckl", "run_seg.pckl"], ["run.pckl"], "run-bundle"),
        (["run.pckl", "run_seg.pckl"], ["run_seg.pckl"], "run-bundle"),
        (["run_.pckl", "run__seg.pckl"], ["run__seg.pckl", "run_.pckl"], "run-bundle"),
        (["bottle/model.ckpt"], ["bottle"], "bottle-bundle"),
        (["bottle/run.pckl", "bottle/run_seg.pckl"], ["bottle"], "bottle-bundle"),
        (["deep/er/best model.PTH"], ["deep/er/best model.PTH"], "best model-bundle"),
    ],
)
def test_a_bundle_is_called_after_what_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: list[str], given: list[str], name: str
) -> None:
    for path in present:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    monkeypatch.chdir(tmp_path)
    assert bundle_beside(given, checkpoint_files(given)) == Path(name)


def test_the_working_directory_as_checkpoint_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cable").mkdir()
    (tmp_path / "cable" / "model.ckpt").touch()
    monkeypatch.chdir(tmp_path / "cable")
    assert bundle_beside(["."], checkpoint_files(["."])) == Path("cable-bundle")
