"""One lower form of a float32 graph: made again and again with other layers kept in float."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import onnx_ir as ir

from sspcab_edge.manifest import Precision
from sspcab_export.precision.activations import Activations
from sspcab_export.precision.half import emulate_half, to_half
from sspcab_export.precision.layers import find_layers
from sspcab_export.precision.quantise import Flavour, quantise

__all__ = ["Lowering"]


@dataclass(frozen=True, slots=True)
class Lowering:
    """How a graph is lowered.

    Attributes:
        graph: In float32.
        activations: Measured on it.
        precision: ``fp16`` or ``int8``.
        flavour: Of int8.
    """

    graph: ir.Model = field(repr=False)
    activations: Activations = field(repr=False)
    precision: Precision
    flavour: Flavour | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that would be lowered if none were kept."""
        _, left = self.make(())
        return tuple(layer.name for layer in find_layers(self.graph) if layer.name not in left)

    def make(self, keep_float: Collection[str]) -> tuple[ir.Model, tuple[str, ...]]:
        """The lower graph, and the names of the layers that are float in it."""
        if self.flavour is None:
            return to_half(self.graph, self.activations, keep_float)
        return quantise(self.graph, self.activations, self.flavour, keep_float)

    def computed(self, keep_float: Collection[str]) -> ir.Model:
        """A graph that gives what :meth:`make`'s gives in true arithmetic, also on ONNX Runtime on a CPU."""
        if self.flavour is None:
            return emulate_half(self.graph, self.activations, keep_float)
        return self.make(keep_float)[0]
