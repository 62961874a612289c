# mypy: disable-error-code="no-untyped-call,no-any-return,union-attr,index,operator,arg-type"
# mypy: disable-error-code="attr-defined,call-overload,assignment"
"""The Background-Agnostic framework in plain torch, from its description and ``docs/checkpoints.md``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as f

from definitions.ssmctb_plain import PlainBlock, block_forward


def stream(
    channels: int, widths: tuple[int, int, int], kind: str | None, *, skip: bool, classifier: int = 8
) -> nn.ModuleDict:
    """Weights of one auto-encoder and its classifier; ``kind`` of block, or a convolution in its place."""
    a, b, c = widths

    def conv(before: int, after: int) -> nn.Module:
        return nn.Conv2d(before, after, 3, padding=1)

    more = (c, b, a) if skip else (0, 0, 0)
    third = a + more[2] if kind else a
    block = PlainBlock(third, kind) if kind else conv(a + more[2], a)
    decoder = [conv(c + more[0], c), conv(c + more[1], a), block, conv(third, channels)]
    judges = [conv(channels, classifier), conv(classifier, classifier), conv(classifier, classifier)]
    layers = {str(n): layer for n, layer in enumerate([*judges, conv(classifier + c, classifier)])}
    return nn.ModuleDict(
        {
            "encoder": nn.ModuleList([conv(channels, a), conv(a, b), conv(b, c)]),
            "decoder": nn.ModuleList(decoder),
            "classifier": nn.ModuleDict({**layers, "head": nn.Linear(classifier, 1)}),
        }
    )


def normality(parts: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
    """(N,): the chance that each object is normal, as one stream sees it."""
    maps: list[torch.Tensor] = []
    code = x
    for layer in parts["encoder"]:
        maps.append(f.relu(layer(code)))
        code = f.max_pool2d(maps[-1], 2)
    y = code
    for number, layer in enumerate(list(parts["decoder"])[:3]):
        y = y.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        block = isinstance(layer, PlainBlock)
        into = (
            layer.get_submodule("conv1" if layer.kind != "tensorflow" else "corner1") if block else layer
        ).weight
        if into.shape[1] > y.shape[1]:
            y = torch.cat([y, maps[2 - number]], dim=1)
        y = block_forward(layer, y) if block else f.relu(layer(y))
    error = torch.abs(x - parts["decoder"][3](y))
    judges = parts["classifier"]
    for number in range(3):
        error = f.max_pool2d(f.relu(judges[str(number)](error)), 2)
    last = f.relu(judges["3"](torch.cat([error, code], dim=1)))
    return torch.sigmoid(judges["head"](last.mean(dim=3).mean(dim=2)))[:, 0]


class PlainFramework(nn.Module):
    """Three streams."""

    def __init__(
        self, widths: tuple[int, int, int] = (32, 32, 16), kind: str | None = "official", *,
        skip: bool = False, colours: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.appearance = stream(colours, widths, kind, skip=skip)
        self.backward_ = stream(2, widths, kind, skip=skip)
        self.forward_ = stream(2, widths, kind, skip=skip)

    def weights(self) -> dict[str, torch.Tensor]:
        """Under the names of checkpoints."""
        return {
            key.replace("backward_.", "backward.").replace("forward_.", "forward."): value
            for key, value in self.state_dict().items()
        }

    def scores(
        self, appearance: npt.NDArray[np.uint8], flow: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float64]:
        """(N, 1, 64, 64, 3) RGB and (N, 2, 64, 64, 2) -> one minus the mean normality."""
        picture = torch.from_numpy(appearance[:, 0].astype(np.float32)).permute(0, 3, 1, 2) / 255
        if self.appearance["encoder"][0].weight.shape[1] == 1:
            red, green, blue = picture.split(1, dim=1)
            picture = 0.299 * red + 0.587 * green + 0.114 * blue
        moves = torch.from_numpy(flow).permute(0, 1, 4, 2, 3)
        with torch.no_grad():
            normal = [
                normality(self.appearance, picture),
                normality(self.backward_, moves[:, 0]),
                normality(self.forward_, moves[:, 1]),
            ]
        return 1 - torch.stack(normal).mean(0).double().numpy()
