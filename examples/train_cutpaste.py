#!/usr/bin/env python3
"""Train the second demo detector: a small CutPaste with an SSPCAB block, on the demo's brick wall.

Like ``train_demo.py`` this file stands for *your* training code and knows nothing of sspcab-edge. It ends
with what training leaves behind, the bare weights. The density that turns embeddings into scores is no part
of them: it is fitted to normal pictures afterwards, here to judge the training, by the exporter for a bundle.

What it makes, under ``--out``::

    cutpaste/model.safetensors             the trained network
    cutpaste/training.json                 the log of the training, with the figures on test/

What it reads there, to judge the training: ``calibration/`` (normal pictures, for the density) and ``test/``;
``train_demo.py --prepare-only`` makes both. Training itself draws its pictures from the training part of the
wall and sees none of them.

Examples::

    python train_cutpaste.py --out demo                      # train, then score demo/test
    python train_cutpaste.py --out demo --train-only         # demo/test stays unseen
    python train_cutpaste.py --out demo --evaluate-only      # figures of the checkpoint that is there

Needs torch, numpy, OpenCV, safetensors, scikit-learn and scikit-image, which holds the photograph; nothing is
downloaded.

The method is CutPaste in its three-way form (Li, Sohn, Yoon, Pfister, CVPR 2021, arXiv:2104.04015): a network
learns to tell a normal picture from one with a piece of it pasted elsewhere and from one with a thin turned
strip pasted, and a Gaussian is fitted to its embeddings of normal pictures. The block of Ristea et al. (CVPR
2022, arXiv:2111.09099) stands between the third and the fourth stage of the ResNet-18 (He et al., CVPR 2016,
arXiv:1512.03385). The parameter names are those of public CutPaste code, so that the checkpoint looks like
one; the code here is written from the publications.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from safetensors.torch import load_file, save
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn
from train_demo import BLOCK_LOSS_WEIGHT, SSPCAB, auroc, load_folder, on_cpu, say, write_log

from demo_scene import (
    CALIBRATION,
    DEFECTS,
    F32,
    TEST,
    TRAIN,
    U8,
    assert_disjoint,
    encode_jpeg,
    expose,
    load_wall,
    rough,
    stream,
    view,
)

# ----------------------------------------------------------------------------------------------------------
# The network
# ----------------------------------------------------------------------------------------------------------

#: Channels after the first convolution. The ResNet-18 of the paper has 64; this one is a quarter as wide.
WIDTH: Final = 16

#: Numbers that the projection head ends with.
PROJECTION: Final = 128

#: Side of what the network sees, in pixels.
INPUT: Final = 256

#: Normal, CutPaste, CutPaste-scar.
CLASSES: Final = 3

MEAN: Final = (0.485, 0.456, 0.406)
DEVIATION: Final = (0.229, 0.224, 0.225)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            shrink = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shrink, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H/stride, W/stride]."""
        around = x if self.downsample is None else self.downsample(x)
        hidden = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(hidden)) + around)


def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Two basic blocks, the first of which may shrink."""
    return nn.Sequential(BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1))


class ResNet18(nn.Module):
    """ResNet-18 without its classifier; its parts are called from :class:`CutPasteNetwork`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = stage(width, width, 1)
        self.layer2 = stage(width, 2 * width, 2)
        self.layer3 = stage(2 * width, 4 * width, 2)
        self.layer4 = stage(4 * width, 8 * width, 2)

    def until_block(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] -> what the third stage gives, [N, 4*width, H/16, W/16]."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        out: Tensor = self.layer3(self.layer2(self.layer1(x)))
        return out


