"""Labelled videos: layouts read, labels and regions right, scores held and smoothed by definition."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat
from sklearn.metrics import roc_auc_score

from definitions.films import HEIGHT, WIDTH, walk, write_film
from definitions.tiny_objects import make_object_bundle
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import OptionError, PictureError
from sspcab_runtime import Detector
from sspcab_runtime.pipeline import Result
from sspcab_runtime.sources import open_source
from sspcab_runtime.video_datasets import read_videos, regions_of_masks
from sspcab_runtime.video_evaluation import PaperFilter, evaluate_videos, gaussian_smoothed, held


def masks(count: int = 12) -> np.ndarray:
    """A square that moves from frame 3 on, and another one from frame 7 to 9."""
    found = np.zeros((count, 40, 60), bool)
    for frame in range(3, count):
        found[frame, 5:15, 2 * frame : 2 * frame + 10] = True
    found[7:10, 25:30, 40:50] = True
    return found


def avenue(root: Path, *, matlab: bool) -> Path:
    (root / "testing_videos").mkdir(parents=True)
    labels = root / "ground_truth_demo" / "testing_label_mask"
    labels.mkdir(parents=True)
    (root / "testing_videos" / "01.avi").touch()
    if matlab:
        cells = np.empty((1, 12), object)
        for number, mask in enumerate(masks()):
            cells[0, number] = mask.astype(np.uint8)
        savemat(labels / "1_label.mat", {"volLabel": cells})
    else:
        np.save(labels / "01.npy", masks())
    return root


@pytest.mark.parametrize("matlab", [True, False])
def test_avenue_is_read_as_published_and_from_arrays(tmp_path: Path, matlab: bool) -> None:
    (video,) = read_videos(avenue(tmp_path, matlab=matlab), "avenue")
    assert video.name == "01"
    assert video.labels.tolist() == [False] * 3 + [True] * 9
    assert video.regions is not None
    assert sorted(set(video.regions.tracks.tolist())) == [1, 2]
    assert video.regions.frames[video.regions.tracks == 2].tolist() == [7, 8, 9]
    assert video.regions.boxes[video.regions.tracks == 2].tolist() == [[40, 25, 49, 29]] * 3


def test_shanghaitech_is_read_as_published(tmp_path: Path) -> None:
    for name in ("frames/01_0014", "test_frame_mask", "test_pixel_mask"):
        (tmp_path / "testing" / name).mkdir(parents=True)
    np.save(tmp_path / "testing/test_frame_mask/01_0014.npy", np.arange(12) > 2)
    (video,) = read_videos(tmp_path, "shanghaitech")
    assert video.labels.sum() == 9
    assert video.regions is None
    np.save(tmp_path / "testing/test_pixel_mask/01_0014.npy", masks())
    (video,) = read_videos(tmp_path, "shanghaitech")
    assert video.regions is not None
    assert len(video.regions.tracks) == 12


def test_tracks_come_from_files_where_they_are_given(tmp_path: Path) -> None:
    root = avenue(tmp_path / "data", matlab=False)
    (tmp_path / "01.txt").write_text("0,4,1,2,3,4\n0,5,1,2,3,4\n1,6,9,9,12,12\n")
    (video,) = read_videos(root, "avenue", tmp_path)
    assert video.regions is not None
    assert video.regions.tracks.tolist() == [0, 0, 1]
    assert video.regions.boxes[2].tolist() == [9, 9, 12, 12]
    (tmp_path / "01.txt").write_text("0,4,1,2,3\n")
    with pytest.raises(PictureError, match="5 columns, expected track, frame"):
        read_videos(root, "avenue", tmp_path)
    (tmp_path / "01.txt").write_text("")
    assert len(read_videos(root, "avenue", tmp_path)[0].regions.tracks) == 0  # type: ignore[union-attr]


def test_what_is_missing_or_damaged_is_said(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="testing_videos is no folder"):
        read_videos(tmp_path, "avenue")
    root = avenue(tmp_path / "data", matlab=False)
    label = root / "ground_truth_demo/testing_label_mask/01.npy"
    label.write_bytes(b"nonsense")
    with pytest.raises(PictureError, match="cannot be read as labels"):
        read_videos(root, "avenue")
    np.save(label, np.zeros((3, 4)))
    with pytest.raises(PictureError, match=r"shape \(3, 4\)"):
        read_videos(root, "avenue")
    label.unlink()
    with pytest.raises(PictureError, match=r"01.avi has no labels: expected 01.npy"):
        read_videos(root, "avenue")
    (root / "testing_videos/01.avi").unlink()
    with pytest.raises(PictureError, match="holds no test videos"):
        read_videos(root, "avenue")


def test_regions_that_touch_are_one_and_those_that_meet_again_are_another() -> None:
    found = np.zeros((4, 20, 20), bool)
    found[0, 2:6, 2:6] = found[1, 4:8, 4:8] = True
    found[3, 4:8, 4:8] = True
    regions = regions_of_masks(found)
    assert regions.tracks.tolist() == [1, 1, 2]
    assert regions.boxes[0].tolist() == [2, 2, 5, 5]


def test_missing_scores_are_held() -> None:
    nan = np.nan
    assert held(np.array([nan, nan, 1.0, nan, 3.0, nan])).tolist() == [1, 1, 1, 1, 3, 3]
    with pytest.raises(PictureError, match="gets no verdict"):
        held(np.array([nan, nan]))


@pytest.mark.parametrize("unit", [True, False])
def test_smoothing_is_the_definition(unit: bool) -> None:
    """A centred Gaussian, zeros around a video that begins at zero; then from 0 to 1 where asked for."""
    scores = np.random.default_rng(0).normal(size=50)
    lifted = scores - scores.min()
    want = np.zeros(50)
    weights = [np.exp(-0.5 * (offset / 3.0) ** 2) for offset in range(-4, 5)]
    for frame in range(50):
        for offset, weight in zip(range(-4, 5), weights, strict=True):
            if 0 <= frame + offset < 50:
                want[frame] += weight / sum(weights) * lifted[frame + offset]
    want = (want - want.min()) / np.ptp(want) if unit else want + scores.min()
    np.testing.assert_allclose(gaussian_smoothed(scores, PaperFilter(9, 3.0, unit)), want, atol=1e-12)
    if unit:
        assert gaussian_smoothed(np.ones(5), PaperFilter(3, 1.0, unit)).tolist() == [0.0] * 5


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Path]:
    """A bundle that scores brightness and speed, and two videos in which somebody fast comes along."""
    root = tmp_path_factory.mktemp("street")
    bundle = make_object_bundle(root / "bundle", height=HEIGHT, width=WIDTH, threshold=0.9)
    labels = root / "data" / "ground_truth_demo" / "testing_label_mask"
    labels.mkdir(parents=True)
    for number in range(2):
        film, masks = _film(number)
        write_film(root / "data" / "testing_videos" / f"{number:02d}.mp4", film)
        np.save(labels / f"{number:02d}.npy", masks)
    return bundle, root / "data"


def _film(seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Sixty frames; from the 20th to the 44th a square runs through the picture."""
    film = walk(60, walkers=0, seed=seed)
    patch = cv2.blur(np.random.default_rng(seed).integers(150, 256, (18, 18, 3), dtype=np.uint8), (3, 3))
    found = np.zeros((60, HEIGHT, WIDTH), bool)
    for number in range(20, 45):
        left, top = 2 + 4 * (number - 20), 40
        film[number][top : top + 18, left : left + 18] = patch
        found[number, top : top + 18, left : left + 18] = True
    return film, found


