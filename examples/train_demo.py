#!/usr/bin/env python3
"""Train the demo detector: a small DRAEM with an SSPCAB block, on a photograph of a brick wall.

This file stands for *your* training code. It knows nothing of sspcab-edge: it ends with what training usually
leaves behind, two bare state dicts, and the toolkit starts there. Everything is made from one seed and from
photographs that scikit-image ships; nothing is downloaded.

What it makes, under ``--out``::

    calibration/*.jpg                      normal pictures for calibration and the threshold
    test/good/*.jpg  test/<kind>/*.jpg     normal pictures, and pictures with one defect each
    ground_truth/<kind>/*_mask.png         where the defect is
    surface.mp4  surface.json              the wall moving under the camera, and when a defect is in view
    model/<run>.pckl  model/<run>_seg.pckl the trained networks
    model/training.json                    the log of the training, with the figures on test/

Examples::

    python train_demo.py --out demo                          # all of it
    python train_demo.py --out demo --prepare-only           # pictures and video, no training
    python train_demo.py --out demo --train-only             # training, on the pictures that are there
    python train_demo.py --out demo --evaluate-only          # figures of the checkpoint that is there

The method is DRAEM (Zavrtanik, Kristan, Skocaj, ICCV 2021, arXiv:2108.07610) with the block of Ristea et al.
(CVPR 2022, arXiv:2111.09099). The parameter names are those of DRAEM's published code, so that the checkpoint
looks like one; the code here is written from the publications.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from demo_scene import (
    DEFECTS,
    F32,
    INPUT,
    TRAIN,
    U8,
    encode_jpeg,
    expose,
    load_wall,
    network_input,
    photograph,
    rough,
    stream,
    view,
    write_pictures,
    write_video,
)

# ----------------------------------------------------------------------------------------------------------
# The networks
# ----------------------------------------------------------------------------------------------------------

RECONSTRUCTIVE_WIDTH: Final = 12
DISCRIMINATIVE_WIDTH: Final = 8


class SqueezeExcite(nn.Module):
    """Scale every channel by a factor in 0..1 that is computed from the means of all channels."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        hidden = functional.relu(self.fc1(x.mean(dim=(2, 3))))
        factors = torch.sigmoid(self.fc2(hidden))
        return x * factors[:, :, None, None]


class SSPCAB(nn.Module):
    """Self-supervised predictive convolutional attentive block: predict the middle from the corners.

    Four convolutions look at the corners of a (2k+2d+1)-wide field whose middle is hidden; their sum goes
    through ReLU and squeeze-and-excitation. Zero padding keeps the size.
    """

    def __init__(self, channels: int, kernel: int = 1, dilation: int = 1, reduction: int = 8) -> None:
        super().__init__()
        self.pad = kernel + dilation
        self.border = kernel + 2 * dilation + 1
        self.conv1 = nn.Conv2d(channels, channels, kernel)  # top left
        self.conv2 = nn.Conv2d(channels, channels, kernel)  # bottom left
        self.conv3 = nn.Conv2d(channels, channels, kernel)  # top right
        self.conv4 = nn.Conv2d(channels, channels, kernel)  # bottom right
        self.se = SqueezeExcite(channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        padded = functional.pad(x, (self.pad, self.pad, self.pad, self.pad))
        near, far = slice(None, -self.border), slice(self.border, None)
        corners = (
            self.conv1(padded[:, :, near, near])
            + self.conv2(padded[:, :, far, near])
            + self.conv3(padded[:, :, near, far])
            + self.conv4(padded[:, :, far, far])
        )
        out: Tensor = self.se(functional.relu(corners))
        return out


def conv_unit(inputs: int, outputs: int) -> list[nn.Module]:
    """3x3 convolution, batch norm, ReLU."""
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs, momentum=0.03),
        nn.ReLU(inplace=True),
    ]


def double(inputs: int, middle: int, outputs: int) -> nn.Sequential:
    """Two convolution units."""
    return nn.Sequential(*conv_unit(inputs, middle), *conv_unit(middle, outputs))


def up(inputs: int, outputs: int) -> nn.Sequential:
    """Twice the size, then a convolution unit."""
    grow = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    return nn.Sequential(grow, *conv_unit(inputs, outputs))


