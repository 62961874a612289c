"""Bundles whose parity pack holds objects: measured on a named film, their objects counted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from definitions.films import HEIGHT, WIDTH, walk, write_film
from definitions.tiny_objects import make_object_bundle

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("street")
    bundle = make_object_bundle(root / "bundle", height=HEIGHT, width=WIDTH)
    return bundle.path, write_film(root / "film.mp4", walk(40))


def test_a_film_is_measured_and_its_objects_counted(
    bench: Command, street: tuple[Path, Path], tmp_path: Path
) -> None:
    bundle, film = street
    page, out = tmp_path / "page.html", tmp_path / "report.json"
    done = bench(bundle, "--source", film, "--seconds", "0.2", "--html", page, "--output", out)
    assert done.returncode == 0, done.stderr
    assert "objects in a frame:" in done.stdout
    (result,) = json.loads(out.read_text())["results"]
    assert result["objects"]["max"] >= 2
    assert 0 < result["objects"]["mean"] <= result["objects"]["max"]
    assert "look_ahead" in result["stages_ms"]
    assert result["parity"]["checked"] == result["parity"]["inputs"]
    assert "objects in a frame on average" in page.read_text()
    assert "replayed before" in page.read_text()


def test_without_a_film_there_is_nothing_to_measure(bench: Command, street: tuple[Path, Path]) -> None:
    bundle, film = street
    for verb in ((), ("sustained",), ("overlap",), ("density",), ("gate",)):
        done = bench(*verb, bundle)
        assert done.returncode == 1, (verb, done.stderr)
        assert "no camera frames: name a video or pictures of the scene with --source" in done.stderr
    done = bench("compare", bundle, bundle, "--source", film, "--pairs", "6", "--seconds", "0.05")
    assert done.returncode == 0, done.stderr


def test_reports_take_no_source(bench: Command, street: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    done = bench("compare", tmp_path / "a.json", tmp_path / "a.json", "--source", street[1])
    assert done.returncode == 1
    assert "--source is about bundles" in done.stderr