def test_videos_are_judged_as_the_device_judges_them(street: tuple[Bundle, Path]) -> None:
    """Areas against scikit-learn on the scores of a plain run; the boxes find what is labelled."""
    bundle, data = street
    videos = read_videos(data, "avenue")
    told: list[tuple[int, int]] = []
    with Detector.open(bundle.path) as detector:
        found = evaluate_videos(detector, videos, "avenue", lambda done, of: told.append((done, of)))
        series = []
        for video in videos:
            scores = np.full(60, np.nan)
            detector.front_end.reset()
            with closing(open_source(str(video.path))) as source:
                for result in detector.stream(source):
                    assert isinstance(result, Result)
                    if result.verdict.score is not None:
                        scores[result.frame.index] = result.verdict.score
            series.append(held(scores))
    labels = np.concatenate([video.labels for video in videos])
    every = np.concatenate(series)
    assert found.causal.micro == pytest.approx(roc_auc_score(labels, every), abs=1e-12)
    assert roc_auc_score(labels, every) > 0.9
    assert [area for _, area in found.by_video] == [
        pytest.approx(roc_auc_score(video.labels, scores), abs=1e-12)
        for video, scores in zip(videos, series, strict=True)
    ]
    assert (found.videos, found.frames, found.anomalous) == (2, 120, 50)
    assert found.silent == 2 * 2  # the first frame has nothing before it, the last nothing behind it
    assert found.regions is not None
    assert found.regions.rbdc > 0.8
    assert found.regions.tbdc > 0.98  # both tracks, after one false detection
    assert found.false_alarms == pytest.approx(float((every[~labels] > 0.9).mean()))
    assert told[-1] == (120, 120)


def test_the_command_reports_videos(street: tuple[Bundle, Path], tmp_path: Path) -> None:
    bundle, data = street
    command = [sys.executable, "-m", "sspcab_edge.cli", "evaluate", str(bundle.path), str(data)]
    done = subprocess.run(
        [*command, "--layout", "avenue", "--json", "-o", str(tmp_path / "report")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    assert plain["schema"] == 1
    assert plain["layout"] == "avenue"
    assert plain["causal"]["micro"] > 0.9
    assert plain["noncausal"]["filter"] == {"length": 37, "sigma": 11.0, "unit": False}
    assert plain["published"]["micro"] == 0.929
    assert json.loads((tmp_path / "report" / "report.json").read_text())["rbdc"] == plain["rbdc"]
    text = subprocess.run(
        [*command, "--layout", "avenue"], capture_output=True, text=True, check=False
    ).stdout
    assert "smoothed, non-causal" in text
    assert "published (other training)" in text


def test_labels_of_another_length_are_refused(street: tuple[Bundle, Path], tmp_path: Path) -> None:
    bundle, data = street
    for count in (58, 70):
        own = tmp_path / str(count)
        shutil.copytree(data, own)
        np.save(own / "ground_truth_demo/testing_label_mask/00.npy", np.zeros(count, bool))
        with (
            Detector.open(bundle.path) as detector,
            pytest.raises(OptionError, match=f"expected {count}: as many as labels"),
        ):
            evaluate_videos(detector, read_videos(own, "avenue"), "avenue")
