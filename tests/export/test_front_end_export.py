"""Front-ends from an export's options to the verdicts of its bundle: tiles, zones, registration, levels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import pytest

from definitions.scenes import SIZE, edge_network
from sspcab_edge.errors import EdgeError, OptionError, RegistrationError
from sspcab_edge.manifest import Gate
from sspcab_edge.metrics import auroc
from sspcab_edge.preprocess import decode_picture
from sspcab_export import FrontEndOptions, HostOptions, export
from sspcab_export.levels import fit_levels
from sspcab_runtime import Detector
from sspcab_runtime.verify import verify

SIDE = 160
HOST = HostOptions(allow_no_block=True, score="map-max")
TILES = FrontEndOptions(tiles=True, overlap=12, margin=4)
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Large:
    """Pictures five times as wide as the network's input, some with a bright spot of 3 x 3 pixels."""

    model: Path
    calibration: Path
    test: Path


def surface(rng: np.random.Generator) -> Pixels:
    picture = np.full((SIDE, SIDE, 3), 120.0) + rng.normal(0, 3, (SIDE, SIDE, 3))
    cv2.rectangle(picture, (20, 30), (70, 100), (135, 135, 135), -1)
    cv2.circle(picture, (115, 110), 22, (105, 105, 105), -1)
    soft = cv2.GaussianBlur(picture, (0, 0), 3) + rng.normal(0, 2, picture.shape) + rng.uniform(-25, 25)
    return np.asarray(np.clip(soft, 0, 255), np.uint8)


def spoil(picture: Pixels, y: int, x: int) -> Pixels:
    spoiled = picture.copy()
    spoiled[y : y + 3, x : x + 3] = 200
    return spoiled


def write(path: Path, picture: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture[..., ::-1])


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Large:
    root = tmp_path_factory.mktemp("large")
    onnx.save(edge_network(), root / "model.onnx")
    rng = np.random.default_rng(4)
    for number in range(24):
        write(root / "calibration" / f"{number:02d}.png", surface(rng))
    for number in range(10):
        write(root / "test" / "good" / f"{number:02d}.png", surface(rng))
        y, x = rng.integers(5, SIDE - 8, 2)
        write(root / "test" / "spot" / f"{number:02d}.png", spoil(surface(rng), y, x))
    return Large(root / "model.onnx", root / "calibration", root / "test")