class ReconstructiveEncoder(nn.Module):
    """Image to bottleneck; the bottleneck's convolutions are replaced by the block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block1 = double(3, width, width)
        self.block2 = double(width, width * 2, width * 2)
        self.block3 = double(width * 2, width * 4, width * 4)
        self.block4 = double(width * 4, width * 8, width * 8)
        self.block5 = SSPCAB(width * 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] -> the block's input and output, each [N, 8*width, H/16, W/16]."""
        for block in (self.block1, self.block2, self.block3, self.block4):
            x = functional.max_pool2d(block(x), 2)
        return x, self.block5(x)


class ReconstructiveDecoder(nn.Module):
    """Bottleneck to image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up1 = up(width * 8, width * 8)
        self.db1 = double(width * 8, width * 8, width * 4)
        self.up2 = up(width * 4, width * 4)
        self.db2 = double(width * 4, width * 4, width * 2)
        self.up3 = up(width * 2, width * 2)
        self.db3 = double(width * 2, width * 2, width)
        self.up4 = up(width, width)
        self.db4 = double(width, width, width)
        self.fin_out = nn.Sequential(nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, 8*width, H/16, W/16] -> [N, 3, H, W]."""
        x = self.db1(self.up1(x))
        x = self.db2(self.up2(x))
        x = self.db3(self.up3(x))
        x = self.db4(self.up4(x))
        out: Tensor = self.fin_out(x)
        return out


