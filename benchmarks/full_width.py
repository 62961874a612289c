#!/usr/bin/env python3
"""Write a checkpoint of DRAEM with SSPCAB at full width, of random weights: to measure speed, not to detect.

The names and shapes are those that anomalib leaves behind with ``enable_sspcab=True``: widths 128 and 64, the
block of 1024 channels in place of ``block5`` of the reconstructive encoder; 83.0 million parameters. Weights
come from one seed and are scaled so that the signal neither dies nor grows on its way.

    python benchmarks/full_width.py full.ckpt
    sspcab-export full.ckpt --target openvino --precision fp32 --precision int8 --calibration DIR -o full
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

SEED = 7
LOGIT_SCALE = 6.0


class Weights:
    """A state dict in the making."""

    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._random = torch.Generator().manual_seed(SEED)

    def _normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self._random)

    def layer(self, name: str, inside: int, out: int, kernel: int | None = None, gain: float = 1.0) -> None:
        """A convolution, or a linear layer where ``kernel`` is None."""
        window = () if kernel is None else (kernel, kernel)
        scale = gain * (2 / (inside * (kernel or 1) ** 2)) ** 0.5
        self.tensors[f"{name}.weight"] = scale * self._normal(out, inside, *window)
        self.tensors[f"{name}.bias"] = 0.1 * self._normal(out)

    def norm(self, name: str, channels: int) -> None:
        """A batch normalisation."""
        self.tensors |= {
            f"{name}.weight": 1 + 0.2 * self._normal(channels),
            f"{name}.bias": 0.1 * self._normal(channels),
            f"{name}.running_mean": 0.1 * self._normal(channels),
            f"{name}.running_var": 1 + torch.rand(channels, generator=self._random),
            f"{name}.num_batches_tracked": torch.tensor(1),
        }

    def double(self, name: str, inside: int, middle: int, out: int) -> None:
        """Convolution, normalisation, ReLU; twice."""
        self.layer(f"{name}.0", inside, middle, 3)
        self.norm(f"{name}.1", middle)
        self.layer(f"{name}.3", middle, out, 3)
        self.norm(f"{name}.4", out)

    def up(self, name: str, inside: int, out: int) -> None:
        """Upsampling, convolution, normalisation, ReLU."""
        self.layer(f"{name}.1", inside, out, 3)
        self.norm(f"{name}.2", out)

    def block(self, name: str, channels: int, reduction: int = 8) -> None:
        """SSPCAB as anomalib names it."""
        for number in range(1, 5):
            self.layer(f"{name}.masked_conv{number}", channels, channels, 1, 0.5)
        self.layer(f"{name}.attention_module.fc1", channels, channels // reduction)
        self.layer(f"{name}.attention_module.fc2", channels // reduction, channels)

    def reconstructive(self, prefix: str, w: int) -> None:
        """The auto-encoder, with the block in place of ``block5``."""
        encoder, decoder = f"{prefix}encoder.", f"{prefix}decoder."
        for number, (inside, out) in enumerate(((3, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w)), start=1):
            self.double(f"{encoder}block{number}", inside, out, out)
        self.block(f"{encoder}block5", 8 * w)
        for number, (inside, out) in enumerate(((8, 4), (4, 2), (2, 1), (1, 1)), start=1):
            self.up(f"{decoder}up{number}", inside * w, inside * w)
            self.double(f"{decoder}db{number}", inside * w, inside * w, out * w)
        self.layer(f"{decoder}fin_out.0", w, 3, 3)

    def discriminative(self, prefix: str, w: int) -> None:
        """The U-Net."""
        encoder, decoder = f"{prefix}encoder_segment.", f"{prefix}decoder_segment."
        widths = (6, w, 2 * w, 4 * w, 8 * w, 8 * w, 8 * w)
        for number in range(1, 7):
            self.double(f"{encoder}block{number}", widths[number - 1], widths[number], widths[number])
        self.up(f"{decoder}up_b", 8 * w, 8 * w)
        self.double(f"{decoder}db_b", 16 * w, 8 * w, 8 * w)
        for number, (inside, out) in enumerate(((8, 4), (4, 2), (2, 1), (1, 1)), start=1):
            skip = (8, 4, 2, 1)[number - 1]
            self.up(f"{decoder}up{number}", inside * w, out * w)
            self.double(f"{decoder}db{number}", (out + skip) * w, out * w, out * w)
        self.layer(f"{decoder}fin_out.0", w, 2, 3, LOGIT_SCALE)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Write a checkpoint of full width with random weights.")
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    weights = Weights()
    weights.reconstructive("model.reconstructive_subnetwork.", 128)
    weights.discriminative("model.discriminative_subnetwork.", 64)
    torch.save({"state_dict": weights.tensors, "hyper_parameters": {"enable_sspcab": True}}, arguments.output)
    parameters = sum(
        tensor.numel() for name, tensor in weights.tensors.items() if name.endswith(("weight", "bias"))
    )
    print(f"{arguments.output}: {parameters / 1e6:.1f} million parameters")


if __name__ == "__main__":
    main()
