#!/usr/bin/env python3
"""Train a small object-centric video detector with SSPCAB blocks, on a synthetic street with known anomalies.

A stationary camera looks at people who walk along a path. In the test videos something else happens for a
while: somebody runs (*speed*), a cart comes along (*object*), somebody walks across the lawn (*place*).
Everything is made from one seed; nothing is downloaded.

What it makes, under ``--out``, in the layout of the Avenue data set::

    training_videos/<n>.mp4                        normal life only: for training and calibration
    testing_videos/<n>.mp4                         with one kind of anomaly each
    ground_truth_demo/testing_label_mask/<n>.npy   bool (frames, height, width): where it is
    model/street.pt                                weights in the layout of the Background-Agnostic framework
    model/training.json                            the log

The method follows the published description of the Background-Agnostic framework (Georgescu et al., TPAMI
2021, arXiv:2008.12328) with the block of Ristea et al. (CVPR 2022, arXiv:2111.09099): auto-encoders of how an
object looks and moves learn normal objects, then classifiers learn to tell their errors from those on made-up
ones. The layout of weights is that of ``docs/checkpoints.md``. Objects are cut out by the front-end that the
device will use: a detector should be trained on what it is going to see.

Examples::

    python train_video.py --out street                    # all of it, some twenty minutes on two cores
    python train_video.py --out street --videos-only
    sspcab-export street/model/street.pt --target onnx --calibration street/training_videos --smoothing 5 \\
        -o street/bundle
    sspcab-edge evaluate street/bundle street --layout avenue
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from sspcab_export.filming import collect_objects

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# ----------------------------------------------------------------------------------------------------------
# The street
# ----------------------------------------------------------------------------------------------------------

WIDTH, HEIGHT, RATE = 320, 192, 25
PATH: Final = (78, 146)
"""First and last row of the path; the rest is lawn."""

KINDS: Final = ("speed", "object", "place")


@dataclass
class Figure:
    """Something that moves: where its feet are, how fast, and how it is drawn."""

    x: float
    y: float
    speed: float
    kind: str
    colours: tuple[tuple[int, int, int], tuple[int, int, int]]
    phase: float

    @property
    def box(self) -> tuple[int, int, int, int]:
        """left, top, right, bottom."""
        across, tall = (46, 30) if self.kind == "object" else (16, 40)
        return (
            round(self.x - across / 2), round(self.y - tall), round(self.x + across / 2), round(self.y)
        )  # fmt: skip


def background(rng: np.random.Generator) -> Pixels:
    """A lawn with a lighter path across it."""
    blotches = cv2.GaussianBlur(rng.normal(0, 60, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 2.2)
    picture = np.stack([62 + 0.8 * blotches, 84 + blotches, 46 + 0.6 * blotches], axis=2)
    fine = cv2.GaussianBlur(rng.normal(0, 8, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 1)
    rows = slice(*PATH)
    picture[rows] = 156 + fine[rows, :, None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def draw(picture: Pixels, figure: Figure, frame: int) -> None:
    """Put a figure into a picture."""
    left, top, right, bottom = figure.box
    upper, lower = figure.colours
    if figure.kind == "object":
        cv2.rectangle(picture, (left, top + 4), (right, bottom - 6), upper, cv2.FILLED)
        for x in range(left, right, 8):
            cv2.rectangle(picture, (x, top + 8), (min(x + 3, right), bottom - 10), lower, cv2.FILLED)
        for x in (left + 9, right - 9):
            cv2.circle(picture, (x, bottom - 5), 6, (20, 20, 20), cv2.FILLED)
        return
    middle = (left + right) // 2
    swing = 5 * np.sin(figure.phase + frame * 0.35 * max(1.0, abs(figure.speed) / 2))
    for side in (-1, 1):
        foot = (round(middle + side * swing), bottom)
        cv2.line(picture, (middle, bottom - 17), foot, lower, 4, cv2.LINE_AA)
    cv2.ellipse(picture, (middle, bottom - 24), (6, 10), 0, 0, 360, upper, cv2.FILLED, cv2.LINE_AA)
    cv2.circle(picture, (middle, top + 5), 5, (206, 168, 140), cv2.FILLED, cv2.LINE_AA)


def walker(rng: np.random.Generator) -> Figure:
    """Somebody who comes along the path."""
    towards = rng.choice((-1.0, 1.0))
    x = -12.0 if towards > 0 else WIDTH + 12.0
    y = float(rng.uniform(PATH[0] + 34, PATH[1] - 4))
    return Figure(x, y, towards * rng.uniform(1.1, 1.8), "walker", _clothes(rng), rng.uniform(0, 6))


def oddity(rng: np.random.Generator, kind: str) -> Figure:
    """Somebody who runs, a cart, or somebody on the lawn."""
    figure = walker(rng)
    figure.kind = kind
    if kind == "speed":
        figure.speed *= rng.uniform(2.8, 3.6)
    elif kind == "place":
        figure.y = float(rng.choice((rng.uniform(46, 66), rng.uniform(184, 190))))
    return figure


def _clothes(rng: np.random.Generator) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    parts = rng.integers(25, 120, (2, 3)) + rng.integers(-15, 60, (2, 1))
    (a, b, c), (d, e, f) = np.clip(parts, 10, 190).tolist()
    return (a, b, c), (d, e, f)


def street(seed: int, frames: int, kind: str | None) -> Iterator[tuple[Pixels, npt.NDArray[np.bool_]]]:
    """Frames (H, W, 3) RGB, and where an anomaly is in each, (H, W)."""
    scene = background(np.random.default_rng(1))
    rng = np.random.default_rng(seed)
    figures: list[Figure] = [walker(rng) for _ in range(3)]
    for figure in figures:
        figure.x = float(rng.uniform(20, WIDTH - 20))
    odd_from = set() if kind is None else {frames // 4, frames // 2, 3 * frames // 4}
    for frame in range(frames):
        if rng.random() < 0.025 and len(figures) < 6:
            figures.append(walker(rng))
        if kind is not None and frame in odd_from:
            figures.append(oddity(rng, kind))
        picture, labels = scene.copy(), np.zeros((HEIGHT, WIDTH), bool)
        for figure in sorted(figures, key=lambda one: one.y):
            draw(picture, figure, frame)
            if figure.kind != "walker" and 0 <= figure.x < WIDTH:  # half of it is to be seen
                left, top, right, bottom = (max(0, side) for side in figure.box)
                labels[top:bottom, left:right] = True
        for figure in figures:
            figure.x += figure.speed
        figures = [one for one in figures if -40 < one.x < WIDTH + 40]
        noisy = picture + rng.normal(0, 2.5, picture.shape)
        yield np.clip(np.rint(noisy), 0, 255).astype(np.uint8), labels


def write_videos(out: Path, training: int, testing: int, frames: int) -> None:
    """All videos, and the masks of those for testing."""
    masks = out / "ground_truth_demo" / "testing_label_mask"
    for folder in (out / "training_videos", out / "testing_videos", masks):
        folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, training + 1):
        write_video(out / "training_videos" / f"{number:02d}.mp4", street(100 + number, frames, None))
    for number in range(1, testing + 1):
        kind = KINDS[(number - 1) % len(KINDS)]
        labels = write_video(out / "testing_videos" / f"{number:02d}.mp4", street(500 + number, frames, kind))
        np.save(masks / f"{number:02d}.npy", labels)


def write_video(path: Path, frames: Iterator[tuple[Pixels, npt.NDArray[np.bool_]]]) -> npt.NDArray[np.bool_]:
    """Write H.264 in BT.601, and give the labels back."""
    labels = []
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": "20", "preset": "fast"}
        for pixels, label in frames:
            labels.append(label)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return np.stack(labels)


# ----------------------------------------------------------------------------------------------------------
# The networks
# ----------------------------------------------------------------------------------------------------------

FILTERS: Final = (16, 16, 8)
JUDGES: Final = 12
NORMAL_WEIGHT: Final = 4.0
"""How much more a normal object counts than a made-up one, which may happen to look normal: three streams are
averaged, and what one finds must stand out of the doubts of the others."""


class Block(nn.Module):
    """SSPCAB as its authors define it: a masked convolution predicts each pixel, channels are reweighted."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        for number in range(1, 5):
            self.add_module(f"conv{number}", nn.Conv2d(channels, channels, 1))
        self.se = nn.Module()
        self.se.fc1 = nn.Linear(channels, channels // reduction)
        self.se.fc2 = nn.Linear(channels // reduction, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), the same."""
        height, width = x.shape[2:]
        padded = functional.pad(x, (2, 2, 2, 2))
        total = torch.zeros_like(x)
        for number, (top, left) in enumerate(((0, 0), (4, 0), (0, 4), (4, 4)), 1):
            total = total + self.get_submodule(f"conv{number}")(
                padded[:, :, top : top + height, left : left + width]
            )
        total = functional.relu(total)
        hidden = functional.relu(self.get_submodule("se.fc1")(total.mean(dim=(2, 3))))
        return total * torch.sigmoid(self.get_submodule("se.fc2")(hidden))[:, :, None, None]


class Stream(nn.Module):
    """One auto-encoder and the classifier of its errors."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        a, b, c = FILTERS
        self.encoder = nn.ModuleList([conv(channels, a), conv(a, b), conv(b, c)])
        self.decoder = nn.ModuleList([conv(c, c), conv(c, a), Block(a), conv(a, channels)])
        judges = {
            str(n): conv(before, JUDGES) for n, before in enumerate((channels, JUDGES, JUDGES, JUDGES + c))
        }
        self.classifier = nn.ModuleDict({**judges, "head": nn.Linear(JUDGES, 1)})

    def rebuild(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, C, 64, 64) -> the same as the auto-encoder sees it, its code, and the loss of the block."""
        code = x
        for layer in self.encoder:
            code = functional.max_pool2d(functional.relu(layer(code)), 2)
        y, loss = code, torch.zeros(())
        for layer in list(self.decoder)[:3]:
            y = functional.interpolate(y, scale_factor=2, mode="nearest")
            if isinstance(layer, Block):
                predicted = layer(y)
                y, loss = predicted, functional.mse_loss(predicted, y)
            else:
                y = functional.relu(layer(y))
        return self.decoder[3](y), code, loss

    def judge(self, x: Tensor) -> Tensor:
        """How normal each is, as logits (N,)."""
        with torch.no_grad():
            rebuilt, code, _ = self.rebuild(x)
        error = (x - rebuilt).abs()
        for number in range(3):
            error = functional.max_pool2d(functional.relu(self.classifier[str(number)](error)), 2)
        last = functional.relu(self.classifier["3"](torch.cat([error, code], dim=1)))
        logits: Tensor = self.classifier["head"](last.mean(dim=(2, 3)))[:, 0]
        return logits


def conv(before: int, after: int) -> nn.Conv2d:
    """3x3, as large out as in."""
    return nn.Conv2d(before, after, 3, padding=1)


# ----------------------------------------------------------------------------------------------------------
# Training
# ----------------------------------------------------------------------------------------------------------


def inputs_of(entries: list[Any]) -> dict[str, Tensor]:
    """What the three streams see of objects as the front-end cuts them out."""
    colour = torch.from_numpy(np.stack([one["appearance"][0] for one in entries])).float() / 255
    luma = torch.tensor([0.299, 0.587, 0.114])
    flow = torch.from_numpy(np.stack([one["flow"] for one in entries])).permute(0, 1, 4, 2, 3)
    return {
        "appearance": (colour * luma).sum(dim=3)[:, None],
        "backward": flow[:, 0].contiguous(),
        "forward": flow[:, 1].contiguous(),
    }


def odd_looks(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Objects made up from normal ones (N, 1, 64, 64): other surroundings, texture or shape."""
    count = len(x)
    noise = torch.from_numpy(np.stack([_texture(rng) for _ in range(count)]))[:, None]
    shapes = torch.from_numpy(np.stack([_shape(rng) for _ in range(count)]))[:, None]
    rows = torch.linspace(-1, 1, 64)
    inside = ((rows[None, :].abs() < 0.38) & (rows[:, None].abs() < 0.92)).float()[None, None]
    around = x * inside + noise * (1 - inside)
    over = 0.35 * x + 0.65 * noise
    border = torch.cat([x[..., :4], x[..., -4:]], dim=3).mean(dim=(2, 3), keepdim=True)
    other = shapes * noise + (1 - shapes) * (border + 0.02 * torch.randn(x.shape))
    which = torch.from_numpy(rng.integers(0, 3, count))[:, None, None, None]
    return torch.where(which == 0, over, torch.where(which == 1, around, other))


def _shape(rng: np.random.Generator) -> Floats:
    """A polygon or an ellipse that fills much of (64, 64), its border soft."""
    mask = np.zeros((64, 64), np.float32)
    if rng.random() < 0.3:
        axes = (int(rng.integers(14, 32)), int(rng.integers(14, 32)))
        cv2.ellipse(mask, (32, 32), axes, float(rng.uniform(0, 180)), 0, 360, 1.0, cv2.FILLED)
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(4, 8))))
        radii = rng.uniform(20, 40, len(angles))
        corners = 32 + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
        cv2.fillPoly(mask, [corners.astype(np.int32)], 1.0)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.8), np.float32)


def _texture(rng: np.random.Generator) -> Floats:
    rough = rng.normal(0, 1, (64, 64)).astype(np.float32)
    smooth = cv2.GaussianBlur(rough, (0, 0), float(rng.uniform(0.8, 6)))
    smooth = smooth / (smooth.std() + 1e-6) * rng.uniform(0.02, 0.25) + rng.uniform(0.15, 0.85)
    return np.asarray(np.clip(smooth, 0, 1), np.float32)


def odd_moves(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Motion made up from normal ones (N, 2, 64, 64): faster, or turned by a right angle."""
    count = len(x)
    factor = torch.from_numpy(rng.uniform(2.0, 4.5, count)).float()[:, None, None, None]
    turned = torch.stack([-x[:, 1], x[:, 0]], dim=1) * 1.5
    which = torch.from_numpy(rng.integers(0, 4, count))[:, None, None, None]
    return torch.where(which == 0, turned + 0.5, x * factor)


def train(inputs: dict[str, Tensor], epochs: int, seed: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of all streams by name, and the log."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    weights: dict[str, Tensor] = {}
    log: dict[str, Any] = {"objects": len(inputs["appearance"]), "streams": {}}
    for name, x in inputs.items():
        stream = Stream(x.shape[1])
        make_up = odd_looks if name == "appearance" else odd_moves
        start = time.perf_counter()
        steps = Steps([*stream.encoder.parameters(), *stream.decoder.parameters()], 2e-3, epochs)
        losses = [fit_auto_encoder(stream, x, rng, steps) for _ in range(epochs)]
        steps = Steps(stream.classifier.parameters(), 3e-3, epochs)
        judged = [fit_classifier(stream, x, make_up(x, rng), rng, steps) for _ in range(epochs)]
        log["streams"][name] = {
            "seconds": round(time.perf_counter() - start, 1),
            "mse": [round(value, 5) for value in losses],
            "accuracy": [round(value, 4) for value in judged],
        }
        print(f"{name}: mse {losses[-1]:.5f}, accuracy on made-up objects {judged[-1]:.3f}", flush=True)
        weights |= {f"{name}.{key}": value for key, value in stream.state_dict().items()}
    return weights, log


class Steps:
    """Adam, its rate falling to nothing over all epochs."""

    def __init__(self, parameters: Iterable[nn.Parameter], rate: float, epochs: int) -> None:
        self._adam = torch.optim.Adam(parameters, rate)
        self._rate, self._epochs, self._epoch = rate, epochs, 0

    def take(self, loss: Tensor, share: float) -> None:
        """One step against the gradient of ``loss``; ``share`` of the epoch is done."""
        for group in self._adam.param_groups:
            group["lr"] = self._rate * (1 - (self._epoch + share) / self._epochs)
        self._adam.zero_grad()
        torch.autograd.backward(loss)
        self._adam.step()

    def next_epoch(self) -> None:
        """An epoch is done."""
        self._epoch += 1


def fit_auto_encoder(
    stream: Stream, x: Tensor, rng: np.random.Generator, steps: Steps, batch: int = 32
) -> float:
    """One epoch; the mean squared error."""
    total, done = 0.0, 0
    for chosen in batches(len(x), batch, rng):
        rebuilt, _, own = stream.rebuild(x[chosen])
        loss = functional.mse_loss(rebuilt, x[chosen])
        steps.take(loss + 0.1 * own, done / len(x))
        done += len(chosen)
        total += float(loss.detach()) * len(chosen)
    steps.next_epoch()
    return total / len(x)


def fit_classifier(
    stream: Stream, x: Tensor, odd: Tensor, rng: np.random.Generator, steps: Steps, batch: int = 32
) -> float:
    """One epoch on normal objects and as many made-up ones; the share that is told right."""
    both = torch.cat([x, odd])
    wanted = torch.cat([torch.ones(len(x)), torch.zeros(len(odd))])
    right = done = 0
    for chosen in batches(len(both), batch, rng):
        logits = stream.judge(both[chosen])
        trust = 1 + (NORMAL_WEIGHT - 1) * wanted[chosen]
        loss = functional.binary_cross_entropy_with_logits(logits, wanted[chosen], trust)
        steps.take(loss, done / len(both))
        done += len(chosen)
        right += int(((logits > 0) == (wanted[chosen] > 0.5)).sum())
    steps.next_epoch()
    return right / len(both)


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """Numbers below ``count`` in random order, some at a time."""
    order = torch.from_numpy(rng.permutation(count))
    yield from torch.split(order, size)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--training", type=int, default=8, help="videos of normal life (default 8)")
    parser.add_argument("--testing", type=int, default=6, help="videos with anomalies (default 6)")
    parser.add_argument("--frames", type=int, default=500, help="frames of a video (default 500)")
    parser.add_argument("--objects", type=int, default=2400, help="most objects to train on (default 2400)")
    parser.add_argument(
        "--epochs", type=int, default=14, help="of each auto-encoder and classifier (default 14)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--videos-only", action="store_true", help="make no model")
    options = parser.parse_args()
    write_videos(options.out, options.training, options.testing, options.frames)
    if options.videos_only:
        return
    entries = collect_objects(
        options.out / "training_videos",
        crop=(64, 64),
        window=(0,),
        pairs=((0, -1), (0, 1)),
        most=options.objects,
    )
    print(f"{len(entries)} objects from {options.training} videos", flush=True)
    weights, log = train(inputs_of(list(entries)), options.epochs, options.seed)
    folder = options.out / "model"
    folder.mkdir(exist_ok=True)
    torch.save(weights, folder / "street.pt")
    (folder / "training.json").write_text(json.dumps({**log, "seed": options.seed}, indent=2) + "\n")
    print(f"weights in {folder / 'street.pt'}")


if __name__ == "__main__":
    main()