class CutPasteNetwork(nn.Module):
    """ResNet-18 with the block between its third and fourth stage, a projection head and a classifier.

    Args:
        width: Channels after the first convolution; embeddings have 8 * width numbers.
        head_layers: Layers of the projection head that are as wide as the embedding, before a last one of
            128; each is Linear, batch norm, ReLU.
    """

    def __init__(self, width: int = WIDTH, head_layers: int = 1) -> None:
        super().__init__()
        channels = 8 * width
        self.resnet18 = ResNet18(width)
        self.SSPCAB = SSPCAB(4 * width)
        sizes = [channels] * (head_layers + 1) + [PROJECTION]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
        self.head = nn.Sequential(*layers)
        self.out = nn.Linear(PROJECTION, CLASSES)

    def embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] normalised RGB -> embeddings [N, 8*width], and the block's own loss (a scalar)."""
        before = self.resnet18.until_block(x)
        after = self.SSPCAB(before)
        last = self.resnet18.layer4(after)
        return last.mean(dim=(2, 3)), functional.mse_loss(after, before)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] normalised RGB -> logits [N, 3], and the block's own loss (a scalar)."""
        embedding, block = self.embed(x)
        return self.out(self.head(embedding)), block


def normalise(pictures: Tensor) -> Tensor:
    """[N, 3, H, W] uint8 RGB -> float32, by the mean and the deviation of ImageNet.

    Not in channels-last memory, though a CPU is faster with it: on a CPU with AVX-512 the backward pass of
    torch 2.13 then crashes at widths below 12 and pictures of 256x256.
    """
    mean = torch.tensor(MEAN)[:, None, None]
    deviation = torch.tensor(DEVIATION)[:, None, None]
    return ((pictures.float() / 255.0 - mean) / deviation).contiguous()


def network_input(picture: U8) -> U8:
    """[H, W, 3] uint8 BGR of any size -> [256, 256, 3] uint8 RGB, by an antialiased linear filter."""
    rgb = torch.from_numpy(np.ascontiguousarray(picture[..., ::-1])).permute(2, 0, 1)[None].float()
    small = functional.interpolate(rgb, (INPUT, INPUT), mode="bilinear", antialias=True)
    return small.round().clamp(0.0, 255.0).byte()[0].permute(1, 2, 0).contiguous().numpy()


# ----------------------------------------------------------------------------------------------------------
# Artificial defects
# ----------------------------------------------------------------------------------------------------------

#: Area of a CutPaste patch as a share of the picture, and the longest its sides may be to each other.
PATCH_AREA: Final = (0.02, 0.15)
PATCH_ASPECT: Final = 3.3

#: Width and length of a scar, in pixels of the network's input, and how far it is turned, in degrees.
SCAR_WIDTH: Final = (2, 16)
SCAR_LENGTH: Final = (10, 25)
SCAR_ANGLE: Final = 45.0