@pytest.fixture(scope="module")
def tiled(large: Large, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return export(
        large.model,
        targets=["onnx", "openvino"],
        precisions=["fp32", "int8"],
        calibration=large.calibration,
        validation=large.test,
        gates=["int8:rate=0.2"],
        host=HOST,
        front_end=TILES,
        output=tmp_path_factory.mktemp("tiled") / "bundle",
    ).bundle


def scores(bundle: Path, folder: Path, **options: Any) -> list[float]:
    with Detector.open(bundle, **options) as detector:
        return [float(detector(decode_picture(path).pixels).score or 0) for path in sorted(folder.iterdir())]


def test_a_spot_that_vanishes_in_the_whole_is_found_in_tiles(
    large: Large, tiled: Any, tmp_path: Path
) -> None:
    whole = export(
        large.model,
        calibration=large.calibration,
        validation=large.test,
        host=HOST,
        output=tmp_path / "whole",
    ).bundle
    ranks = {}
    for name, path in (("whole", whole.path), ("tiles", tiled.path)):
        good, bad = (scores(path, large.test / kind) for kind in ("good", "spot"))
        ranks[name] = auroc([*good, *bad], [False] * len(good) + [True] * len(bad))
    assert ranks["tiles"] == 1.0
    assert ranks["whole"] is not None
    assert ranks["whole"] < 0.9


def test_tiles_are_judged_as_whole_pictures_and_proved_as_tiles(large: Large, tiled: Any) -> None:
    manifest = tiled.manifest
    assert manifest.front_end.kind == "tiles"
    assert (manifest.front_end.frame.width, manifest.front_end.frame.height) == (SIDE, SIDE)
    assert manifest.score == "map-max"
    for artifact in manifest.artifacts:
        assert artifact.parity.passed
        assert artifact.parity.labelled > 20
        assert artifact.parity.auroc_source == 1.0
        assert artifact.parity.auroc_artifact is not None
        assert artifact.parity.auroc_artifact > 0.99
    inputs = cv2.imread(str(tiled.path / "parity" / "000.png"))
    assert inputs is not None
    assert inputs.shape == (SIZE, SIZE, 3)
    assert {check.status for check in verify(tiled)} == {"passed"}


def test_the_map_covers_the_frame_and_shows_the_spot(large: Large, tiled: Any) -> None:
    picture = spoil(surface(np.random.default_rng(9)), 40, 120)
    with Detector.open(tiled.path) as detector:
        verdict = detector(picture)
    assert verdict.anomalous
    assert verdict.map is not None
    y, x = np.unravel_index(int(verdict.map.argmax()), verdict.map.shape)
    scale = SIDE / verdict.map.shape[0]
    assert abs(y * scale - 41) < 5
    assert abs(x * scale - 121) < 5


def test_zones_leave_out_what_is_not_judged(large: Large, tmp_path: Path) -> None:
    """A quarter of the frame: a spot inside is seen as without zones, one outside is not."""
    corner = ((0, 0), (79, 0), (79, 79), (0, 79))
    bundle = export(
        large.model,
        calibration=large.calibration,
        host=HOST,
        front_end=replace(TILES, zones=(corner,)),
        output=tmp_path / "bundle",
    ).bundle
    clean = surface(np.random.default_rng(11))
    with Detector.open(bundle.path) as detector:
        inside, outside = detector(spoil(clean, 60, 8)), detector(spoil(clean, 120, 130))
        assert detector(clean).anomalous is False
    assert inside.anomalous is True
    assert outside.anomalous is False


def test_a_moved_frame_is_registered_and_a_foreign_one_is_a_fault(large: Large, tmp_path: Path) -> None:
    reference = sorted(large.calibration.iterdir())[0]
    bundle = export(
        large.model,
        calibration=large.calibration,
        host=HOST,
        front_end=FrontEndOptions(
            reference=reference, region=(40, 40, 64, 64), max_shift=16, tiles=True, overlap=8
        ),
        output=tmp_path / "bundle",
    ).bundle
    picture = spoil(surface(np.random.default_rng(12)), 60, 60)
    moved = np.asarray(cv2.warpAffine(picture, np.array([[1, 0, 9], [0, 1, -6]], np.float32), (SIDE, SIDE),
                                      borderMode=cv2.BORDER_REPLICATE), np.uint8)  # fmt: skip
    with Detector.open(bundle.path) as detector:
        still, shifted = detector(picture), detector(moved)
        assert still.score == pytest.approx(shifted.score, rel=0.2)
        assert shifted.anomalous
        with pytest.raises(RegistrationError):
            detector(np.zeros_like(picture))


def test_levels_bring_a_busy_tile_down(large: Large, tmp_path: Path) -> None:
    """One corner has a strong pattern in every normal picture: alone it hides everything else."""
    rng = np.random.default_rng(6)

    def busy(spot: bool) -> Pixels:
        picture = surface(rng)
        picture[:24, :24] = np.clip(120 + 110 * np.sign(rng.normal(size=(24, 24, 1))), 0, 255).astype(
            np.uint8
        )
        return spoil(picture, 100, 60) if spot else picture

    for number in range(24):
        write(tmp_path / "normal" / f"{number}.png", busy(False))
    found = {}
    for levels in (False, True):
        bundle = export(
            large.model,
            calibration=tmp_path / "normal",
            host=HOST,
            suspects="keep",
            front_end=replace(TILES, levels=levels),
            output=tmp_path / f"levels-{levels}",
        ).bundle
        with Detector.open(bundle.path) as detector:
            ranked = [float(detector(busy(spot)).score or 0) for spot in [False] * 10 + [True] * 10]
        found[levels] = auroc(ranked, [False] * 10 + [True] * 10) or 0.0
    assert found[True] == 1.0
    assert found[False] < 0.8


def test_levels_put_every_tiles_quartiles_where_those_of_all_are() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal([1.0, 5.0, 3.0], [0.1, 2.0, 0.5], (200, 3))
    levels = fit_levels(list(table), (0, 2, 5), 7)
    assert len(levels) == 7
    assert all(levels[n].identity for n in (1, 3, 4, 6))
    from sspcab_edge.decision import apply_score_map

    medians = [np.median(apply_score_map(levels[n], table[:, c])) for c, n in enumerate((0, 2, 5))]
    np.testing.assert_allclose(medians, np.median(table), rtol=1e-9)
    with pytest.raises(OptionError, match="--tile-levels"):
        fit_levels(list(table[:7]), (0, 2, 5), 7)


def test_a_front_end_without_pictures_is_not_judged_and_it_says_so(large: Large, tmp_path: Path) -> None:
    bundle = export(
        large.model,
        host=HOST,
        front_end=replace(TILES, frame_size=(SIDE, SIDE)),
        threshold=0.5,
        output=tmp_path / "bundle",
    ).bundle
    assert "front-end was not judged" in (bundle.path / "report.md").read_text()
    assert bundle.manifest.artifacts[0].parity.scene == "built-in"


@pytest.mark.parametrize(
    ("front_end", "said"),
    [
        ({"region": (100, 100, 80, 80)}, "region of 80x80 pixels at"),
        ({"region": (0, 0, 20, 20), "tiles": True}, "expected at most the region"),
        ({"tiles": True, "overlap": 40}, "overlap by 40"),
        ({"tiles": True, "overlap": 8, "margin": 5}, "margin of 5"),
        ({"zones": (((0, 0), (500, 0), (0, 50)),)}, "corner at"),
        ({"frame_size": (SIDE, SIDE), "tiles": True, "levels": True, "batch": 0}, "batches of 0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    large: Large, tmp_path: Path, front_end: dict[str, Any], said: str
) -> None:
    with pytest.raises(EdgeError, match=said):
        export(
            large.model,
            calibration=large.calibration,
            host=HOST,
            front_end=FrontEndOptions(**front_end),
            output=tmp_path / "bundle",
        )
    assert not (tmp_path / "bundle").exists()


def test_options_of_tiles_need_tiles() -> None:
    with pytest.raises(OptionError, match="give --tiles"):
        FrontEndOptions(overlap=4)


def test_the_gate_sees_what_a_front_end_does(large: Large, tiled: Any) -> None:
    """One that lost its overlap gives other maps: whole pictures are compared, not tiles."""
    from sspcab_export.hosts.onnx_graph import load_onnx
    from sspcab_export.pictures import labelled_samples
    from sspcab_export.verify import Judged, judge_artifact, judge_source
    from sspcab_runtime.frontends.table import open_front_end, open_unit

    host = load_onnx(large.model, HOST)
    manifest = tiled.manifest
    artifact = manifest.artifacts[0]
    samples = labelled_samples(large.test).samples[:4]
    right = open_front_end(manifest, artifact, None, tiled.path)
    judged: list[Judged] = judge_source(host.source, right, samples, lambda done: None)
    spec = manifest.front_end
    fewer = msgspec.structs.replace(spec.tiles, overlap=0, margin=0)
    other = msgspec.structs.replace(spec, tiles=fewer)
    wrong = open_front_end(msgspec.structs.replace(manifest, front_end=other), artifact, None, tiled.path)
    gate = Gate(score_tolerance=1e-4, map_tolerance=1e-3)
    with Detector.open(tiled.path, precision="fp32") as detector:
        unit = open_unit(manifest, artifact, None)
        passed = []
        for front_end in (right, wrong):
            detector.front_end = front_end
            parity = judge_artifact(detector, unit, judged, gate, "given", "test", lambda done: None)
            passed.append(parity.passed)
    assert passed == [True, False]
