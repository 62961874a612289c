#!/usr/bin/env python3
"""Train the auto-encoder of ``network.py`` on normal pictures: two minutes on one CPU core.

This file, too, stands for *your* code. It knows nothing of sspcab-edge; it leaves bare weights behind.

The loss is that of repainting a picture, and a tenth of the block's own: how well it predicts what it cannot
see (Ristea et al., CVPR 2022, arXiv:2111.09099).

Example::

    python train.py --pictures ../demo/calibration --out weights.pth
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

SIDE = 128
"""Side of a picture, in pixels."""

BLOCK_SHARE = 0.1
"""Of the block's own loss, as in the paper."""


def read_pictures(folder: Path) -> Tensor:
    """All pictures below a folder: (N, 3, SIDE, SIDE) uint8 RGB."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not found:
        raise SystemExit(f"{folder} holds no pictures (looked for .jpg, .jpeg and .png)")
    made = []
    for path in found:
        raw = cv2.imread(str(path))
        if raw is None:
            raise SystemExit(f"{path} cannot be decoded")
        made.append(cv2.resize(raw, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)[..., ::-1])
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).contiguous()


def batch_of(pictures: Tensor, size: int, random: torch.Generator) -> Tensor:
    """Some pictures, mirrored and lit at random: (size, 3, SIDE, SIDE) float32 in about [0, 1]."""
    chosen = pictures[torch.randint(len(pictures), (size,), generator=random)].float() / 255
    for axis in (2, 3):
        if torch.rand((), generator=random) < 0.5:
            chosen = chosen.flip(axis)
    light = 1 + 0.06 * (2 * torch.rand((size, 1, 1, 1), generator=random) - 1)
    return chosen * light


def train(pictures: Tensor, steps: int, size: int, seed: int) -> dict[str, Tensor]:
    """The weights after so many steps; prints a line now and then."""
    from network import AutoEncoder

    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    network = AutoEncoder()
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps, pct_start=0.1)
    start = time.monotonic()
    for step in range(1, steps + 1):
        picture = batch_of(pictures, size, random)
        made, block = network.with_loss(picture)
        error = functional.mse_loss(made, picture)
        optimiser.zero_grad()
        loss = error + BLOCK_SHARE * block
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            seconds = time.monotonic() - start
            print(f"step {step} error {error:.5f} block {block:.5f} seconds {seconds:.0f}", flush=True)
    weights: dict[str, Tensor] = network.state_dict()
    return weights


def main(arguments: list[str] | None = None) -> None:
    """Train as the command line asks for."""
    parser = argparse.ArgumentParser(description="Train an auto-encoder with an SSPCAB block.")
    parser.add_argument("--pictures", type=Path, required=True, help="folder of normal pictures")
    parser.add_argument("--out", type=Path, default=Path("weights.pth"), help="file to write")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=16, help="pictures a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    args = parser.parse_args(arguments)
    if min(args.steps, args.batch, args.threads) < 1:
        parser.error("--steps, --batch and --threads are expected to be 1 or more")
    torch.set_num_threads(args.threads)
    weights = train(read_pictures(args.pictures), args.steps, args.batch, args.seed)
    torch.save(weights, args.out)
    print(f"weights are in {args.out}")


if __name__ == "__main__":
    main()
