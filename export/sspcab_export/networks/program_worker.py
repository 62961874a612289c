"""The child process of :mod:`sspcab_export.networks.program`: loads a program and answers for it.

Run as a module. It is told through standard input and answers through standard output; whatever the program
itself prints goes to standard error.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import onnx_ir as ir
import torch
from torch import nn

from sspcab_edge.errors import EdgeError, HostError
from sspcab_export.graph import graph_from_program, graph_from_script
from sspcab_export.networks.exactly import run_otherwise
from sspcab_export.networks.onnx_file import THREE_DIMENSIONS
from sspcab_export.networks.outputs import NamedOutputs, as_arrays, drop_wrapper, named_outputs
from sspcab_export.networks.pickled_module import unpickled
from sspcab_export.networks.wire import Ended, Message, receive, send

__all__ = ["main"]

_VOLUMES = ("aten.conv3d", "aten.conv_transpose3d")
_VOLUME_LAYERS = ("Conv3d", "ConvTranspose3d")

_TRAINING_FLAGS = {
    "aten.batch_norm.default": (3, 5), "aten.dropout.default": (0, 2), "aten.instance_norm.default": (3, 5),
}  # fmt: skip
"""Operators that behave otherwise in training: an argument that is there then, and the one that says so. A
norm without running statistics has no such argument: it looks at the picture in evaluation, too."""


class _Program(Protocol):
    def facts(self) -> Mapping[str, int | None]: ...

    def run(self, picture: torch.Tensor) -> dict[str, torch.Tensor]: ...

    def graph(self, size: tuple[int, ...], batch: int | None) -> ir.Model: ...


class _Exported:
    """What ``torch.export.save`` wrote."""

    def __init__(self, data: bytes) -> None:
        self.program = torch.export.load(io.BytesIO(data))
        signature = self.program.graph_signature
        if len(signature.user_inputs) != 1:
            raise HostError(f"the program takes {len(signature.user_inputs)} inputs, expected one picture")
        if signature.buffers_to_mutate or any(map(_trains, self.program.graph.nodes)):
            raise HostError(
                "the program was exported in training mode: call model.eval() before torch.export"
            )
        if any(str(node.target).startswith(_VOLUMES) for node in self.program.graph.nodes):
            raise HostError(THREE_DIMENSIONS.format(where="the program"))
        self.module = self.program.module()

    def facts(self) -> Mapping[str, int | None]:
        """Sizes of its picture, where they are fixed."""
        (name,) = self.program.graph_signature.user_inputs
        (node,) = (node for node in self.program.graph.nodes if node.name == name)
        shape = node.meta["val"].shape
        if len(shape) != 4:
            raise HostError(f"the program takes {tuple(map(str, shape))}, expected pictures (N, C, H, W)")
        sizes = [size if isinstance(size, int) else None for size in shape]
        return dict(zip(("batch", "channels", "height", "width"), sizes, strict=True))

    def run(self, picture: torch.Tensor) -> dict[str, torch.Tensor]:
        return named_outputs(self.module(picture))

    def graph(self, size: tuple[int, ...], batch: int | None) -> ir.Model:
        names = tuple(self.run(torch.zeros((batch or 2, *size))))
        return graph_from_program(self.program, "picture", names)


def _trains(node: torch.fx.Node) -> bool:
    """Whether a node of an exported program does what only training does."""
    there, flag = _TRAINING_FLAGS.get(str(node.target), (0, len(node.args)))
    return len(node.args) > flag and node.args[there] is not None and node.args[flag] is True


class _Scripted:
    """What ``torch.jit.save`` wrote."""

    def __init__(self, data: bytes) -> None:
        self.module: nn.Module = torch.jit.load(io.BytesIO(data), map_location="cpu").eval()  # type: ignore[no-untyped-call]
        if any(getattr(part, "original_name", "") in _VOLUME_LAYERS for part in self.module.modules()):
            raise HostError(THREE_DIMENSIONS.format(where="the program"))

    def facts(self) -> Mapping[str, int | None]:
        return {}

    def run(self, picture: torch.Tensor) -> dict[str, torch.Tensor]:
        return named_outputs(self.module(picture))

    def graph(self, size: tuple[int, ...], batch: int | None) -> ir.Model:
        example = torch.zeros((batch or 2, *size))
        names = tuple(self.run(example))
        model = graph_from_script(NamedOutputs(self.module), example, "picture", names, batch=batch)
        drop_wrapper(model)
        return model


class _Pickled:
    """What ``torch.save`` wrote of a whole module."""

    def __init__(self, data: bytes, place: str) -> None:
        self.network = unpickled(data, place)

    def facts(self) -> Mapping[str, int | None]:
        return {}

    def run(self, picture: torch.Tensor) -> dict[str, torch.Tensor]:
        return named_outputs(self.network.module(picture))

    def graph(self, size: tuple[int, ...], batch: int | None) -> ir.Model:
        return self.network.graph(size, batch)


_KINDS: Mapping[str, Callable[[bytes], _Program]] = {"pt2": _Exported, "torchscript": _Scripted}


def main() -> None:
    """Answer until standard input ends."""
    told, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    program: _Program | None = None
    while True:
        try:
            message = receive(told)
        except Ended:
            return
        try:
            with torch.inference_mode(message.head["do"] == "run"):
                program, answer = _answer(program, message)
        except EdgeError as error:
            answer = Message({"error": str(error)})
        except Exception as error:  # noqa: BLE001  the program may raise anything; the parent is told what
            answer = Message({"error": _said(error)})
        send(answers, answer)


def _answer(program: _Program | None, message: Message) -> tuple[_Program | None, Message]:
    head = message.head
    if head["do"] == "load":
        place = head["place"]
        loaded: _Program = (
            _KINDS[head["kind"]](message.blob) if place is None else _Pickled(message.blob, place)
        )
        return loaded, Message(dict(loaded.facts()))
    assert program is not None
    if head["do"] == "run":
        outputs = program.run(torch.from_numpy(message.arrays["picture"].copy()))
        return program, Message({}, as_arrays(outputs))
    if head["do"] == "run otherwise":
        picture = torch.from_numpy(message.arrays["picture"].copy())
        outputs, rounding = run_otherwise(partial(program.run, picture))
        return program, Message({"rounding": rounding}, as_arrays(outputs))
    model = program.graph(tuple(head["size"]), head["batch"])
    return program, Message({}, blob=ir.serde.serialize_model(model).SerializeToString())


def _said(error: BaseException) -> str:
    lines: list[Any] = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


if __name__ == "__main__":
    main()
