"""Running a torch network with other rounding than its own: in float64, or in another order of summation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from sspcab_edge.manifest import OtherRounding

__all__ = ["InFloat64", "NoFloat64", "other_order", "run_otherwise"]

_Given = TypeVar("_Given")

_CHECKS = ("_assert_tensor_metadata",)
"""Operators that only check that a tensor is as it was when a program was exported."""

_TRAINING = ("training", "train", "use_input_stats")
"""Arguments of norms that say whether running statistics are written."""


class NoFloat64(Exception):
    """The network writes float32 values in place, where float64 cannot take their place."""


class InFloat64(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hook untyped
    """While it is entered, whatever torch computes of float32 tensors it computes in float64.

    Weights are taken as they are, and casts to float32 inside the network become casts to float64. The
    network itself is not changed.
    """

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Widen the operator's tensors and types, and run it."""
        del types
        if func.overloadpacket.__name__ in _CHECKS:
            return None
        given = (tuple(args), dict(kwargs or {}))
        if any(map(_is_float32, _written(func, *given))):
            raise NoFloat64(f"{func} writes a float32 tensor in place")
        wide_args, wide_kwargs = tree_map(_wide, given)
        return func(*wide_args, **wide_kwargs)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
    """The arguments that an operator writes to; running statistics of norms in training, whose schemas do not
    say so, among them."""
    named = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
    yield from (named.get(argument.name) for argument in func._schema.arguments if argument.is_write)
    if any(named.get(flag) is True for flag in _TRAINING):
        yield from (named.get(name) for name in ("running_mean", "running_var"))


def _is_float32(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def _wide(value: Any) -> Any:
    if _is_float32(value):
        return value.to(torch.float64)
    return torch.float64 if value is torch.float32 else value


@contextlib.contextmanager
def other_order() -> Iterator[None]:
    """While it is entered, torch sums up in another order: without oneDNN, in one thread."""
    threads, enabled = torch.get_num_threads(), torch._C._get_mkldnn_enabled()
    torch.set_num_threads(1)
    torch._C._set_mkldnn_enabled(False)  # mkldnn.flags() sets TF32 too, and warns of it
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(enabled)
        torch.set_num_threads(threads)


def run_otherwise(call: Callable[[], _Given]) -> tuple[_Given, OtherRounding]:
    """What a call of a torch network gives with other rounding: in float64, or where the network's code
    insists on float32 in another order of summation.

    Raises:
        Exception: Whatever the network raises in another order, too.
    """
    with torch.inference_mode():
        try:
            with InFloat64():  # type: ignore[no-untyped-call]  # likewise
                return call(), "float64"
        except Exception:  # noqa: BLE001  the network's code may raise anything; the other order tells
            with other_order():
                return call(), "other-order"