def jitter(piece: U8, strength: float, rng: np.random.Generator) -> U8:
    """Change brightness, contrast, saturation and hue of a piece, each by up to ``strength``.

    Args:
        piece: [h, w, 3] uint8 RGB.
        strength: 0.1 in the paper; factors are 1 - strength to 1 + strength, hue turns by that share of a
            full circle.
        rng: Random numbers.

    Returns:
        [h, w, 3] uint8 RGB.
    """
    brightness, contrast, saturation = rng.uniform(1.0 - strength, 1.0 + strength, 3)
    colour = np.clip(piece.astype(np.float32) / 255.0 * brightness, 0.0, 1.0)
    colour = np.clip(colour.mean() + contrast * (colour - colour.mean()), 0.0, 1.0)
    hsv = cv2.cvtColor(np.asarray(colour, np.float32), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = np.mod(hsv[..., 0] + 360.0 * rng.uniform(-strength, strength), 360.0)
    hsv[..., 1] = np.clip(hsv[..., 1] * saturation, 0.0, 1.0)
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return np.asarray(np.clip(np.rint(rgb * 255.0), 0, 255), np.uint8)


def cut(picture: U8, height: int, width: int, rng: np.random.Generator) -> U8:
    """Cut a piece out at a random place: [height, width, 3] uint8, a copy."""
    top = int(rng.integers(0, picture.shape[0] - height + 1))
    left = int(rng.integers(0, picture.shape[1] - width + 1))
    return picture[top : top + height, left : left + width].copy()


def cut_paste(picture: U8, strength: float, rng: np.random.Generator) -> U8:
    """Paste a jittered piece of the picture at another place: [S, S, 3] uint8 RGB -> the same."""
    side = picture.shape[0]
    area = rng.uniform(*PATCH_AREA) * side * side
    aspect = math.exp(rng.uniform(-math.log(PATCH_ASPECT), math.log(PATCH_ASPECT)))
    height = min(side, max(1, round(math.sqrt(area * aspect))))
    width = min(side, max(1, round(math.sqrt(area / aspect))))
    piece = jitter(cut(picture, height, width, rng), strength, rng)
    top = int(rng.integers(0, side - height + 1))
    left = int(rng.integers(0, side - width + 1))
    done = picture.copy()
    done[top : top + height, left : left + width] = piece
    return done


def cut_paste_scar(picture: U8, strength: float, rng: np.random.Generator) -> U8:
    """Paste a thin, turned, jittered strip of the picture elsewhere: [S, S, 3] uint8 RGB -> the same."""
    side = picture.shape[0]
    width = int(rng.integers(SCAR_WIDTH[0], SCAR_WIDTH[1] + 1))
    length = int(rng.integers(SCAR_LENGTH[0], SCAR_LENGTH[1] + 1))
    piece = jitter(cut(picture, length, width, rng), strength, rng)
    angle = rng.uniform(-SCAR_ANGLE, SCAR_ANGLE)
    if rng.random() < 0.5:
        angle += 90.0
    margin = math.ceil(0.5 * math.hypot(length, width))
    centre = rng.uniform(margin, side - margin, 2)
    middle = (0.5 * (width - 1), 0.5 * (length - 1))
    matrix = np.asarray(cv2.getRotationMatrix2D(middle, angle, 1.0), np.float64)
    matrix[:, 2] += centre - middle
    strip = cv2.warpAffine(piece, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
    opacity = cv2.warpAffine(np.ones((length, width), np.float32), matrix, (side, side))[..., None]
    return np.asarray(np.rint(picture + opacity * (strip.astype(np.float32) - picture)), np.uint8)


# ----------------------------------------------------------------------------------------------------------
# Pictures, all in memory
# ----------------------------------------------------------------------------------------------------------

#: First name of the random streams. 1 to 7 and 21 to 23 belong to the other scripts.
TRAIN_STREAM: Final = 31
AUGMENT_STREAM: Final = 32
VALIDATION_GOOD_STREAM: Final = 33
VALIDATION_DEFECT_STREAM: Final = 34

#: Normal validation pictures for each of one kind of defect.
GOOD_PER_DEFECT: Final = 5

#: Training pictures, from the first, whose embeddings make the density of the validation.
DENSITY_PICTURES: Final = 256


def photograph_scene(scene: F32, rng: np.random.Generator) -> U8:
    """Photograph a scene, through JPEG as the pictures on disk: [256, 256, 3] uint8 RGB."""
    data = np.frombuffer(encode_jpeg(expose(scene, rng)), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError("OpenCV could not decode its own JPEG")
    return network_input(np.asarray(decoded, np.uint8))


def training_pictures(wall: F32, seed: int, count: int) -> list[U8]:
    """Photograph the training part of the wall.

    The bricks get slightly lighter and darker patches, up to a few percent, so that the detector does not
    take the weathering of other parts of the wall for defects.
    """
    region = TRAIN.cut(wall)
    pictures = []
    for index in range(count):
        rng = stream(seed, TRAIN_STREAM, index)
        scene = view(region, rng)
        patches = rough(scene.shape, rng.uniform(15.0, 70.0), rng)[..., None]
        scene = np.asarray(scene * (1.0 + rng.uniform(0.0, 0.03) * patches), np.float32)
        pictures.append(photograph_scene(scene, rng))
    return pictures


def validation_pictures(wall: F32, seed: int, count: int) -> tuple[list[U8], dict[str, list[U8]]]:
    """Photograph the calibration part of the wall, normal and with ``count`` defects of each kind.

    They stand in for ``test/`` while choices are made, so that nothing is chosen on the test pictures.

    Returns:
        Five times ``count`` normal pictures; for each kind of defect, pictures with one of it.
    """
    region = CALIBRATION.cut(wall)
    good = []
    for index in range(GOOD_PER_DEFECT * count):
        rng = stream(seed, VALIDATION_GOOD_STREAM, index)
        good.append(photograph_scene(view(region, rng), rng))
    bad: dict[str, list[U8]] = {}
    for number, (kind, draw) in enumerate(DEFECTS.items()):
        bad[kind] = []
        for index in range(count):
            rng = stream(seed, VALIDATION_DEFECT_STREAM, number, index)
            bad[kind].append(photograph_scene(draw(view(region, rng), rng)[0], rng))
    return good, bad


# ----------------------------------------------------------------------------------------------------------
# Training
# ----------------------------------------------------------------------------------------------------------

#: Share of the steps, at the end, that see whole pictures.
WHOLE_SHARE: Final = 0.25


def three_ways(
    pictures: Sequence[U8], count: int, size: int, strength: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Cut random squares out of random pictures, each once as it is and once in either way spoiled.

    Returns:
        pictures [3*count, 3, size, size] uint8 RGB and classes [3*count] int64: 0, 1 and 2 in turn.
    """
    made: list[U8] = []
    for index in rng.integers(0, len(pictures), count):
        clean = cut(pictures[int(index)], size, size, rng)
        made += [clean, cut_paste(clean, strength, rng), cut_paste_scar(clean, strength, rng)]
    classes = torch.arange(CLASSES).repeat(count)
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2), classes


def train(args: argparse.Namespace) -> None:
    """Train the network and write the checkpoint and the log.

    Most steps see small squares of the pictures: the network is convolutional, the surface looks alike
    everywhere, and a CPU manages four times as many. The last ones see whole pictures, a quarter as many.
    """
    torch.manual_seed(args.seed)
    wall = load_wall()
    say(f"making {args.train_pictures} training pictures")
    pictures = training_pictures(wall, args.seed, args.train_pictures)
    validation = validation_pictures(wall, args.seed, args.validation)
    network = CutPasteNetwork(args.width)
    optimizer = torch.optim.AdamW(network.parameters(), args.learning_rate, weight_decay=args.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.learning_rate, args.steps, pct_start=0.1)
    rng = stream(args.seed, AUGMENT_STREAM)
    whole_from = round((1.0 - WHOLE_SHARE) * args.steps)
    log: dict[str, Any] = {
        "seed": args.seed,
        "width": args.width,
        "input": INPUT,
        "steps": args.steps,
        "whole_pictures_from_step": whole_from,
        "batch": args.batch,
        "crop": args.crop,
        "jitter": args.jitter,
        "learning_rate": args.learning_rate,
        "weight_decay": args.weight_decay,
        "train_pictures": args.train_pictures,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seconds": 0.0,
        "losses": [],
        "validation_auroc": [],
    }
    folder = args.out / "cutpaste"
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    for step in range(1, args.steps + 1):
        network.train()
        size, batch = (args.crop, args.batch) if step < whole_from else (INPUT, max(2, args.batch // 4))
        made, classes = three_ways(pictures, batch, size, args.jitter, rng)
        logits, block = network(normalise(made))
        entropy = functional.cross_entropy(logits, classes)
        loss = entropy + BLOCK_LOSS_WEIGHT * block
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step == 1 or step % args.log_every == 0 or step == args.steps:
            right = (logits.argmax(dim=1) == classes).float().mean()
            named = {"loss": loss, "entropy": entropy, "block": block, "right": right}
            row = {"step": step, **{name: round(float(value.detach()), 5) for name, value in named.items()}}
            log["seconds"] = row["seconds"] = round(time.monotonic() - started, 1)
            log["losses"].append(row)
            say(" ".join(f"{name} {value:g}" for name, value in row.items()))
        if step % args.save_every == 0 or step == args.steps:
            (folder / "model.safetensors").write_bytes(save(on_cpu(network)))
            if args.validation:
                figures = validation_figures(network, pictures[:DENSITY_PICTURES], *validation)
                log["validation_auroc"].append({"step": step, **figures})
                say("validation auroc " + " ".join(f"{name} {value:g}" for name, value in figures.items()))
            write_log(folder, log)


# ----------------------------------------------------------------------------------------------------------
# Evaluation
# ----------------------------------------------------------------------------------------------------------


class Density:
    """Gaussian of the embeddings of normal pictures, with the Ledoit-Wolf estimate of their covariance."""

    def __init__(self, embeddings: npt.NDArray[np.float64]) -> None:
        fit = LedoitWolf().fit(embeddings)
        self.mean = np.asarray(fit.location_, np.float64)
        self.precision = np.asarray(fit.precision_, np.float64)

    def scores(self, embeddings: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Mahalanobis distances of [N, C] embeddings: [N]."""
        offset = embeddings - self.mean
        squared = np.einsum("ni,ij,nj->n", offset, self.precision, offset)
        return np.asarray(np.sqrt(np.maximum(squared, 0.0)), np.float64)


@torch.no_grad()
def embed_pictures(network: CutPasteNetwork, pictures: Sequence[U8]) -> npt.NDArray[np.float64]:
    """Embed [256, 256, 3] uint8 RGB pictures: [N, C] of length 1 each."""
    network.eval()
    rows = []
    for start in range(0, len(pictures), 16):
        batch = torch.from_numpy(np.stack(pictures[start : start + 16])).permute(0, 3, 1, 2)
        rows.append(functional.normalize(network.embed(normalise(batch))[0], dim=1))
    return torch.cat(rows).double().numpy()


def validation_figures(
    network: CutPasteNetwork, normal: Sequence[U8], good: Sequence[U8], bad: dict[str, list[U8]]
) -> dict[str, float]:
    """Area under the ROC curve of each kind of defect, and of all, with the density of ``normal``."""
    density = Density(embed_pictures(network, normal))
    good_scores = density.scores(embed_pictures(network, good))
    scores = {kind: density.scores(embed_pictures(network, pictures)) for kind, pictures in bad.items()}
    named = {kind: round(auroc(good_scores, values), 4) for kind, values in scores.items()}
    return {"all": round(auroc(good_scores, np.concatenate(list(scores.values()))), 4), **named}


def evaluate(args: argparse.Namespace) -> None:
    """Fit the density to ``calibration/`` under ``--out``, score ``test/`` and add the figures to the log."""
    folder = args.out / "cutpaste"
    network = load_network(folder / "model.safetensors")

    def embedded(path: Path) -> npt.NDArray[np.float64]:
        return embed_pictures(network, [network_input(picture) for picture in load_folder(path)])

    density = Density(embedded(args.out / "calibration"))
    good = density.scores(embedded(args.out / "test" / "good"))
    bad = {kind: density.scores(embedded(args.out / "test" / kind)) for kind in DEFECTS}
    result = {
        "image_auroc": round(auroc(good, np.concatenate(list(bad.values()))), 5),
        "image_auroc_by_kind": {kind: round(auroc(good, values), 4) for kind, values in bad.items()},
        "scores_min_q1_median_q3_max": {
            name: [round(float(value), 3) for value in np.quantile(values, [0.0, 0.25, 0.5, 0.75, 1.0])]
            for name, values in {"good": good, **bad}.items()
        },
    }
    log_file = folder / "training.json"
    log = json.loads(log_file.read_text()) if log_file.exists() else {}
    log["evaluation"] = result
    write_log(folder, log)
    say(json.dumps(result, indent=2))


def load_network(file: Path) -> CutPasteNetwork:
    """Read a checkpoint; its width is that of the first convolution."""
    state = load_file(file)
    network = CutPasteNetwork(len(state["resnet18.conv1.weight"]))
    network.load_state_dict(state)
    return network


# ----------------------------------------------------------------------------------------------------------
# Command line
# ----------------------------------------------------------------------------------------------------------

#: Lowest value of each number on the command line. A patch and a scar must fit into a square; the schedule
#: needs a few steps to rise; the block's squeeze needs 8 channels, four times the width, to leave one.
LOWEST: Final = {
    "seed": 0,
    "steps": 20,
    "batch": 2,
    "crop": 64,
    "jitter": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "width": 2,
    "train_pictures": 2,
    "validation": 0,
    "log_every": 1,
    "save_every": 1,
    "threads": 1,
}


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read and check the command line; a mistake ends the program with status 2 and one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    out = Path(__file__).parent / "demo"
    parser.add_argument("--out", type=Path, default=out, help="folder to write to, with the demo's pictures")
    parser.add_argument("--seed", type=int, default=7, help="of all random numbers")
    parser.add_argument(
        "--steps", type=int, default=2000, help="training steps; one CPU core makes about three a second"
    )
    parser.add_argument(
        "--batch", type=int, default=16, help="normal pictures a step, each seen in three ways"
    )
    parser.add_argument("--crop", type=int, default=128, help="side of the squares that most steps see")
    parser.add_argument(
        "--jitter", type=float, default=0.1, help="how much pasted pieces change colour; 0.1 in the paper"
    )
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-3)
    parser.add_argument(
        "--width",
        type=int,
        default=WIDTH,
        help="channels after the first convolution; 64 in a real ResNet-18",
    )
    parser.add_argument("--train-pictures", type=int, default=768, help="normal pictures drawn for training")
    parser.add_argument(
        "--validation", type=int, default=12, help="validation pictures drawn of each kind of defect; 0: none"
    )
    parser.add_argument("--log-every", type=int, default=50, help="steps from one line to the next")
    parser.add_argument("--save-every", type=int, default=300, help="steps from one checkpoint to the next")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--train-only", action="store_true", help="train, do not score test/")
    only.add_argument("--evaluate-only", action="store_true", help="score test/, do not train")
    args = parser.parse_args(arguments)
    for option, lowest in LOWEST.items():
        value = getattr(args, option)
        if not value >= lowest:
            parser.error(f"--{option.replace('_', '-')} is {value}, expected {lowest} or more")
    if args.crop > INPUT:
        parser.error(f"--crop is {args.crop}, expected {INPUT} or less, the side of a picture")
    if args.jitter > 1:
        parser.error(f"--jitter is {args.jitter}, expected 1 or less")
    checkpoint = args.out / "cutpaste" / "model.safetensors"
    if args.evaluate_only and not checkpoint.is_file():
        parser.error(f"{checkpoint} is missing: train first, without --evaluate-only")
    if not args.train_only:
        for folder in ("calibration", "test/good", *(f"test/{kind}" for kind in DEFECTS)):
            if not any((args.out / folder).glob("*.jpg")):
                parser.error(
                    f"{args.out / folder} holds no pictures: make them with "
                    f"train_demo.py --prepare-only, or give --train-only"
                )
    return args


def main(arguments: list[str] | None = None) -> None:
    """Train, evaluate."""
    args = parse_arguments(arguments)
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    assert_disjoint([TRAIN, CALIBRATION, TEST])
    if not args.evaluate_only:
        train(args)
    if not args.train_only:
        evaluate(args)


if __name__ == "__main__":
    main()
