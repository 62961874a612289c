"""The forms of a graph that artifacts are made of: which target takes which, and their files' names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sspcab_edge.errors import OptionError
from sspcab_edge.manifest import Precision, Target

__all__ = ["BACKENDS", "TARGETS", "Variant", "check_choice", "variant_for"]

TARGETS: dict[Target, str] = {
    "onnx": "sspcab_export.to_onnx",
    "openvino": "sspcab_export.to_openvino",
    "tensorrt": "sspcab_export.to_tensorrt",
}
"""Target -> module with ``export_files(graph, folder, precision)``."""

BACKENDS: dict[Target, str] = {"onnx": "onnxruntime", "openvino": "openvino", "tensorrt": "onnxruntime"}
"""Target -> the backend whose verdicts the gate judges. A TensorRT plan exists on its device only: its typed
graph is judged on ONNX Runtime, and the plan replays the parity pack where it is built."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One form of the graph.

    Attributes:
        precision: What it computes in.
        flavour: Which integers int8 activations are; None elsewhere.
    """

    precision: Precision
    flavour: Literal["unsigned", "signed"] | None = None

    @property
    def name(self) -> str:
        """In one word, as in ``int8-signed``."""
        return self.precision if self.flavour is None else f"{self.precision}-{self.flavour}"

    @property
    def file(self) -> str:
        """Its ONNX file in a bundle."""
        middle = ".tensorrt" if self.flavour == "signed" else ""
        return f"model.{self.precision}{middle}.onnx"


def variant_for(target: Target, precision: Precision) -> Variant:
    """The form that ``target`` takes at ``precision``."""
    if precision != "int8":
        return Variant(precision)
    return Variant(precision, "signed" if target == "tensorrt" else "unsigned")


def check_choice(what: str, chosen: Sequence[str], known: Sequence[str]) -> None:
    """Refuse nothing, something unknown, or something twice.

    Raises:
        OptionError: As said.
    """
    if not chosen:
        raise OptionError(f"no {what} given, expected one or more of {', '.join(known)}")
    for one in chosen:
        if one not in known:
            raise OptionError(f"unknown {what} {one!r}: expected one of {', '.join(known)}")
    if len(set(chosen)) != len(chosen):
        raise OptionError(f"a {what} is given twice: {', '.join(chosen)}")