class ReconstructiveNetwork(nn.Module):
    """Repaints a picture as if it had no defect."""

    def __init__(self, width: int = RECONSTRUCTIVE_WIDTH) -> None:
        super().__init__()
        self.encoder = ReconstructiveEncoder(width)
        self.decoder = ReconstructiveDecoder(width)

    def forward(self, x: Tensor, fade: float = 1.0) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W], 0..1 -> reconstruction [N, 3, H, W], and the block's own loss (a scalar).

        ``fade`` below 1, early in training, lets that much less of the block through and the rest around it.
        """
        before, after = self.encoder(x)
        bottleneck = after if fade >= 1.0 else torch.lerp(before, after, fade)
        return self.decoder(bottleneck), functional.mse_loss(after, before)


class DiscriminativeEncoder(nn.Module):
    """Contracting half of the segmentation U-Net."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block1 = double(6, width, width)
        self.block2 = double(width, width * 2, width * 2)
        self.block3 = double(width * 2, width * 4, width * 4)
        self.block4 = double(width * 4, width * 8, width * 8)
        self.block5 = double(width * 8, width * 8, width * 8)
        self.block6 = double(width * 8, width * 8, width * 8)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, 6, H, W] -> six maps, each half as large as the one before."""
        maps = [self.block1(x)]
        for block in (self.block2, self.block3, self.block4, self.block5, self.block6):
            maps.append(block(functional.max_pool2d(maps[-1], 2)))
        return maps


class DiscriminativeDecoder(nn.Module):
    """Expanding half of the segmentation U-Net."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up_b = up(width * 8, width * 8)
        self.db_b = double(width * 16, width * 8, width * 8)
        self.up1 = up(width * 8, width * 4)
        self.db1 = double(width * 12, width * 4, width * 4)
        self.up2 = up(width * 4, width * 2)
        self.db2 = double(width * 6, width * 2, width * 2)
        self.up3 = up(width * 2, width)
        self.db3 = double(width * 3, width, width)
        self.up4 = up(width, width)
        self.db4 = double(width * 2, width, width)
        self.fin_out = nn.Sequential(nn.Conv2d(width, 2, 3, padding=1))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Six maps of the encoder -> logits [N, 2, H, W]."""
        x = maps[5]
        stages = (
            (self.up_b, self.db_b),
            (self.up1, self.db1),
            (self.up2, self.db2),
            (self.up3, self.db3),
            (self.up4, self.db4),
        )
        for (grow, merge), skip in zip(stages, reversed(maps[:5]), strict=True):
            x = merge(torch.cat((grow(x), skip), dim=1))
        out: Tensor = self.fin_out(x)
        return out


class DiscriminativeNetwork(nn.Module):
    """Compares a picture with its reconstruction and marks what is anomalous."""

    def __init__(self, width: int = DISCRIMINATIVE_WIDTH) -> None:
        super().__init__()
        self.encoder_segment = DiscriminativeEncoder(width)
        self.decoder_segment = DiscriminativeDecoder(width)

    def forward(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        """Two [N, 3, H, W], in this order -> logits [N, 2, H, W]; channel 1 is "anomalous"."""
        maps = self.encoder_segment(torch.cat((reconstruction, image), dim=1))
        out: Tensor = self.decoder_segment(maps)
        return out


def image_score(logits: Tensor) -> Tensor:
    """Highest mean of the anomaly probability in a 21x21 window; outside the picture counts as 0.

    [N, 2, H, W] -> [N], 0..1.
    """
    probability = torch.softmax(logits, dim=1)[:, 1:]
    smooth = functional.avg_pool2d(probability, 21, stride=1, padding=10, count_include_pad=True)
    return smooth.amax(dim=(1, 2, 3))


# ----------------------------------------------------------------------------------------------------------
# Training
# ----------------------------------------------------------------------------------------------------------

TRAIN_PICTURES: Final = 1024
BLOCK_LOSS_WEIGHT: Final = 0.1

#: Shares of the steps between which the block is faded in. A small network that must see through the block
#: from the first step on can settle for a picture of one colour: a constant is easy to predict.
FADE_FROM: Final = 0.08
FADE_TO: Final = 0.30

#: Share of the steps, at the end, that see whole pictures.
WHOLE_SHARE: Final = 0.15

#: Photographs that fill artificial defects; CC0 or public domain by scikit-image's documentation.
FOREIGN: Final = (
    "grass",
    "gravel",
    "camera",
    "astronaut",
    "chelsea",
    "coffee",
    "rocket",
    "hubble_deep_field",
)


def training_pictures(wall: F32, seed: int, count: int) -> Tensor:
    """Photograph the training region, through JPEG as the other pictures: [count, 3, 256, 256] uint8 BGR.

    The bricks get slightly lighter and darker patches, up to a few percent, so that the detector does not
    take the weathering of other parts of the wall for defects.
    """
    region = TRAIN.cut(wall)
    pictures = np.empty((count, INPUT, INPUT, 3), np.uint8)
    for index in range(count):
        rng = stream(seed, 6, index)
        scene = view(region, rng)
        patches = rough(scene.shape, rng.uniform(15.0, 70.0), rng)[..., None]
        scene = np.asarray(scene * (1.0 + rng.uniform(0.0, 0.03) * patches), np.float32)
        data = np.frombuffer(encode_jpeg(expose(scene, rng)), np.uint8)
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if decoded is None:
            raise RuntimeError("OpenCV could not decode its own JPEG")
        pictures[index] = network_input(np.asarray(decoded, np.uint8))
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def foreign_pictures(seed: int, count: int) -> Tensor:
    """Cut pieces out of other photographs (CC0 or public domain): [count, 3, 256, 256] uint8."""
    sources = [photograph(name) for name in FOREIGN]
    rng = stream(seed, 7)
    pieces = np.empty((count, INPUT, INPUT, 3), np.uint8)
    for index in range(count):
        source = sources[index % len(sources)]
        if source.ndim == 2:
            source = np.repeat(source[..., None], 3, axis=2)
        side = int(rng.integers(90, min(source.shape[:2])))
        top = int(rng.integers(0, source.shape[0] - side + 1))
        left = int(rng.integers(0, source.shape[1] - side + 1))
        piece = np.ascontiguousarray(source[top : top + side, left : left + side])
        pieces[index] = cv2.resize(piece, (INPUT, INPUT), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(pieces).permute(0, 3, 1, 2).contiguous()


def perlin_noise(size: int, rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Gradient noise on a grid of rows x columns cells: [size, size] float32, about -1..1."""
    device = generator.device
    angles = 2.0 * math.pi * torch.rand((rows + 1, columns + 1), generator=generator, device=device)
    y = torch.arange(size, device=device) * (rows / size)
    x = torch.arange(size, device=device) * (columns / size)
    row, column = y.long(), x.long()
    fy, fx = (y - row)[:, None], (x - column)[None, :]

    def corner(dy: int, dx: int) -> Tensor:
        angle = angles[row + dy][:, column + dx]
        return torch.cos(angle) * (fx - dx) + torch.sin(angle) * (fy - dy)

    def fade(t: Tensor) -> Tensor:
        return t * t * t * (t * (6.0 * t - 15.0) + 10.0)

    upper = torch.lerp(corner(0, 0), corner(0, 1), fade(fx))
    lower = torch.lerp(corner(1, 0), corner(1, 1), fade(fx))
    return math.sqrt(2.0) * torch.lerp(upper, lower, fade(fy))


def uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Random numbers in low..high."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def defect_masks(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Outlines of defects from turned Perlin noise: blobs of all sizes, and, of one in three, thin veins.

    Returns:
        [count, 1, size, size] float32, 0 or 1.
    """
    device = generator.device
    thin = torch.rand((count, 1, 1, 1), generator=generator, device=device) < 0.35
    finest = int(math.log2(size / 8))  # cells of 8 pixels for blobs, of 32 for veins
    exponents = torch.randint(1, finest + 1, (count, 2), generator=generator, device=device)
    exponents = torch.where(thin[:, :, 0, 0], exponents.clamp(max=finest - 2), exponents)
    cells = (2**exponents).tolist()
    noise = torch.stack([perlin_noise(size, rows, columns, generator) for rows, columns in cells])[:, None]
    angle = uniform(-0.5 * math.pi, 0.5 * math.pi, (count,), generator)
    cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    turn = torch.stack([torch.stack([cos, -sin, zero], 1), torch.stack([sin, cos, zero], 1)], 1)
    grid = functional.affine_grid(turn, [count, 1, size, size], align_corners=False)
    turned = functional.grid_sample(noise, grid, padding_mode="reflection", align_corners=False)
    blobs = turned > uniform(0.35, 0.55, (count, 1, 1, 1), generator)
    near_zero = turned.abs() < uniform(0.03, 0.09, (count, 1, 1, 1), generator)
    veins = near_zero & (turned.roll((size // 2, size // 3), (2, 3)) > 0.1)
    return torch.where(thin, veins, blobs).float()


def recolour(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Change colours at random: channel order, gamma, gain per channel, now and then a negative."""
    count = pictures.shape[0]
    device = generator.device
    order = torch.rand((count, 3), generator=generator, device=device).argsort(dim=1)
    out = torch.gather(pictures, 1, order[:, :, None, None].expand_as(pictures))
    negative = torch.rand((count, 1, 1, 1), generator=generator, device=device) < 0.2
    out = torch.where(negative, 1.0 - out, out)
    out = out.clamp(1e-4, 1.0) ** torch.exp(uniform(-0.7, 0.7, (count, 1, 1, 1), generator))
    gain = torch.exp(uniform(-0.5, 0.5, (count, 3, 1, 1), generator))
    return (out * gain + uniform(-0.1, 0.1, (count, 3, 1, 1), generator)).clamp(0.0, 1.0)


