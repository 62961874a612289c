"""The SSPCAB block as plain facts: dialects, geometry and the spec that a manifest carries.

SSPCAB (Ristea et al., CVPR 2022, arXiv 2111.09099) predicts a masked centre from the four corners of
its receptive field: four ``k x k`` convolutions, each seeing one corner of the padded input, are summed,
then reweighted per channel by squeeze-and-excitation. Public implementations share the tensor shapes
and differ in what they compute; :data:`DIALECTS` tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from sspcab_edge.errors import OptionError

__all__ = ["DIALECTS", "BlockForm", "BlockSpec", "Corner", "Dialect", "Geometry", "dialect_named"]

Corner = Literal["top-left", "bottom-left", "top-right", "bottom-right"]
BlockForm = Literal["reference", "folded", "custom-op"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one family of implementations computes the block.

    Attributes:
        name: The word used in options, manifest and reports.
        padding: What surrounds the input before the corners are cut out.
        relu: Where the masked convolution has its ReLU.
        corners: The corner that convolution 1, 2, 3 and 4 of the checkpoint looks at.
        attention: What reweights the channels: the transformer makes it SSMCTB, the block's successor (Madan
            et al., TPAMI 2024, arXiv 2209.12148).
    """

    name: str
    padding: Literal["zeros", "reflect"]
    relu: Literal["after-sum", "per-branch", "none"]
    corners: tuple[Corner, Corner, Corner, Corner]
    attention: Literal["squeeze-excitation", "channel-transformer"] = "squeeze-excitation"


DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        Dialect("official", "zeros", "after-sum", ("top-left", "bottom-left", "top-right", "bottom-right")),
        Dialect("anomalib", "zeros", "none", ("top-left", "top-right", "bottom-left", "bottom-right")),
        Dialect(
            "tensorflow", "reflect", "per-branch", ("top-left", "bottom-left", "top-right", "bottom-right")
        ),
        Dialect(
            "ssmctb",
            "zeros",
            "after-sum",
            ("top-left", "bottom-left", "top-right", "bottom-right"),
            "channel-transformer",
        ),
    )
}


def dialect_named(name: str) -> Dialect:
    """The dialect of that name.

    Raises:
        OptionError: No dialect has this name.
    """
    try:
        return DIALECTS[name]
    except KeyError:
        known = ", ".join(sorted(DIALECTS))
        raise OptionError(f"unknown dialect {name!r}: expected one of {known}") from None


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes that follow from sub-kernel ``k`` and dilation ``d``, in pixels.

    Raises:
        OptionError: ``kernel < 1`` or ``dilation < 0``.
    """

    kernel: int
    dilation: int

    def __post_init__(self) -> None:
        if self.kernel < 1:
            raise OptionError(f"sub-kernel k is {self.kernel}, expected 1 or more")
        if self.dilation < 0:
            raise OptionError(f"dilation d is {self.dilation}, expected 0 or more")

    @property
    def pad(self) -> int:
        """Pixels added on each side: k + d."""
        return self.kernel + self.dilation

    @property
    def border(self) -> int:
        """Pixels cut from the far side of each corner's window: k + 2d + 1."""
        return self.kernel + 2 * self.dilation + 1

    @property
    def receptive_field(self) -> int:
        """Side of the square that one output pixel depends on: 2k + 2d + 1."""
        return 2 * self.kernel + 2 * self.dilation + 1

    def offset(self, corner: Corner) -> tuple[int, int]:
        """(row, column) at which the window of ``corner`` starts in the padded input."""
        vertical, horizontal = corner.split("-")
        return (self.border if vertical == "bottom" else 0, self.border if horizontal == "right" else 0)


class BlockSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One block of a network, as manifests and reports carry it.

    ``path`` is the dotted module path in the checkpoint; ``form`` is ``folded`` when the artifact holds the
    block as its exactly equivalent fast graph, ``custom-op`` when that graph is the body of one node of its
    own, ``reference`` when its branches were kept. ``reduction`` is 0 where the attention has none (SSMCTB).
    """

    path: str
    dialect: str
    kernel: int
    dilation: int
    reduction: int
    channels: int
    form: BlockForm = "reference"

    @property
    def geometry(self) -> Geometry:
        """The sizes that follow from ``kernel`` and ``dilation``."""
        return Geometry(self.kernel, self.dilation)
