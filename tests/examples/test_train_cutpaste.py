"""The script that trains the CutPaste demo, and the checkpoint that it left: keys, figures, pasted pieces."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.nn import functional

from definitions.sspcab_torch import SumThenRelu
from sspcab_edge.datasets import list_images
from sspcab_edge.front_end_spec import Preprocess
from sspcab_edge.preprocess import decode_picture, prepare

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "train_cutpaste.py"
DEMO = EXAMPLES / "demo"
KINDS = ("chip", "crack", "hole", "object", "scratch", "stain")
QUICK = ("--steps", "40", "--batch", "6", "--crop", "64", "--train-pictures", "8", "--width", "8")

State = dict[str, torch.Tensor]
F64 = npt.NDArray[np.float64]


def train(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--out", str(out), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def norm_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    numbers = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{key}": (channels,) for key in numbers} | {f"{name}.num_batches_tracked": ()}


def promised_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Every key of the checkpoint and its shape: ResNet-18, block, head, classifier."""
    shapes: dict[str, tuple[int, ...]] = {"resnet18.conv1.weight": (width, 3, 7, 7)}
    shapes |= norm_shapes("resnet18.bn1", width)
    inputs = width
    for stage in range(1, 5):
        outputs = width * 2 ** (stage - 1)
        for block in range(2):
            name = f"resnet18.layer{stage}.{block}"
            shapes[f"{name}.conv1.weight"] = (outputs, inputs if block == 0 else outputs, 3, 3)
            shapes[f"{name}.conv2.weight"] = (outputs, outputs, 3, 3)
            shapes |= norm_shapes(f"{name}.bn1", outputs) | norm_shapes(f"{name}.bn2", outputs)
        if stage > 1:
            shapes[f"resnet18.layer{stage}.0.downsample.0.weight"] = (outputs, inputs, 1, 1)
            shapes |= norm_shapes(f"resnet18.layer{stage}.0.downsample.1", outputs)
        inputs = outputs
    channels = 4 * width
    for corner in range(1, 5):
        shapes[f"SSPCAB.conv{corner}.weight"] = (channels, channels, 1, 1)
        shapes[f"SSPCAB.conv{corner}.bias"] = (channels,)
    shapes |= {"SSPCAB.se.fc1.weight": (channels // 8, channels), "SSPCAB.se.fc1.bias": (channels // 8,)}
    shapes |= {"SSPCAB.se.fc2.weight": (channels, channels // 8), "SSPCAB.se.fc2.bias": (channels,)}
    for layer, outputs in ((0, 8 * width), (3, 128)):
        shapes |= {f"head.{layer}.weight": (outputs, 8 * width), f"head.{layer}.bias": (outputs,)}
        shapes |= norm_shapes(f"head.{layer + 1}", outputs)
    return shapes | {"out.weight": (3, 128), "out.bias": (3,)}


def shapes_of(state: State) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


# ----------------------------------------------------------------------------------------------------------
# A short training
# ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("skimage", reason="scikit-image holds the demo's photograph")
    out = tmp_path_factory.mktemp("trained")
    result = train(out, *QUICK, "--train-only", "--validation", "1", "--log-every", "1")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "making 8 training pictures"
    assert sum(line.startswith("step ") for line in lines) == 40
    assert lines[-1].startswith("validation auroc all ")
    return out / "cutpaste"


def test_the_checkpoint_has_the_promised_keys(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == {"model.safetensors", "training.json"}
    state = load_file(trained / "model.safetensors")
    assert shapes_of(state) == promised_shapes(8)
    assert all(bool(value.isfinite().all()) for value in state.values())
    assert int(state["resnet18.bn1.num_batches_tracked"]) == 40


def test_the_loss_falls_and_is_the_paper_s_sum(trained: Path) -> None:
    rows = json.loads((trained / "training.json").read_text())["losses"]
    assert [row["step"] for row in rows] == list(range(1, 41))
    for row in rows:
        assert row["loss"] == pytest.approx(row["entropy"] + 0.1 * row["block"], abs=2e-5)
    for name in ("loss", "entropy"):
        values = [row[name] for row in rows]
        assert all(map(math.isfinite, values))
        assert np.mean(values[-10:]) < np.mean(values[:10]) - 0.02


def test_the_validation_names_every_kind(trained: Path) -> None:
    (row,) = json.loads((trained / "training.json").read_text())["validation_auroc"]
    assert set(row) == {"step", "all", *KINDS}
    assert row["step"] == 40
    assert all(0.0 <= row[kind] <= 1.0 for kind in ("all", *KINDS))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--steps", "19"), "--steps is 19, expected 20 or more"),
        (("--crop", "257"), "--crop is 257, expected 256 or less"),
        (("--jitter", "nan"), "--jitter is nan, expected 0 or more"),
        (("--evaluate-only",), "model.safetensors is missing: train first"),
        ((), "holds no pictures: make them with train_demo.py --prepare-only, or give --train-only"),
    ],
)
def test_what_cannot_work_is_told_before_training(
    script: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        script.main(["--out", str(tmp_path), *options])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# ----------------------------------------------------------------------------------------------------------
# Pasted pieces
# ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    """The script as a module, with its neighbours in reach, as Python finds them when it is run."""
    pytest.importorskip("skimage", reason="scikit-image holds the demo's photograph")
    pytest.importorskip("sklearn", reason="scikit-learn fits the density")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield importlib.import_module("train_cutpaste")


def numbered(side: int) -> npt.NDArray[np.uint8]:
    """A picture in which no colour occurs twice."""
    row, column = np.mgrid[0:side, 0:side]
    return np.asarray(np.stack([row, column, (row // 2 + column // 2) % 256], axis=2), np.uint8)


def box(changed: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


HYPOTHESIS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@HYPOTHESIS
@given(seed=st.integers(0, 2**32 - 1), side=st.integers(64, 256))
def test_cut_paste_moves_one_rectangle_of_the_picture(script: Any, seed: int, side: int) -> None:
    picture = numbered(side)
    kept = picture.copy()
    done = script.cut_paste(picture, 0.0, np.random.default_rng(seed))
    assert np.array_equal(picture, kept)
    assert (done.shape, done.dtype) == (picture.shape, np.uint8)
    changed = (done != picture).any(axis=2)
    if not changed.any():
        return  # pasted where it was cut
    where = box(changed)
    piece = done[where].astype(int)
    height, width = piece.shape[:2]
    assert 0.5 * 0.02 < height * width / side**2 < 1.1 * 0.15
    assert max(height / width, width / height) < 3.8
    # what is inside is a piece of the picture: one place, of which it shows every pixel in turn, give or take
    # the rounding on the way through HSV
    top, left = piece[0, 0, 0], piece[0, 0, 1]
    source = picture[top : top + height, left : left + width].astype(int)
    assert source.shape == piece.shape
    assert np.abs(source - piece).max() <= 1


@HYPOTHESIS
@given(seed=st.integers(0, 2**32 - 1), side=st.integers(64, 256), strength=st.floats(0.0, 1.0))
def test_a_scar_is_small_and_inside(script: Any, seed: int, side: int, strength: float) -> None:
    picture = numbered(side)
    kept = picture.copy()
    done = script.cut_paste_scar(picture, strength, np.random.default_rng(seed))
    assert np.array_equal(picture, kept)
    assert (done.shape, done.dtype) == (picture.shape, np.uint8)
    changed = (done != picture).any(axis=2)
    rows, columns = box(changed)
    reach = math.hypot(16, 25) + 3
    assert rows.stop - rows.start <= reach
    assert columns.stop - columns.start <= reach
    assert 8 <= changed.sum() <= 20 * 29


def test_a_scar_shows_the_colours_of_its_piece(script: Any) -> None:
    picture = np.full((96, 96, 3), (200, 90, 40), np.uint8)
    picture[:, ::2] = (60, 120, 180)  # stripes: only mixtures of these two can come out
    for seed in range(40):
        done = script.cut_paste_scar(picture, 0.0, np.random.default_rng(seed)).astype(int)
        along = (done - (200, 90, 40)) @ (-140, 30, 140) / float(140**2 + 30**2 + 140**2)
        mixed = np.array([200, 90, 40]) + along[..., None] * np.array([-140, 30, 140])
        assert np.abs(done - mixed).max() <= 2
        assert along.min() > -0.02
        assert along.max() < 1.02


@HYPOTHESIS
@given(seed=st.integers(0, 2**32 - 1))
def test_jitter_changes_brightness_by_no_more_than_asked(script: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grey = np.full((5, 7, 3), 120, np.uint8)  # contrast, saturation and hue of an even grey cannot change
    done = script.jitter(grey, 0.2, rng)
    assert len(np.unique(done)) == 1
    assert 120 * 0.8 - 1 <= done[0, 0, 0] <= 120 * 1.2 + 1
    colourful = rng.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    assert np.abs(script.jitter(colourful, 0.0, rng).astype(int) - colourful).max() <= 1


def test_squares_come_in_three_ways(script: Any) -> None:
    pictures = [numbered(256), numbered(256)[::-1].copy()]
    made, classes = script.three_ways(pictures, 4, 64, 0.3, np.random.default_rng(5))
    assert (made.shape, made.dtype) == ((12, 3, 64, 64), torch.uint8)
    assert classes.tolist() == [0, 1, 2] * 4
    for clean, pasted, scarred in made.reshape(4, 3, 3, 64, 64).int():
        assert all((abs(step) == 1).all() for step in (clean[0, 1:] - clean[0, :-1],))  # an unspoiled cut
        few, some = [int((other != clean).any(dim=0).sum()) for other in (scarred, pasted)]
        assert few > 0
        assert some > 0


# ----------------------------------------------------------------------------------------------------------
# The committed checkpoint, by definitions that share nothing with the script
# ----------------------------------------------------------------------------------------------------------


def norm(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    return functional.batch_norm(x, mean, variance, state[f"{name}.weight"], state[f"{name}.bias"])


def embed(state: State, x: torch.Tensor) -> torch.Tensor:
    """ResNet-18 of He et al. with the block after its third stage: (N, 3, H, W) -> (N, C) of length 1."""
    block = SumThenRelu(state["SSPCAB.conv1.weight"].shape[0])
    block.load_state_dict({k.removeprefix("SSPCAB."): v for k, v in state.items() if k.startswith("SSPCAB.")})
    x = functional.conv2d(x, state["resnet18.conv1.weight"], stride=2, padding=3)
    x = functional.max_pool2d(norm(state, "resnet18.bn1", x).relu(), 3, stride=2, padding=1)
    for stage in range(1, 5):
        for number in range(2):
            name = f"resnet18.layer{stage}.{number}"
            stride = 2 if stage > 1 and number == 0 else 1
            around = x
            if stride == 2:
                around = functional.conv2d(x, state[f"{name}.downsample.0.weight"], stride=2)
                around = norm(state, f"{name}.downsample.1", around)
            x = functional.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)
            x = norm(state, f"{name}.bn1", x).relu()
            x = norm(state, f"{name}.bn2", functional.conv2d(x, state[f"{name}.conv2.weight"], padding=1))
            x = (x + around).relu()
        if stage == 3:
            x = block(x)
    pooled = x.mean(dim=(2, 3))
    embedded: torch.Tensor = pooled / pooled.norm(dim=1, keepdim=True)
    return embedded


def test_the_committed_checkpoint_is_small_and_as_promised() -> None:
    file = DEMO / "cutpaste" / "model.safetensors"
    assert file.stat().st_size < 3_200_000
    state = load_file(file)
    assert shapes_of(state) == promised_shapes(16)
    kinds = {value.dtype for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert kinds == {torch.float32}
    steps = json.loads((DEMO / "cutpaste" / "training.json").read_text())["steps"]
    assert int(state["resnet18.bn1.num_batches_tracked"]) == steps


@pytest.mark.slow
@torch.no_grad()
def test_the_committed_checkpoint_scores_what_its_log_says() -> None:
    covariance = pytest.importorskip("sklearn.covariance", reason="scikit-learn fits the density")
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn counts the pairs")
    state = load_file(DEMO / "cutpaste" / "model.safetensors")
    spec = Preprocess(width=256, height=256, resize="antialias-linear")

    def embedded(folder: Path) -> F64:
        rows = []
        for path in list_images(folder).paths:
            pixels = torch.from_numpy(prepare(decode_picture(path).pixels, spec)).permute(2, 0, 1)[None]
            scaled = pixels.float() / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]
            rows.append(embed(state, scaled / torch.tensor([0.229, 0.224, 0.225])[:, None, None]))
        return torch.cat(rows).double().numpy()

    density = covariance.LedoitWolf().fit(embedded(DEMO / "calibration"))
    good = density.mahalanobis(embedded(DEMO / "test" / "good"))
    bad = [density.mahalanobis(embedded(DEMO / "test" / kind)) for kind in KINDS]
    labels = [0] * len(good) + [1] * sum(map(len, bad))
    auroc = metrics.roc_auc_score(labels, np.concatenate([good, *bad]))
    logged = json.loads((DEMO / "cutpaste" / "training.json").read_text())["evaluation"]
    assert auroc == pytest.approx(logged["image_auroc"], abs=0.005)
    assert auroc >= 0.9