def wrong_colour(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Give the surface a clearly wrong colour: red and blue exchanged, or one or all channels far off."""
    count = pictures.shape[0]
    device = generator.device
    kind = torch.rand((count, 1, 1, 1), generator=generator, device=device)
    channel = torch.randint(0, 3, (count,), generator=generator, device=device)
    one = functional.one_hot(channel, 3).float()[:, :, None, None]
    sign = torch.where(torch.rand((count, 1, 1, 1), generator=generator, device=device) < 0.5, -1.0, 1.0)
    gain = torch.exp(
        sign * uniform(0.3, 0.8, (count, 1, 1, 1), generator) * torch.where(kind < 0.7, one, 1.0)
    )
    return torch.where(kind < 0.4, pictures.flip(1), pictures * gain).clamp(0.0, 1.0)


def plain_colour(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Surfaces of one colour with a little shading and grain: [count, 3, size, size]."""
    vividness = uniform(0.0, 0.5, (count, 1, 1, 1), generator)
    colour = uniform(0.02, 0.98, (count, 1, 1, 1), generator)
    colour = colour + vividness * uniform(-1.0, 1.0, (count, 3, 1, 1), generator)
    coarse = uniform(-0.12, 0.12, (count, 1, 6, 6), generator)
    shading = functional.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    grain = 0.02 * torch.randn((count, 3, size, size), generator=generator, device=generator.device)
    return (colour + shading + grain).clamp(0.0, 1.0)


def spoil(clean: Tensor, foreign: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paint artificial defects into half of the pictures, as DRAEM does.

    A defect has an outline from Perlin noise and is filled, with random opacity, from a recoloured
    foreign photograph, from a plain colour, or from the surface itself in a wrong colour. A few pictures have
    the wrong colour as a whole.

    Args:
        clean: [N, 3, S, S] float32 BGR, 0..1.
        foreign: [N, 3, S, S] float32, 0..1.

    Returns:
        pictures [N, 3, S, S] and labels [N, 1, S, S] (0 or 1). Labels reach 2 pixels beyond the defect: the
        image score is a mean over 21x21 pixels, in which a hairline would be lost.
    """
    count, size = clean.shape[0], clean.shape[-1]
    device = generator.device
    kind = torch.rand((count, 1, 1, 1), generator=generator, device=device)
    filling = recolour(foreign, generator)
    filling = torch.where(kind < 0.45, plain_colour(count, size, generator), filling)
    elsewhere = clean.roll((1, 31, 43), (0, 2, 3))
    filling = torch.where(kind < 0.20, wrong_colour(elsewhere, generator), filling)
    masks = defect_masks(count, size, generator)
    whole = kind < 0.04
    filling = torch.where(whole, wrong_colour(clean, generator), filling)
    masks = torch.where(whole, torch.ones_like(masks), masks)
    opacity = torch.where(whole, torch.ones_like(kind), uniform(0.35, 1.0, (count, 1, 1, 1), generator))
    spoiled = torch.rand((count, 1, 1, 1), generator=generator, device=device) < 0.5
    masks = masks * spoiled
    labels = functional.max_pool2d(masks, 5, stride=1, padding=2)
    return clean + (filling - clean) * (opacity * masks), labels


def ssim_loss(one: Tensor, other: Tensor) -> Tensor:
    """1 - mean structural similarity of two [N, 3, H, W] pictures in 0..1 (Gaussian 11x11, deviation 1.5)."""
    x = torch.arange(11, device=one.device) - 5.0
    bell = torch.softmax(-x * x / (2.0 * 1.5**2), dim=0).expand(3, 1, 1, 11)

    def mean(picture: Tensor) -> Tensor:
        across = functional.conv2d(picture, bell, padding=(0, 5), groups=3)
        return functional.conv2d(across, bell.transpose(2, 3), padding=(5, 0), groups=3)

    mean_one, mean_other = mean(one), mean(other)
    variance_one = mean(one * one) - mean_one**2
    variance_other = mean(other * other) - mean_other**2
    covariance = mean(one * other) - mean_one * mean_other
    luminance = (2.0 * mean_one * mean_other + 0.01**2) / (mean_one**2 + mean_other**2 + 0.01**2)
    structure = (2.0 * covariance + 0.03**2) / (variance_one + variance_other + 0.03**2)
    return 1.0 - (luminance * structure).mean()


def focal_loss(logits: Tensor, labels: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss of [N, 2, H, W] logits against [N, 1, H, W] labels: easy pixels count little."""
    log_probability = torch.log_softmax(logits, dim=1).gather(1, labels.long())
    return -((1.0 - log_probability.exp()) ** gamma * log_probability).mean()


def sample(pictures: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    """Cut random squares out of random pictures: [M, 3, 256, 256] uint8 -> [count, 3, size, size], 0..1."""
    device = generator.device
    chosen = torch.randint(0, len(pictures), (count,), generator=generator, device=device)
    corners = torch.randint(0, INPUT - size + 1, (count, 2), generator=generator, device=device)
    cuts = [
        pictures[index, :, top : top + size, left : left + size]
        for index, (top, left) in zip(chosen.tolist(), corners.tolist(), strict=True)
    ]
    return torch.stack(cuts).float() / 255.0


def train(args: argparse.Namespace) -> None:
    """Train both networks together and write the checkpoint and the log.

    Most steps see small squares of the pictures: both networks are convolutional, the surface looks alike
    everywhere, and a CPU manages four times as many. The last ones see whole pictures, a quarter as many.
    """
    torch.manual_seed(args.seed)
    device = torch.device(args.device)
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    generator = torch.Generator(device).manual_seed(args.seed)
    say(f"making {args.train_pictures} training pictures")
    pictures = training_pictures(load_wall(), args.seed, args.train_pictures).to(device)
    foreign = foreign_pictures(args.seed, 256).to(device)
    reconstructive = ReconstructiveNetwork().to(device)
    discriminative = DiscriminativeNetwork().to(device)
    parameters = [*reconstructive.parameters(), *discriminative.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=args.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.learning_rate, args.steps, pct_start=0.05)
    whole_from = round((1.0 - WHOLE_SHARE) * args.steps)
    log: dict[str, Any] = {
        "run": args.run,
        "seed": args.seed,
        "steps": args.steps,
        "whole_pictures_from_step": whole_from,
        "batch": args.batch,
        "crop": args.crop,
        "learning_rate": args.learning_rate,
        "train_pictures": args.train_pictures,
        "parameters": sum(parameter.numel() for parameter in parameters),
        "device": device_name,
        "torch": torch.__version__,
        "seconds": 0.0,
        "losses": [],
    }
    started = time.monotonic()
    reconstructive.train()
    discriminative.train()
    for step in range(1, args.steps + 1):
        size, batch = (args.crop, args.batch) if step < whole_from else (INPUT, max(2, args.batch // 4))
        clean = sample(pictures, batch, size, generator)
        spoiled, labels = spoil(clean, sample(foreign, batch, size, generator), generator)
        spoiled = spoiled.contiguous(memory_format=torch.channels_last)  # almost twice as fast on a CPU
        fade = (step / args.steps - FADE_FROM) / (FADE_TO - FADE_FROM)
        reconstruction, block = reconstructive(spoiled, min(1.0, max(0.0, fade)))
        logits = discriminative(reconstruction, spoiled)
        losses = {
            "l2": functional.mse_loss(reconstruction, clean),
            "ssim": ssim_loss(reconstruction, clean),
            "focal": focal_loss(logits, labels),
            "block": block,
        }
        loss = losses["l2"] + losses["ssim"] + losses["focal"] + BLOCK_LOSS_WEIGHT * losses["block"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step == 1 or step % args.log_every == 0 or step == args.steps:
            row = {"step": step, **{name: round(float(value.detach()), 5) for name, value in losses.items()}}
            log["seconds"] = row["seconds"] = round(time.monotonic() - started, 1)
            log["losses"].append(row)
            say(" ".join(f"{name} {value:g}" for name, value in row.items()))
        if step % args.save_every == 0 or step == args.steps:
            folder = args.out / "model"
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(on_cpu(reconstructive), folder / f"{args.run}.pckl")
            torch.save(on_cpu(discriminative), folder / f"{args.run}_seg.pckl")
            write_log(folder, log)


def on_cpu(network: nn.Module) -> dict[str, Tensor]:
    """Return a state dict of plain CPU tensors that share no memory with the network."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


# ----------------------------------------------------------------------------------------------------------
# Evaluation
# ----------------------------------------------------------------------------------------------------------


def auroc(good: npt.NDArray[np.float64], bad: npt.NDArray[np.float64]) -> float:
    """Share of (good, bad) pairs in which the bad one scores higher; a tie counts half."""
    wins = (bad[:, None] > good[None, :]).mean() + 0.5 * (bad[:, None] == good[None, :]).mean()
    return float(wins)


def load_folder(folder: Path) -> list[U8]:
    """Read the JPEGs of a folder in the order of their names, as BGR."""
    pictures: list[U8] = []
    for path in sorted(folder.glob("*.jpg")):
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise RuntimeError(f"{path} is not a picture")
        pictures.append(np.asarray(picture, np.uint8))
    return pictures


class Detector:
    """The trained networks, as the tests use them."""

    def __init__(self, folder: Path, run: str, device: torch.device) -> None:
        self.device = device
        self.reconstructive = ReconstructiveNetwork()
        self.discriminative = DiscriminativeNetwork()
        for network, name in ((self.reconstructive, run), (self.discriminative, f"{run}_seg")):
            file = folder / f"{name}.pckl"
            network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
            network.to(device).eval()

    @torch.no_grad()
    def probability_and_score(self, picture: U8) -> tuple[F32, float]:
        """[H, W, 3] uint8 BGR, any size -> anomaly probability [256, 256] and image score."""
        data = np.ascontiguousarray(network_input(picture).transpose(2, 0, 1))
        image = torch.from_numpy(data)[None].to(self.device).float() / 255.0
        reconstruction, _ = self.reconstructive(image)
        logits = self.discriminative(reconstruction, image)
        probability = torch.softmax(logits, dim=1)[0, 1].cpu().numpy()
        return np.asarray(probability, np.float32), float(image_score(logits))

    def scores(self, pictures: Sequence[U8]) -> npt.NDArray[np.float64]:
        """Score pictures one by one."""
        return np.array([self.probability_and_score(picture)[1] for picture in pictures])


def evaluate(args: argparse.Namespace) -> None:
    """Score the pictures under ``--out`` and add the figures to the log."""
    folder = args.out / "model"
    detector = Detector(folder, args.run, torch.device(args.device))
    calibration = detector.scores(load_folder(args.out / "calibration"))
    pictures_good = load_folder(args.out / "test" / "good")
    good = detector.scores(pictures_good)
    bad = {kind: detector.scores(load_folder(args.out / "test" / kind)) for kind in DEFECTS}
    swapped = detector.scores([np.ascontiguousarray(picture[..., ::-1]) for picture in pictures_good])
    everything = np.concatenate(list(bad.values()))
    threshold = float(calibration.max())
    named = {"calibration": calibration, "good": good, **bad, "good, R and B exchanged": swapped}
    result: dict[str, Any] = {
        "image_auroc": round(auroc(good, everything), 5),
        "pixel_auroc": round(pixel_auroc(detector, args.out), 5),
        "threshold_max_calibration": round(threshold, 5),
        "good_above_threshold": f"{int((good > threshold).sum())} of {len(good)}",
        "defects_above_threshold": f"{int((everything > threshold).sum())} of {len(everything)}",
        "exchanged_above_threshold": f"{int((swapped > threshold).sum())} of {len(swapped)}",
        "scores_min_q1_median_q3_max": {
            name: [round(float(value), 4) for value in np.quantile(values, [0.0, 0.25, 0.5, 0.75, 1.0])]
            for name, values in named.items()
        },
    }
    log_file = folder / "training.json"
    log = json.loads(log_file.read_text()) if log_file.exists() else {}
    log["evaluation"] = result
    write_log(folder, log)
    say(json.dumps(result, indent=2))


def pixel_auroc(detector: Detector, out: Path) -> float:
    """Area under the ROC curve of the pixels of the pictures with defects."""
    histograms = np.zeros((2, 4096))
    for kind in DEFECTS:
        for number, picture in enumerate(load_folder(out / "test" / kind)):
            file = out / "ground_truth" / kind / f"{number:03d}_mask.png"
            mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            if mask is None:
                raise RuntimeError(f"{file} is not a picture")
            small = cv2.resize(mask, (INPUT, INPUT), interpolation=cv2.INTER_NEAREST) > 127
            probability, _ = detector.probability_and_score(picture)
            level = np.minimum(probability * 4096.0, 4095.0).astype(int)
            for label, chosen in ((0, ~small), (1, small)):
                histograms[label] += np.bincount(level[chosen], minlength=4096)
    good, bad = histograms / histograms.sum(axis=1, keepdims=True)
    below = np.cumsum(good) - good
    return float((bad * (below + 0.5 * good)).sum())


# ----------------------------------------------------------------------------------------------------------
# Command line
# ----------------------------------------------------------------------------------------------------------


def write_log(folder: Path, log: dict[str, Any]) -> None:
    """Write ``training.json``, with every row of losses and every list of numbers on one line."""
    text = json.dumps(log, indent=2)
    text = re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda found: " ".join(found[0].split()), text)
    (folder / "training.json").write_text(text + "\n")


def say(text: str) -> None:
    """Print progress at once."""
    print(text, flush=True)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Train the demo detector (DRAEM with SSPCAB); make its data."
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "demo", help="folder to write to")
    parser.add_argument("--run", default="demo_brick", help="name of the run: the checkpoint's file names")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=1700)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=128, help="side of the squares that most steps see")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--train-pictures", type=int, default=TRAIN_PICTURES)
    parser.add_argument("--log-every", type=int, default=100)
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: as torch decides)")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--prepare-only", action="store_true", help="write pictures and video, do not train")
    only.add_argument("--train-only", action="store_true", help="train on the pictures that are there")
    only.add_argument("--evaluate-only", action="store_true", help="score the pictures that are there")
    parser.add_argument("--no-video", action="store_true", help="make no video: PyAV is not needed")
    return parser.parse_args()


def main() -> None:
    """Make the pictures, train, evaluate."""
    args = parse_arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
        cv2.setNumThreads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.train_only or args.evaluate_only):
        wall = load_wall()
        write_pictures(args.out, wall, args.seed)
        if not args.no_video:
            write_video(args.out, wall, args.seed)
        say(f"pictures are in {args.out}")
    if not (args.prepare_only or args.evaluate_only):
        train(args)
    if not args.prepare_only:
        evaluate(args)


if __name__ == "__main__":
    main()
